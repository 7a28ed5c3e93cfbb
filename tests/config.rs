//! What a sandbox was asked to be, seen from inside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::fmt::Write as _;
use std::fs;

use common::{PATIENCE, Scratch, config, output, runtime, script, text};
use sbx::{Code, Config, Policy, Runtime, Stream};

/// Runs it to its end, which must be a good one, and returns what it said.
fn run(runtime: &Runtime, config: &Config) -> String {
    let sandbox = runtime.create(config).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!(exit.code, 0, "{}{}", output(&sandbox), text(&sandbox, Stream::Stderr));
    output(&sandbox)
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn environment_directory_and_host_name() {
    let runtime = runtime();
    let mut config = script("pwd; hostname; echo \"[$A]\"; env | grep -c SBX_RUNSC; true");
    config.set_env("A", "one\ntwo = ü \u{1b}").unwrap();
    config.set_workdir("/usr/lib").unwrap().set_hostname("box-1.example").unwrap();
    assert_eq!(run(&runtime, &config), "/usr/lib\nbox-1.example\n[one\ntwo = ü \u{1b}]\n0\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_working_directory_that_is_not_there_is_made() {
    let runtime = runtime();
    let scratch = Scratch::new("workdir");
    fs::create_dir(scratch.path("mounted")).unwrap();
    let mounted = scratch.path("mounted");
    let mut own = script("pwd; stat -c '%u:%g %a' .");
    own.set_workdir("/work/space").unwrap();
    assert_eq!(run(&runtime, &own), "/work/space\n0:0 755\n");
    // In a mount that can be written to, it is the host's user's.
    let mut writable = script("pwd");
    writable.mount_writable(&mounted, "/mounted").unwrap().set_workdir("/mounted/a/b").unwrap();
    assert_eq!(run(&runtime, &writable), "/mounted/a/b\n");
    assert!(fs::metadata(scratch.path("mounted/a/b")).unwrap().is_dir());
    // In one that can't, it is there or it is an error.
    let mut read_only = script("pwd");
    read_only.mount_read_only(&mounted, "/mounted").unwrap().set_workdir("/mounted/a/b").unwrap();
    assert_eq!(run(&runtime, &read_only), "/mounted/a/b\n");
    for command in [&["true"][..], &[]] {
        let mut absent = Config::new();
        if !command.is_empty() {
            absent.set_command(command).unwrap();
        }
        absent.mount_read_only(&mounted, "/mounted").unwrap().set_workdir("/mounted/a/c").unwrap();
        let error = runtime.create(&absent).unwrap_err();
        assert_eq!(error.code(), Code::Exec, "{error}");
        for part in ["\"/mounted/a/c\"", "can't be made", "Read-only file system"] {
            assert!(error.message().contains(part), "{error}");
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn users_by_name_and_by_number() {
    let runtime = runtime();
    let ids = |user: Option<&str>| {
        let mut config = script("echo $(id -u):$(id -g) $(id -G)");
        if let Some(user) = user {
            config.set_user(user).unwrap();
        }
        run(&runtime, &config)
    };
    assert_eq!(ids(None), "0:0 0\n");
    assert_eq!(ids(Some("root")), "0:0 0\n");
    assert_eq!(ids(Some("1234:4321")), "1234:4321 4321\n");
    // A number that has no entry in /etc/passwd, and one that has.
    assert_eq!(ids(Some("1234")), "1234:1234 1234\n");
    assert_eq!(ids(Some("65534")), "65534:65534 65534\n");
    assert_eq!(ids(Some("nobody")), "65534:65534 65534\n");
    let mut unknown = script("true");
    unknown.set_user("no-such-user").unwrap();
    let error = runtime.create(&unknown).unwrap_err();
    assert_eq!(error.code(), Code::Exec);
    assert!(error.message().contains("no-such-user"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn mounts_are_writable_only_if_asked_for() {
    let runtime = runtime();
    let scratch = Scratch::new("mounts");
    let file = scratch.file("file", "before\n");
    fs::create_dir(scratch.path("directory")).unwrap();
    let directory = scratch.path("directory");
    let look = "cat /in/file; (echo no > /in/file) 2>/dev/null && echo WROTE; \
                (echo no > /ro/new) 2>/dev/null && echo WROTE; \
                echo after > /out/file; echo new > /rw/new; ls /rw";
    let mut config = script(look);
    config.mount_read_only(&file, "/in/file").unwrap().mount_read_only(&directory, "/ro").unwrap();
    let other = scratch.file("other", "");
    config.mount_writable(&other, "/out/file").unwrap().mount_writable(&directory, "/rw").unwrap();
    assert_eq!(run(&runtime, &config), "before\nnew\n");
    assert_eq!(fs::read_to_string(&file).unwrap(), "before\n");
    assert_eq!(fs::read_to_string(&other).unwrap(), "after\n");
    assert_eq!(fs::read_to_string(scratch.path("directory/new")).unwrap(), "new\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_mount_among_the_hosts_programs() {
    let runtime = runtime();
    let scratch = Scratch::new("below");
    fs::create_dir(scratch.path("tools")).unwrap();
    let file = scratch.file("tools/hello", "hi\n");
    // On what is there it works, seen through a link too.
    let mut covered = script("cat /usr/share/hello /usr/bin/env; ls /usr/bin/sh");
    covered.mount_read_only(&scratch.path("tools"), "/usr/share").unwrap();
    covered.mount_read_only(&file, "/usr/bin/env").unwrap();
    assert_eq!(run(&runtime, &covered), "hi\nhi\n/usr/bin/sh\n");
    // One in another.
    let mut nested = script("cat /usr/share/hello; ls /usr/share/in");
    fs::create_dir(scratch.path("tools/in")).unwrap();
    nested.mount_read_only(&scratch.path("tools"), "/usr/share").unwrap();
    nested.mount_read_only(&scratch.path("tools"), "/usr/share/in").unwrap();
    assert_eq!(run(&runtime, &nested), "hi\nhello\nin\n");
    // Nothing new can be made in what is the host's and read-only.
    for place in ["/usr/share/sbx-test", "/bin/sbx-test/deeper", "/usr/bin/env"] {
        let mut config = config(&["true"]);
        config.mount_read_only(&scratch.path("tools"), place).unwrap();
        let error = runtime.create(&config).unwrap_err();
        assert_eq!(error.code(), Code::Invalid, "{error}");
        assert!(error.message().contains(place) && error.message().contains("read-only"), "{error}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_mount_that_is_not_there() {
    let runtime = runtime();
    let mut config = config(&["true"]);
    config.mount_read_only("/no/such/directory", "/data").unwrap();
    let error = runtime.create(&config).unwrap_err();
    assert_eq!(error.code(), Code::Invalid);
    assert!(error.message().contains("/no/such/directory") && error.message().contains("/data"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn huge_arguments_and_environments_arrive_whole() {
    let runtime = runtime();
    // All that is allowed: 2 MiB, each text with 9 bytes more.
    let fixed = ["sh", "-c", "echo $# ${#1} ${#A} ${#B}; printf '%s\\n' \"$2\" | od -An -tx1 | head -1", "x"];
    let mut odd = String::from("-rf\t\u{7f}\u{1b}é");
    let long = "v".repeat(131_071);
    let fill: Vec<&str> = vec![&long; 11];
    let mut config = config(&[&fixed[..], &[&long, &odd], &fill].concat());
    let names = fixed.iter().map(|one| one.len() + 9).sum::<usize>() + odd.len() + 9 + 12 * (long.len() + 9);
    config
        .set_env("A", &long[4..])
        .unwrap()
        .set_env("B", &long[4..])
        .unwrap()
        .set_env("C", &long[4..])
        .unwrap();
    let rest = (2 << 20) - names - 3 * (long.len() - 4 + 2 + 9) - 2 - 9;
    config.set_env("D", &"d".repeat(rest + 1)).unwrap();
    assert!(config.check().unwrap_err().message().contains("2097152"));
    config.set_env("D", &"d".repeat(rest)).unwrap();
    let expected = format!("13 {} 131067 131067", long.len());
    let said = run(&runtime, &config);
    assert_eq!(said.lines().next(), Some(&*expected));
    odd.push('\n');
    let bytes = odd.bytes().fold(String::new(), |mut text, byte| {
        write!(text, " {byte:02x}").unwrap();
        text
    });
    assert_eq!(said.lines().nth(1), Some(&*bytes));
    let many: Vec<String> = (0..16_000).map(|number| (number % 10).to_string()).collect();
    let count = ["sh", "-c", "echo $#", "x"].into_iter().chain(many.iter().map(String::as_str));
    assert_eq!(run(&runtime, &self::config(&count.collect::<Vec<_>>())), "16000\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn nothing_leaves() {
    let runtime = runtime();
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let tries = format!(
        r#"
import socket, time
own = {own:?}
targets = [("1.1.1.1", 443), ("169.254.169.254", 80), ("192.0.0.1", 22), ("192.0.0.1", {port}), ("10.0.0.1", 80)]
targets += [(a, {port}) for a in own + ["127.0.0.1"]]
for target in targets:
    begin = time.monotonic()
    s = socket.socket()
    s.settimeout(20)
    try:
        s.connect(target)
        print("REACHED", target)
    except TimeoutError:
        print("SLOW", target)
    except OSError as error:
        pass
    u = socket.socket(type=socket.SOCK_DGRAM)
    try:
        u.sendto(b"x", target)
    except OSError:
        pass
for name in ["example.com", "localhost.example"]:
    try:
        print("RESOLVED", socket.getaddrinfo(name, 80))
    except OSError as error:
        pass
s = socket.socket(socket.AF_INET6)
s.settimeout(20)
try:
    s.connect(("2606:4700:4700::1111", 443))
    print("REACHED v6")
except TimeoutError:
    print("SLOW v6")
except OSError:
    pass
print("done")
"#,
        own = own_addresses(),
    );
    let mut closed = config(&["python3", "-c", &tries]);
    closed.set_policy(&Policy::allowlist()).unwrap();
    let mut blocked = closed.clone();
    blocked.set_policy(&Policy::blocked()).unwrap();
    for config in [closed, blocked] {
        assert_eq!(run(&runtime, &config), "done\n");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

fn own_addresses() -> Vec<String> {
    let all = nix::ifaddrs::getifaddrs().unwrap().filter_map(|one| one.address);
    let four = all.filter_map(|address| address.as_sockaddr_in().map(|four| four.ip().to_string()));
    four.filter(|address| !address.starts_with("127.")).collect()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn blocked_is_no_network_at_all() {
    let runtime = runtime();
    let mut config = script("cat /proc/net/dev | grep -c eth0; true");
    config.set_policy(&Policy::blocked()).unwrap();
    assert_eq!(run(&runtime, &config), "0\n");
    let networked = script("cat /proc/net/dev | grep -c eth0");
    assert_eq!(run(&runtime, &networked), "1\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_without_a_network_has_no_ports_to_connect_to() {
    let runtime = runtime();
    let mut config = sbx::Config::new();
    config.set_policy(&Policy::blocked()).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let error = sandbox.connect(80).unwrap_err();
    assert_eq!(error.code(), sbx::Code::Unsupported, "{error}");
    // Its policy can be asked for, and not changed.
    assert_eq!(sandbox.policy().unwrap(), (Policy::blocked(), 0));
    let error = sandbox.set_policy(&Policy::open()).unwrap_err();
    assert_eq!(error.code(), sbx::Code::Unsupported, "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn process_1_and_capabilities_are_the_documented_ones() {
    let runtime = runtime();
    let said = run(
        &runtime,
        &script("cat /proc/1/comm; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status"),
    );
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].contains("init"), "{said}");
    // Docker's default less NET_RAW (13), MKNOD (27), AUDIT_WRITE (29).
    let docker = [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31].iter().fold(0_u64, |all, bit| all | 1 << bit);
    let seen = u64::from_str_radix(lines[1].split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(seen, docker, "{seen:x} {docker:x}");
}
