//! The warm pool: that a sandbox which takes a member is what it would be without, and what becomes of members.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;
#[path = "common/image.rs"]
#[allow(unreachable_pub, dead_code, reason = "a module of this test")]
mod image;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio as Std};
use std::time::{Duration, Instant};

use common::{
    PATIENCE, Scratch, alone, children_of, client, config, eventually, output, runtime, script, servers, text,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sbx::{
    Code, Config, EgressLimits, Event, Exec, ExitReason, LimitMode, Policy, PortKind, Probe, Queue, Runtime,
    Sandbox, State, Stdio, Stream, TunnelRate, WarmStats,
};

/// Waits until a runtime's members are ready.
fn filled(runtime: &Runtime, count: u32) {
    eventually("the members are made", || {
        let stats = runtime.warm_stats(None);
        assert_eq!(stats.failures, 0, "{stats:?}");
        (stats.ready, stats.filling) == (count, 0)
    });
}

/// A runtime with that many members for configurations like this.
fn warm(template: &Config, count: u32) -> Runtime {
    let runtime = runtime();
    runtime.keep_warm(template, count).unwrap();
    filled(&runtime, count);
    runtime
}

/// What a sandbox has said at its end.
fn said(sandbox: &Sandbox) -> String {
    let exit = sandbox.wait(PATIENCE).unwrap();
    format!("{:?} {} {}{}", exit.reason, exit.code, output(sandbox), text(sandbox, Stream::Stderr))
}

/// What is seen of a configuration in a runtime.
type Look = Box<dyn Fn(&Runtime, &Config) -> String>;
/// What makes a configuration another.
type Change<'a> = &'a dyn Fn(&mut Config);

/// A setting that is applied when a member is taken, and what is seen of it.
struct Control {
    name: &'static str,
    config: Config,
    look: Look,
    expected: &'static str,
}

fn control(
    name: &'static str,
    mut config: Config,
    set: impl FnOnce(&mut Config),
    look: impl Fn(&Runtime, &Config) -> String + 'static,
    expected: &'static str,
) -> Control {
    set(&mut config);
    Control { name, config, look: Box::new(look), expected }
}

fn run(runtime: &Runtime, config: &Config) -> String {
    said(&runtime.create(config).unwrap())
}

/// What an echo server in it answers, by the stream that is made.
fn answered(runtime: &Runtime, config: &Config, name: Option<&str>) -> String {
    let sandbox = runtime.create(config).unwrap();
    sandbox.wait_ready(PATIENCE).unwrap();
    let map = sandbox.tunnels(PATIENCE).unwrap();
    let answer = match name {
        Some(name) => client::tls_as(&map, 7000, name, &[]).and_then(|mut stream| client::echo(&mut stream)),
        None => client::echo(&mut client::tcp(map.get(7000).unwrap())),
    };
    answer.unwrap_or_else(|_| "nothing".to_owned())
}

/// A program that connects to an address and says how that went.
fn connects(address: &str, port: u16) -> Config {
    let program = format!(
        "import socket\ntry: s = socket.create_connection(('{address}', {port}), 5); print(s.recv(9).decode())\n\
         except OSError as e: print(e.strerror)"
    );
    config(&["python3", "-c", &program])
}

fn with_port(kind: PortKind) -> Config {
    let mut config = servers(&["echo 7000"]);
    config.add_port(7000, kind).unwrap();
    config
}

/// The names of the settings are those of `Config::late_settings`.
fn controls() -> Vec<Control> {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let asks_names = config(&[
        "python3",
        "-c",
        "import socket\ntry: socket.getaddrinfo('a.example', 80)\nexcept OSError: pass",
    ]);
    vec![
        control("command", script("echo hello; exit 3"), |_| (), run, "Exited 3 hello\n"),
        control(
            "entrypoint",
            config(&["echo entered"]),
            |config| drop(config.set_entrypoint(["sh", "-c"])),
            run,
            "Exited 0 entered\n",
        ),
        control(
            "has_no_command",
            Config::new(),
            |config| drop(config.set_no_command()),
            |runtime, config| {
                let sandbox = runtime.create(config).unwrap();
                let mut exec = Exec::new();
                exec.set_command(["sh", "-c", "exit 4"]).unwrap();
                let code = sandbox.exec(&exec).unwrap().wait(PATIENCE).unwrap().code;
                format!("{:?} {code}", sandbox.state())
            },
            "Running 4",
        ),
        control(
            "env",
            script("echo $A $B; env | grep -cvE '^(A|B|PWD|SHLVL|_|PATH|HOME|TERM|OLDPWD)='"),
            |config| drop(config.set_env("A", "one").unwrap().set_secret("B", "two")),
            run,
            "Exited 1 one two\n0\n",
        ),
        control(
            "workdir",
            script("pwd"),
            |config| drop(config.set_workdir("/work/space")),
            run,
            "Exited 0 /work/space\n",
        ),
        control(
            "user",
            script("id -u; id -g; id -G"),
            |config| drop(config.set_user("1234:5678")),
            run,
            "Exited 0 1234\n5678\n5678\n",
        ),
        control(
            "name",
            Config::new(),
            |config| drop(config.set_name("mine")),
            |runtime, config| {
                let sandbox = runtime.create(config).unwrap();
                let taken = runtime.create(config).map(drop).unwrap_err().code();
                format!(
                    "{:?} {} {taken:?}",
                    sandbox.name(),
                    runtime.find("mine").unwrap().id() == sandbox.id()
                )
            },
            "Some(\"mine\") true Exists",
        ),
        control(
            "tags",
            Config::new(),
            |config| drop(config.set_tag("kind", "test")),
            |runtime, config| format!("{:?}", runtime.create(config).unwrap().tags()),
            "{\"kind\": \"test\"}",
        ),
        control(
            "timeout",
            script("sleep 1000"),
            |config| drop(config.set_timeout(Duration::from_millis(300))),
            run,
            "TimedOut 124 ",
        ),
        control(
            "idle_timeout",
            script("sleep 1000"),
            |config| drop(config.set_idle_timeout(Duration::from_millis(300))),
            run,
            "Idle 124 ",
        ),
        control(
            "ports",
            with_port(PortKind::Unencrypted),
            |_| (),
            |runtime, config| answered(runtime, config, None),
            "hello\n",
        ),
        control(
            "inbound",
            with_port(PortKind::Unencrypted),
            |config| drop(config.set_inbound_cidr_allowlist(["192.0.2.0/24"])),
            |runtime, config| answered(runtime, config, None),
            "nothing",
        ),
        control(
            "certificate",
            with_port(PortKind::Encrypted),
            |config| drop(config.set_tls_certificate(&certificate, &key)),
            |runtime, config| answered(runtime, config, Some("a.example")),
            "hello\n",
        ),
        control(
            "tls_names",
            with_port(PortKind::Encrypted),
            |config| drop(config.add_tls_name("b.example")),
            |runtime, config| answered(runtime, config, Some("b.example")),
            "hello\n",
        ),
        control(
            "tunnel_rate",
            with_port(PortKind::Unencrypted),
            |config| drop(config.set_tunnel_rate(TunnelRate::PerSecond(1))),
            |runtime, config| {
                let sandbox = runtime.create(config).unwrap();
                sandbox.wait_ready(PATIENCE).unwrap();
                let map = sandbox.tunnels(PATIENCE).unwrap();
                let others = runtime.find("neighbour").unwrap().tunnels(PATIENCE).unwrap();
                let began = Instant::now();
                // Those of two seconds come at once, and each further one a second later.
                for _ in 0..6 {
                    for map in [&others, &map] {
                        client::echo(&mut client::tcp(map.get(7000).unwrap())).unwrap();
                    }
                }
                if began.elapsed() > Duration::from_millis(2_500) { "slow" } else { "fast" }.to_owned()
            },
            "slow",
        ),
        control(
            "egress_limits",
            asks_names.clone(),
            |config| drop(config.set_egress_limits(EgressLimits::new().total_bytes(1))),
            |runtime, config| {
                let (queue, mut config) = (Queue::new(64).unwrap(), config.clone());
                config.set_queue(&queue, 1).unwrap();
                let _sandbox = runtime.create(&config).unwrap();
                let is_limit = |event: &Event| matches!(event, Event::Limit { .. });
                eventually("the limit", || {
                    std::iter::from_fn(|| queue.next()).any(|one| is_limit(&one.event))
                });
                "a limit".to_owned()
            },
            "a limit",
        ),
        control(
            "nameservers",
            asks_names,
            |_| (),
            |runtime, config| {
                let server = UdpSocket::bind("127.0.0.1:0").unwrap();
                server.set_read_timeout(PATIENCE).unwrap();
                let mut config = config.clone();
                config.add_nameserver(&server.local_addr().unwrap().to_string()).unwrap();
                let _sandbox = runtime.create(&config).unwrap();
                let mut question = [0; 512];
                let length = server.recv(&mut question).unwrap();
                format!(
                    "{}",
                    question[..length].windows(8).any(|part| part.eq_ignore_ascii_case(b"\x07example"))
                )
            },
            "true",
        ),
        control(
            "stdin",
            config(&["cat"]),
            |config| drop(config.set_stdio(Stream::Stdin, Stdio::Descriptor)),
            |runtime, config| {
                let sandbox = runtime.create(config).unwrap();
                let stream = sandbox.open_stream(Stream::Stdin).unwrap();
                fs::File::from(stream).write_all(b"written").unwrap();
                said(&sandbox)
            },
            "Exited 0 written",
        ),
        control("stdout", script("echo out; echo err >&2"), |_| (), run, "Exited 0 out\nerr\n"),
        control(
            "stderr",
            script("echo out; echo err >&2"),
            |config| drop(config.set_stdio(Stream::Stdout, Stdio::Null)),
            |runtime, config| {
                let sandbox = runtime.create(config).unwrap();
                sandbox.wait(PATIENCE).unwrap();
                text(&sandbox, Stream::Stderr)
            },
            "err\n",
        ),
        control(
            "probe",
            script("sleep 1000"),
            |config| drop(config.set_readiness_probe(Probe::exec(["test", "-e", "/bin/sh"]))),
            |runtime, config| {
                let sandbox = runtime.create(config).unwrap();
                sandbox.wait_ready(PATIENCE).unwrap();
                format!("{:?}", sandbox.state())
            },
            "Running",
        ),
        control(
            "queue",
            script("exit 5"),
            |_| (),
            |runtime, config| {
                let (queue, mut config) = (Queue::new(64).unwrap(), config.clone());
                config.set_queue(&queue, 77).unwrap();
                runtime.create(&config).unwrap().wait(PATIENCE).unwrap();
                let events: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
                let kinds = events.iter().map(|one| match &one.event {
                    Event::Started => "started ".to_owned(),
                    Event::Exited { code, .. } => format!("exited {code} "),
                    other => format!("{other:?} "),
                });
                let numbers: BTreeSet<u64> = events.iter().map(|one| one.cookie).collect();
                format!("{}{numbers:?}", kinds.collect::<String>())
            },
            "started exited 5 {77}",
        ),
        control(
            "bad",
            Config::new(),
            |config| drop(config.set_workdir("relative")),
            |runtime, config| format!("{:?}", runtime.create(config).map(drop).unwrap_err().code()),
            "Invalid",
        ),
        // Late in a part: whether there is a network at all isn't.
        control(
            "policy",
            connects("203.0.113.7", 80),
            |config| drop(config.set_policy(&ranges())),
            |runtime, config| {
                let (queue, mut config) = (Queue::new(64).unwrap(), config.clone());
                config.set_queue(&queue, 1).unwrap();
                let sandbox = runtime.create(&config).unwrap();
                // It fails unless the rules are what was asked for.
                let is_in_force = sandbox.policy().unwrap().0 == ranges();
                let said = said(&sandbox);
                let denied =
                    std::iter::from_fn(|| queue.next()).any(|one| matches!(one.event, Event::Denied { .. }));
                format!("{is_in_force} {said}{denied}")
            },
            "true Exited 0 Connection refused\ntrue",
        ),
    ]
}

fn ranges() -> Policy {
    let mut policy = Policy::allowlist();
    policy.allow_cidr("198.51.100.0/24").unwrap();
    policy
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_that_takes_a_member_has_every_control_that_one_without_a_pool_has() {
    let (cold, warm, spare) = (runtime(), runtime(), runtime());
    let mut neighbour = with_port(PortKind::Unencrypted);
    neighbour.set_name("neighbour").unwrap().set_timeout(Duration::from_secs(3600)).unwrap();
    spare.set_spares(1).unwrap();
    let neighbours = [&cold, &warm, &spare].map(|runtime| runtime.create(&neighbour).unwrap());
    // The second in a row that is alike.
    run(&spare, &script("true"));
    for neighbour in &neighbours {
        neighbour.wait_ready(PATIENCE).unwrap();
    }
    warm.keep_warm(&Config::new(), 1).unwrap();
    filled(&warm, 1);
    let controls = controls();
    let names: Vec<&str> =
        controls.iter().map(|control| control.name).filter(|name| *name != "policy").collect();
    let settings: BTreeSet<&str> = Config::late_settings().iter().copied().collect();
    assert_eq!(names.iter().copied().collect::<BTreeSet<_>>(), settings, "each late setting is in the table");
    for Control { name, config, look, expected } in controls {
        assert_eq!(look(&cold, &config), expected, "{name}, cold");
        eventually("a member", || warm.warm_stats(None).ready == 1);
        let before = warm.warm_stats(None);
        assert_eq!(look(&warm, &config), expected, "{name}, warm");
        let after = warm.warm_stats(None);
        assert_eq!(after.hits - before.hits, u64::from(name != "bad"), "{name}: {after:?}");
        assert_eq!((after.failures, after.last_miss), (0, None), "{name}");
        eventually("a spare", || spare.spare_stats().ready == 1);
        let before = spare.spare_stats();
        assert_eq!(look(&spare, &config), expected, "{name}, with a spare");
        let after = spare.spare_stats();
        assert_eq!(after.hits - before.hits, u64::from(name != "bad"), "{name}: {after:?}");
        assert_eq!(after.failures, 0, "{name}: {after:?}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn services_of_the_host_are_the_sandboxs_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"served").unwrap());
    let mut template = Config::new();
    template.add_host_service(9, "127.0.0.1:9").unwrap();
    let runtime = warm(&template, 1);
    let mut config = connects("192.0.0.1", 8080);
    config.set_policy(&Policy::allowlist()).unwrap().add_host_service(8080, &here).unwrap();
    assert_eq!(run(&runtime, &config), "Exited 0 served\n");
    server.join().unwrap();
    assert_eq!(runtime.warm_stats(None).hits, 1);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn members_are_in_no_list_and_send_no_events_until_they_are_taken() {
    let queue = Queue::new(64).unwrap();
    let mut template = script("echo never; sleep 1000");
    template.set_name("template").unwrap().set_queue(&queue, 1).unwrap();
    let runtime = warm(&template, 1);
    assert!(runtime.sandboxes().is_empty() && runtime.find("template").is_none());
    assert!(queue.next().is_none());
    // What the template says beyond the fixed settings means nothing.
    assert_eq!(run(&runtime, &script("ls /proc | grep -c '^[0-9]'")), "Exited 0 4\n", "init, sh, ls, grep");
    assert_eq!(runtime.warm_stats(Some(&template)).hits, 1);
    assert!(queue.next().is_none());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_that_fits_no_template_is_created_as_without_a_pool() {
    let runtime = warm(&Config::new(), 1);
    let scratch = Scratch::new("warm-differs");
    let mount = scratch.path("");
    let differences: [(&str, Change<'_>); 5] = [
        ("hostname", &|config| drop(config.set_hostname("other"))),
        ("mtu", &|config| drop(config.set_mtu(1400))),
        ("limits", &|config| drop(config.set_max_processes(100))),
        ("mounts", &|config| drop(config.mount_read_only(&mount, "/mnt"))),
        ("whether there is a network", &|config| drop(config.set_policy(&Policy::blocked()))),
    ];
    for (index, (name, change)) in (1..).zip(differences) {
        let mut config = script("hostname");
        change(&mut config);
        let expected = if name == "hostname" { "Exited 0 other\n" } else { "Exited 0 sandbox\n" };
        assert_eq!(run(&runtime, &config), expected, "{name}");
        let WarmStats { hits, misses_different, last_miss, ready, .. } = runtime.warm_stats(None);
        assert_eq!((hits, misses_different, ready), (0, index, 1), "{name}");
        assert_eq!(last_miss.unwrap(), format!("different from the template: {name}"));
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn every_kind_of_sandbox_can_be_kept_warm() {
    let scratch = Scratch::new("warm-kinds");
    scratch.file("file", "mounted\n");
    let mut tree = image::Tree::new();
    tree.programs(&["sh", "cat", "echo"]);
    for name in ["/proc", "/sys", "/dev", "/tmp", "/.sbx"] {
        tree.directory(name, 0o755, (0, 0));
    }
    let image = tree.write(scratch.path("image"));
    let mount = scratch.path("");
    let kinds: [(Change<'_>, &str); 4] = [
        (&|config| drop(config.set_policy(&Policy::blocked())), ""),
        (&|config| drop(config.set_hostname("own").unwrap().set_max_open_files(100)), ""),
        (&|config| drop(config.mount_read_only(&mount, "/mnt")), "mounted\n"),
        (&|config| drop(config.set_image_file(&image)), ""),
    ];
    let runtime = runtime();
    for (number, (change, expected)) in (1..).zip(kinds) {
        let mut template = Config::new();
        change(&mut template);
        runtime.keep_warm(&template, 1).unwrap();
        filled(&runtime, 1);
        let mut config = script("cat /mnt/file 2>/dev/null; cat /etc/hostname");
        change(&mut config);
        let expected = format!("Exited 0 {expected}{}\n", if number == 2 { "own" } else { "sandbox" });
        assert_eq!(run(&runtime, &config), expected, "{number}");
        assert_eq!(runtime.warm_stats(Some(&template)).hits, 1, "{number}: {:?}", runtime.warm_stats(None));
        runtime.keep_warm(&template, 0).unwrap();
        eventually("nothing is left of it", || runtime.warm_stats(None) == WarmStats::default());
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_member_is_discarded_when_what_it_was_made_from_has_changed() {
    let scratch = Scratch::new("warm-changes");
    let mount = scratch.path("mount");
    fs::create_dir(&mount).unwrap();
    fs::write(scratch.path("mount/file"), "old\n").unwrap();
    let mut template = Config::new();
    template.mount_read_only(&mount, "/mnt").unwrap();
    let runtime = warm(&template, 2);
    let mut config = script("cat /mnt/file");
    config.mount_read_only(&mount, "/mnt").unwrap();
    // What is in the directory is seen as ever; another directory of that name is not what a member has.
    fs::write(scratch.path("mount/file"), "newer\n").unwrap();
    assert_eq!(run(&runtime, &config), "Exited 0 newer\n");
    filled(&runtime, 2);
    fs::rename(&mount, scratch.path("away")).unwrap();
    fs::create_dir(&mount).unwrap();
    fs::write(scratch.path("mount/file"), "another\n").unwrap();
    assert_eq!(run(&runtime, &config), "Exited 0 another\n");
    let stats = runtime.warm_stats(None);
    assert_eq!((stats.hits, stats.misses_changed, stats.discarded), (1, 1, 2), "{stats:?}");
    assert!(stats.last_miss.unwrap().contains("the root file system or a mount"));
    filled(&runtime, 2);
    assert_eq!(run(&runtime, &config), "Exited 0 another\n");
    assert_eq!(runtime.warm_stats(None).hits, 2);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn two_templates_have_members_of_their_own() {
    let mut other = Config::new();
    other.set_hostname("other").unwrap();
    let runtime = warm(&Config::new(), 1);
    runtime.keep_warm(&other, 2).unwrap();
    filled(&runtime, 3);
    let mut config = script("hostname");
    assert_eq!(run(&runtime, &config), "Exited 0 sandbox\n");
    config.set_hostname("other").unwrap();
    assert_eq!(run(&runtime, &config), "Exited 0 other\n");
    filled(&runtime, 3);
    let of = |template: Option<&Config>| {
        let stats = runtime.warm_stats(template);
        (stats.wanted, stats.ready, stats.hits)
    };
    assert_eq!((of(Some(&Config::new())), of(Some(&other)), of(None)), ((1, 1, 1), (2, 2, 1), (3, 3, 2)));
    // Another count takes the place of the first.
    runtime.keep_warm(&other, 1).unwrap();
    eventually("one less", || of(Some(&other)) == (1, 1, 1));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_storm_of_creations_takes_the_members_and_loses_none() {
    let runtime = warm(&Config::new(), 3);
    let sandboxes: Vec<Sandbox> =
        (0..10).map(|number| runtime.create_begin(&script(&format!("echo {number}"))).unwrap()).collect();
    for (number, sandbox) in sandboxes.iter().enumerate() {
        assert_eq!(said(sandbox), format!("Exited 0 {number}\n"));
    }
    let ids: BTreeSet<&str> = sandboxes.iter().map(Sandbox::id).collect();
    let stats = runtime.warm_stats(None);
    assert_eq!((ids.len(), stats.hits, stats.misses_empty), (10, 3, 7), "{stats:?}");
    filled(&runtime, 3);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_bad_template_is_refused() {
    let runtime = runtime();
    let mut template = Config::new();
    template.set_workdir("relative").unwrap_err();
    assert_eq!(runtime.keep_warm(&template, 1).unwrap_err().code(), Code::Invalid);
    assert_eq!(runtime.keep_warm(&Config::new(), 257).unwrap_err().code(), Code::Invalid);
    // What can't be started is known from the read-back, and tried again later.
    let mut absent = Config::new();
    absent.set_rootfs("/nothing/there").unwrap();
    runtime.keep_warm(&absent, 1).unwrap();
    eventually("failures", || runtime.warm_stats(None).failures >= 2);
    let stats = runtime.warm_stats(Some(&absent));
    assert!(stats.last_failure.as_deref().unwrap().contains("/nothing/there"), "{stats:?}");
    let sandbox = runtime.create(&Config::new()).unwrap();
    assert_eq!(sandbox.state(), State::Running);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn limits_are_held_in_a_sandbox_that_took_a_member() {
    let limited = |mut config: Config| {
        config.set_memory(128 << 20).unwrap().set_limit_mode(LimitMode::Watchdog);
        config.set_max_open_files(64).unwrap().set_disk(1 << 20).unwrap();
        config
    };
    let runtime = warm(&limited(Config::new()), 1);
    let small = limited(script("ulimit -n; dd if=/dev/zero of=/file bs=1M count=3 2>/dev/null || echo full"));
    assert_eq!(run(&runtime, &small), "Exited 0 64\nfull\n");
    filled(&runtime, 1);
    let bomb = limited(script("x=0123456789abcdef; while :; do x=$x$x; done"));
    let exit = runtime.create(&bomb).unwrap().wait(PATIENCE).unwrap();
    assert_eq!(exit.reason, ExitReason::OutOfMemory);
    assert_eq!(runtime.warm_stats(None).hits, 2);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn whatever_comes_after_the_start_works_in_a_sandbox_that_took_a_member() {
    let runtime = warm(&Config::new(), 1);
    let mut config = servers(&["echo 7000"]);
    config.set_policy(&Policy::allowlist()).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    assert_eq!(runtime.warm_stats(None).hits, 1);
    let options = sbx::FileOptions::default();
    sandbox.write_file("/tmp/file", b"content", &options).unwrap();
    let mut exec = Exec::new();
    exec.set_command(["cat", "/tmp/file"]).unwrap().set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
    eventually("what it said", || process.captured(Stream::Stdout).unwrap().complete);
    assert_eq!(process.captured(Stream::Stdout).unwrap().head, b"content");
    let policy = ranges();
    assert_eq!(sandbox.set_policy(&policy).unwrap(), 1);
    assert_eq!(sandbox.policy().unwrap(), (policy, 1));
    let mut connected = None;
    eventually("the server listens", || {
        connected = sandbox.connect(7000).ok();
        connected.is_some()
    });
    let mut connection = UnixStream::from(connected.unwrap());
    connection.set_nonblocking(false).unwrap();
    connection.write_all(b"hello").unwrap();
    let mut back = [0; 5];
    connection.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"hello");
    let stats = sandbox.stats().unwrap();
    assert!(stats.processes == Some(1) && stats.library_time > Duration::ZERO, "{stats:?}");
    assert_eq!(runtime.sandboxes().len(), 1);
    sandbox.stop(15, Duration::from_secs(10)).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.signal), (ExitReason::Signalled, 15));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_member_that_dies_is_replaced_and_not_taken() {
    alone("a_member_that_dies_is_replaced_and_not_taken", "", || {
        let runtime = warm(&Config::new(), 1);
        let keepers = children_of(std::process::id());
        assert_eq!(keepers.len(), 1);
        // The keeper, then what is below it.
        kill(Pid::from_raw(keepers[0].cast_signed()), Signal::SIGKILL).unwrap();
        eventually("its death is seen", || runtime.warm_stats(None).failures == 1);
        assert_eq!(run(&runtime, &script("echo alive")), "Exited 0 alive\n");
        eventually("another", || runtime.warm_stats(None).ready == 1);
        let below = children_of(children_of(std::process::id())[0]);
        kill(Pid::from_raw(below[0].cast_signed()), Signal::SIGKILL).unwrap();
        eventually("its death is seen", || runtime.warm_stats(None).failures == 2);
        eventually("another", || runtime.warm_stats(None).ready == 1);
        assert_eq!(run(&runtime, &script("echo alive")), "Exited 0 alive\n");
        let stats = runtime.warm_stats(None);
        assert_eq!((stats.hits, stats.failures), (1, 2), "{stats:?}");
    });
}

/// Which of the processes of a keeper.
type Chosen = fn(u32) -> Vec<u32>;

/// The processes below this one.
fn below(pid: u32) -> Vec<u32> {
    children_of(pid).into_iter().flat_map(|child| std::iter::once(child).chain(below(child))).collect()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_creation_does_not_fail_with_the_member_that_it_was_to_take() {
    alone("a_creation_does_not_fail_with_the_member_that_it_was_to_take", "", || {
        let runtime = warm(&Config::new(), 1);
        let rounds: [(Signal, Chosen); 3] = [
            (Signal::SIGKILL, |keeper| vec![keeper]),
            (Signal::SIGKILL, below),
            // Nothing ends, and nothing answers.
            (Signal::SIGSTOP, below),
        ];
        for (signal, chosen) in rounds {
            eventually("a member", || runtime.warm_stats(None).ready == 1);
            let keepers = children_of(std::process::id());
            for pid in chosen(keepers[0]) {
                // Some end with others.
                let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
            }
            assert_eq!(run(&runtime, &script("echo alive")), "Exited 0 alive\n", "{signal}");
        }
        let stats = runtime.warm_stats(None);
        assert_eq!((stats.hits, stats.misses_empty, stats.failures), (0, 3, 3), "{stats:?}");
        let miss = stats.last_miss.unwrap();
        assert!(miss.contains("has died or does not answer"), "{miss}");
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn while_memory_is_low_members_are_ended_and_creations_go_on() {
    alone("while_memory_is_low_members_are_ended_and_creations_go_on", "", || {
        let runtime = warm(&Config::new(), 2);
        runtime.pretend_low_memory(true);
        assert_eq!(run(&runtime, &script("echo alive")), "Exited 0 alive\n");
        let stats = runtime.warm_stats(None);
        assert_eq!((stats.hits, stats.ready, stats.discarded), (0, 0, 2), "{stats:?}");
        eventually("their processes have ended", || children_of(std::process::id()).is_empty());
        runtime.pretend_low_memory(false);
        filled(&runtime, 2);
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_creation_that_lacks_processes_ends_members_first() {
    if nix::unistd::Uid::effective().is_root() {
        // The kernel holds root to no number of processes, with or without capabilities.
        return;
    }
    alone("a_creation_that_lacks_processes_ends_members_first", "", || {
        let runtime = warm(&Config::new(), 3);
        let pid = std::process::id().to_string();
        let mut limit = Command::new("sh")
            .args([
                "-c",
                "was=$(prlimit --pid \"$0\" --nproc -o SOFT --noheadings --raw)
                 while read -r most; do prlimit --pid \"$0\" --nproc=\"${most:-$was}\": && echo; done",
                &pid,
            ])
            .stdin(Std::piped())
            .stdout(Std::piped())
            .spawn()
            .unwrap();
        let (mut to, mut from) = (limit.stdin.take().unwrap(), BufReader::new(limit.stdout.take().unwrap()));
        let mut set = |most: &str| {
            writeln!(to, "{most}").unwrap();
            assert_eq!(from.read_line(&mut String::new()).unwrap(), 1);
        };
        // No thread and no process can be started, until there are fewer members.
        set("1");
        let sandbox = runtime.create_begin(&script("echo alive")).unwrap();
        eventually("a member is ended", || runtime.warm_stats(None).discarded > 0);
        set("");
        // It has what it needs by now, unless the last member was ended before.
        if let Err(error) = sandbox.wait_started(PATIENCE) {
            assert_eq!((error.os_error(), runtime.warm_stats(None).discarded), (Some(11), 3), "{error}");
        }
        assert_eq!(run(&runtime, &script("echo alive")), "Exited 0 alive\n");
        drop(to);
        limit.wait().unwrap();
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_creation_that_lacks_descriptors_ends_members_first() {
    alone("a_creation_that_lacks_descriptors_ends_members_first", "ulimit -Sn 512 &&", || {
        let runtime = warm(&Config::new(), 3);
        let mut other = Config::new();
        other.set_hostname("other").unwrap();
        let mut sandboxes = Vec::new();
        let error = loop {
            match runtime.create(&other) {
                Ok(sandbox) => sandboxes.push(sandbox),
                Err(error) => break error,
            }
            assert!(sandboxes.len() < 100, "there is no end");
        };
        let stats = runtime.warm_stats(None);
        assert_eq!(error.code(), Code::Limit, "{error}");
        assert_eq!((stats.ready, stats.filling, stats.failures), (0, 0, 0), "{stats:?}");
        assert!(stats.discarded >= 3 && sandboxes.len() >= 5, "{stats:?}, {}", sandboxes.len());
        for sandbox in &sandboxes {
            assert_eq!(sandbox.state(), State::Running);
        }
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn members_end_with_their_runtime_also_while_they_are_made() {
    alone("members_end_with_their_runtime_also_while_they_are_made", "", || {
        let ready = warm(&Config::new(), 2);
        ready.shutdown();
        assert!(children_of(std::process::id()).is_empty());
        assert_eq!(ready.keep_warm(&Config::new(), 1).unwrap_err().code(), Code::Closed);
        let filling = runtime();
        filling.keep_warm(&Config::new(), 5).unwrap();
        eventually("one is being made", || filling.warm_stats(None).filling == 1);
        drop(filling);
        assert!(children_of(std::process::id()).is_empty());
    });
}

/// A host that keeps sandboxes warm, says so, and does nothing more.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn members_end_with_their_host_however_it_ends() {
    const HOST: &str = "SBX_TEST_WARM_HOST";
    if std::env::var_os(HOST).is_some() {
        let _runtime = warm(&Config::new(), 2);
        // A child that lives on has the same descriptors.
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        println!("warm {}", child.id());
        child.wait().unwrap();
        return;
    }
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "members_end_with_their_host_however_it_ends", "--nocapture"])
        .env(HOST, "1")
        .stdout(Std::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let line =
        lines.map(Result::unwrap).find_map(|line| line.split_once("warm ").map(|(_, pid)| pid.to_owned()));
    let child: u32 = line.unwrap().parse().unwrap();
    let keepers: Vec<u32> = children_of(host.id()).into_iter().filter(|pid| *pid != child).collect();
    assert_eq!(keepers.len(), 2);
    let below: Vec<u32> = keepers.iter().flat_map(|pid| children_of(*pid)).collect();
    host.kill().unwrap();
    host.wait().unwrap();
    let is_there =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    eventually("nothing is left", || !keepers.iter().chain(&below).any(is_there));
    kill(Pid::from_raw(child.cast_signed()), Signal::SIGKILL).unwrap();
}
