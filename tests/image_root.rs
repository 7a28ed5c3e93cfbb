//! Sandboxes on an image.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;
#[path = "common/image.rs"]
#[allow(unreachable_pub, reason = "a module of this test")]
mod image;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, Scratch, client, eventually, output, processes_with, runtime, text};
use image::Tree;
use sbx::{
    Code, Config, Event, Exec, FileChangeKind, FileOptions, FileRequest, ImageFile, Policy, PortKind, Queue,
    Runtime, Sandbox, Stdio, Stream,
};

const PROGRAMS: &[&str] = &[
    "sh", "cat", "id", "stat", "ls", "env", "pwd", "chown", "chmod", "readlink", "dd", "sleep", "true", "rm",
    "touch",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n\
                      postgres:x:999:998::/var/lib/postgresql:/bin/sh\n";
const GROUP: &str = "root:x:0:\nstaff:x:50:node,postgres\nnode:x:1000:\npostgres:x:998:\nvideo:x:44:node\n";

/// A tree with a few programs and users.
fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.programs(PROGRAMS);
    tree.file("/etc/passwd", 0o644, (0, 0), PASSWD).file("/etc/group", 0o644, (0, 0), GROUP);
    for name in ["/proc", "/sys", "/dev", "/tmp", "/.sbx"] {
        tree.directory(name, 0o755, (0, 0));
    }
    tree
}

/// What is done to an image's bytes.
type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

/// A configuration on an image that captures what its program says.
fn on(image: &ImageFile, command: &[&str]) -> Config {
    let mut config = Config::new();
    config.set_image_file(image).unwrap();
    if !command.is_empty() {
        config.set_command(command.iter().copied()).unwrap();
    }
    config.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    config.set_stdio(Stream::Stderr, Stdio::capture()).unwrap();
    config
}

fn script(image: &ImageFile, text: &str) -> Config {
    on(image, &["sh", "-c", text])
}

fn run(runtime: &Runtime, config: &Config) -> String {
    let sandbox = runtime.create(config).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!(exit.code, 0, "{}{}", output(&sandbox), text(&sandbox, Stream::Stderr));
    output(&sandbox)
}

/// A sandbox that waits for programs.
fn idle(runtime: &Runtime, image: &ImageFile) -> Sandbox {
    let mut config = Config::new();
    config.set_image_file(image).unwrap().set_no_command().unwrap();
    runtime.create(&config).unwrap()
}

fn exec(sandbox: &Sandbox, text: &str) -> String {
    exec_as(sandbox, "0", text)
}

fn exec_as(sandbox: &Sandbox, user: &str, text: &str) -> String {
    let mut exec = Exec::new();
    exec.set_command(["sh", "-c", text]).unwrap().set_user(user).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    exec.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    process.wait(PATIENCE).unwrap();
    String::from_utf8(process.captured(Stream::Stdout).unwrap().head).unwrap()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn owners_and_modes_are_the_images_and_can_be_changed() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-owners"));
    let mut tree = tree();
    tree.directory("/var/lib/postgresql", 0o700, (999, 998));
    tree.file("/var/lib/postgresql/data", 0o600, (999, 998), "its own\n");
    tree.file("/bin/setuid", 0o4755, (0, 0), fs::read("/usr/bin/id").unwrap());
    tree.file("/far", 0o640, (4_000_000_000, 70_000), "");
    let image = tree.write(scratch.path("image"));
    let sandbox = idle(&runtime, &image);
    let stat = "stat -c '%a %u %g %U' /var/lib/postgresql /var/lib/postgresql/data /bin/setuid /far";
    assert_eq!(
        exec(&sandbox, stat),
        "700 999 998 postgres\n600 999 998 postgres\n4755 0 0 root\n640 4000000000 70000 UNKNOWN\n"
    );
    let cat = "cat /var/lib/postgresql/data 2>&1 | cat";
    assert_eq!(exec_as(&sandbox, "postgres", cat), "its own\n");
    assert!(exec_as(&sandbox, "node", cat).contains("Permission denied"));
    assert_eq!(exec_as(&sandbox, "node", "setuid -u"), "1000\n", "no user gains anything by it");
    let change = "chown node:staff /var/lib/postgresql/data && chmod 666 /var/lib/postgresql/data && \
                  chmod 711 /var/lib/postgresql && stat -c '%a %u %g' /var/lib/postgresql/data";
    assert_eq!(exec(&sandbox, change), "666 1000 50\n");
    assert_eq!(exec_as(&sandbox, "node", cat), "its own\n");
    assert!(exec_as(&sandbox, "node", "chown root /far 2>&1 | cat").contains("not permitted"));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn users_are_looked_up_as_docker_does() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-users"));
    let sandbox = idle(&runtime, &tree().write(scratch.path("image")));
    for (user, said) in [
        ("node", "1000 1000 1000 50 44 /home/node"),
        ("1000", "1000 1000 1000 50 44 /home/node"),
        ("postgres", "999 998 998 50 /var/lib/postgresql"),
        // Without an entry: root's group, as in docker.
        ("4711", "4711 0 0 /"),
        ("4711:4712", "4711 4712 4712 /"),
        // An explicit group is the only one.
        ("node:staff", "1000 50 50 /home/node"),
        ("node:0", "1000 0 0 /home/node"),
        ("root", "0 0 0 /root"),
    ] {
        let mut groups = exec_as(&sandbox, user, "echo $(id -u) $(id -g) $(id -G) $HOME");
        groups.pop();
        assert_eq!(groups, said, "{user}");
    }
    let mut nobody = Exec::new();
    nobody.set_command(["true"]).unwrap().set_user("mallory").unwrap();
    let failed = sandbox.exec(&nobody).unwrap_err();
    assert!(failed.message().contains("mallory"), "{failed}");
    // The files' interface looks them up in the same way.
    sandbox.write_file("/tmp/own", b"x", &FileOptions::new().user("4711")).unwrap();
    assert_eq!(exec(&sandbox, "stat -c '%u %g' /tmp/own"), "4711 0\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn its_configuration_applies_and_what_is_set_wins() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-config"));
    let mut image = tree().write(scratch.path("image"));
    image.entrypoint = ["sh", "-c", "echo $0 $@ $A $B $PATH; pwd; id -un", "entry"].map(str::to_owned).into();
    image.cmd = ["one", "two"].map(str::to_owned).into();
    image.env = ["A=image", "B=image"].map(str::to_owned).into();
    image.working_dir = "/made/for/it".to_owned();
    image.user = "node".to_owned();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        run(&runtime, &on(&image, &[])),
        format!("entry one two image image {path}\n/made/for/it\nnode\n")
    );
    let mut config = on(&image, &["three"]);
    config.set_env("B", "mine").unwrap().set_workdir("/tmp").unwrap().set_user("0").unwrap();
    assert_eq!(run(&runtime, &config), format!("entry three image mine {path}\n/tmp\nroot\n"));
    let mut config = on(&image, &["-c", "echo own"]);
    config.set_entrypoint(["sh"]).unwrap();
    assert_eq!(run(&runtime, &config), "own\n");
    // The image's PATH is the one that programs are looked up in, also those of an exec.
    image.env.push("PATH=/bin".to_owned());
    let sandbox = idle(&runtime, &image);
    assert_eq!(exec_as(&sandbox, "node", "echo $PATH; pwd"), "/bin\n/made/for/it\n");
    let (mut bare, mut nobody) = (tree().write(scratch.path("image")), image.clone());
    let error = runtime.create(&on(&bare, &[])).unwrap_err();
    assert!(error.code() == Code::Invalid && error.message().contains("no command"), "{error}");
    nobody.user = "mallory".to_owned();
    let error = runtime.create(&on(&nobody, &[])).unwrap_err();
    assert!(error.code() == Code::Exec && error.message().contains("mallory"), "{error}");
    bare.working_dir = "relative".to_owned();
    let error = runtime.create(&on(&bare, &["true"])).unwrap_err();
    assert!(error.message().contains("relative"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn name_and_resolver_are_the_sandboxs_own() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-etc"));
    let say = "cat /etc/hostname /etc/hosts /etc/resolv.conf; stat -c '%N %a %u' /etc/resolv.conf";
    let said = "box\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n192.0.0.2\tbox\n\
                nameserver 192.0.0.1\n'/etc/resolv.conf' 644 0\n";
    let mut linked = tree();
    linked.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    linked.link("/etc/hosts", "/data/hosts").file("/data/hosts", 0o644, (0, 0), "untouched\n");
    linked.file("/etc/hostname", 0o600, (5, 5), "of the image");
    let mut without = Tree::new();
    without.programs(PROGRAMS);
    let mut elsewhere = tree();
    elsewhere.file("/usr/etc/passwd", 0o644, (0, 0), PASSWD);
    for (name, tree) in [("linked", linked), ("without", without)] {
        let image = tree.write(scratch.path(name));
        let mut config =
            script(&image, &format!("{say}; cat /data/hosts 2>/dev/null; ls /run 2>/dev/null; true"));
        config.set_hostname("box").unwrap();
        let rest = if name == "linked" { "untouched\n" } else { "" };
        assert_eq!(run(&runtime, &config), format!("{said}{rest}"), "{name}");
    }
    // What the host mounts there is left alone.
    let mine = scratch.file("mine", "of the host\n");
    let mut mounted = script(&elsewhere.write(scratch.path("mounted")), "cat /etc/hosts; cat /etc/hostname");
    mounted.mount_writable(&mine, "/etc/hosts").unwrap();
    assert_eq!(run(&runtime, &mounted), "of the host\nsandbox\n");
    let directory = scratch.path("directory");
    fs::create_dir(&directory).unwrap();
    let mut whole = script(&elsewhere.write(scratch.path("whole")), "ls /etc");
    whole.mount_writable(&directory, "/etc").unwrap();
    assert_eq!(run(&runtime, &whole), "");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    // A place where no file can be.
    let mut blocked = tree();
    blocked.directory("/etc/resolv.conf", 0o755, (0, 0));
    let error = runtime.create(&script(&blocked.write(scratch.path("blocked")), "true")).unwrap_err();
    assert!(error.message().contains("resolv.conf"), "{error}");
}

/// The names of the processes of a sandbox on the host.
fn family(sandbox: &Sandbox) -> Vec<String> {
    let mut names: Vec<String> = processes_with(sandbox.id())
        .iter()
        .map(|line| {
            let kind = ["gofer", "boot", "run"].into_iter().find(|kind| line.contains(&format!(" {kind} ")));
            kind.unwrap_or("other").to_owned()
        })
        .collect();
    names.sort_unstable();
    names
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn there_is_no_gofer_without_a_mount_of_the_hosts() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-gofer"));
    let image = tree().write(scratch.path("image"));
    let plain = runtime.create(&script(&image, "sleep 100")).unwrap();
    assert_eq!(family(&plain), ["boot", "run"]);
    let shared = scratch.file("shared", "of the host\n");
    let mut config = script(&image, "cat /data/shared; sleep 100");
    config.mount_read_only(&shared, "/data/shared").unwrap();
    let mounted = runtime.create(&config).unwrap();
    assert_eq!(family(&mounted), ["boot", "gofer", "run"]);
    eventually("the mounted file", || {
        mounted.captured(Stream::Stdout).unwrap().head == b"of the host\n".to_vec()
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_limit_of_the_disk_holds_on_an_image() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-disk"));
    let image = tree().write(scratch.path("image"));
    let fill = |path: &str| {
        format!(
            "dd if=/dev/zero of={path} bs=65536 count=1000 2>/dev/null; echo $?; stat -c %s {path}; rm {path}"
        )
    };
    let mut config = script(&image, &[fill("/filled"), fill("/tmp/filled")].join("; "));
    config.set_disk(8 << 20).unwrap();
    let said = run(&runtime, &config);
    let [first, size, second, other] = said.lines().collect::<Vec<_>>()[..] else { panic!("{said}") };
    assert_eq!((first, second), ("1", "1"), "{said}");
    for size in [size, other] {
        let size: u64 = size.parse().unwrap();
        assert!((6 << 20..=8 << 20).contains(&size), "{said}");
    }
    assert_eq!(run(&runtime, &script(&image, &fill("/filled"))), "0\n65536000\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_file_serves_several_sandboxes_and_may_be_removed_meanwhile() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-shared"));
    let mut tree = tree();
    tree.file("/large", 0o644, (0, 0), vec![b'x'; 3_000_000]);
    let path = scratch.path("image");
    let image = tree.write(&path);
    let (first, second) = (idle(&runtime, &image), idle(&runtime, &image));
    fs::remove_file(&path).unwrap();
    exec(&first, "echo changed > /bin/new; rm /bin/ls");
    assert_eq!(
        exec(
            &second,
            "cat /bin/new 2>/dev/null; ls -d /bin/ls; cat /large | dd of=/dev/null 2>&1 | cat >/tmp/said; stat -c %s /large"
        ),
        "/bin/ls\n3000000\n"
    );
    let third = idle(&runtime, &image);
    assert_eq!(exec(&third, "ls -d /bin/ls"), "/bin/ls\n");
    assert_eq!(exec(&first, "cat /bin/new; stat -c %s /large"), "changed\n3000000\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn places_of_the_sandboxs_own_may_be_missing_or_links() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-places"));
    let mut bare = Tree::new();
    bare.programs(PROGRAMS);
    let look = "ls -d /proc/self /sys /dev/null /tmp /etc/hosts >/dev/null && echo x > /tmp/x && stat -L -c %a /tmp && id -u";
    assert_eq!(run(&runtime, &script(&bare.write(scratch.path("bare")), look)), "1777\n0\n");
    let mut linked = Tree::new();
    linked.programs(PROGRAMS);
    for name in ["proc", "sys", "dev", "tmp", "etc", ".sbx"] {
        linked.link(&format!("/{name}"), &format!("data/{name}")).directory(
            &format!("/data/{name}"),
            0o755,
            (0, 0),
        );
    }
    assert_eq!(run(&runtime, &script(&linked.write(scratch.path("linked")), look)), "1777\n0\n");
    // A link that leads nowhere is an error, and one that climbs ends at the image's root.
    for (name, target, works) in
        [("proc", "nowhere", false), ("etc", "nowhere", false), ("sys", "../../data", true)]
    {
        let mut tree = Tree::new();
        tree.programs(PROGRAMS).directory("/data", 0o755, (0, 0)).link(&format!("/{name}"), target);
        let made =
            runtime.create(&script(&tree.write(scratch.path(target.rsplit('/').next().unwrap())), "true"));
        match made {
            Ok(sandbox) => assert!(works && sandbox.wait(PATIENCE).unwrap().code == 0, "{name} -> {target}"),
            Err(error) => assert!(!works && error.message().contains(name), "{error}"),
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_is_no_whole_image_is_refused_by_name() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-bad"));
    let whole = tree().bytes();
    let nothing = |_: &mut Vec<u8>| ();
    let changes: [(&str, Change); 5] = [
        ("not an EROFS image", &|bytes| bytes.truncate(100)),
        ("not an EROFS image", &|bytes| bytes[1024] = 0),
        ("shorter", &|bytes| bytes.truncate(bytes.len() - 4096)),
        ("shorter", &|bytes| bytes[1024 + 12] = 200),
        ("", &nothing),
    ];
    for (text, change) in changes {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(scratch.path("image"), &bytes).unwrap();
        let image = ImageFile::new(fs::File::open(scratch.path("image")).unwrap());
        match runtime.create(&script(&image, "true")) {
            Ok(_) => assert_eq!(text, ""),
            Err(error) => assert!(!text.is_empty() && error.message().contains(text), "{error}"),
        }
    }
    // What is wrong inside ends the start with an error, or a file's use; never more than that sandbox.
    for at in (1024..whole.len().min(4096 * 3)).step_by(61) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        if at % 5 != 0 {
            continue;
        }
        fs::write(scratch.path("image"), &bytes).unwrap();
        let image = ImageFile::new(fs::File::open(scratch.path("image")).unwrap());
        if let Ok(sandbox) = runtime.create(&script(&image, "ls -lR / >/dev/null 2>&1; true")) {
            sandbox.wait(PATIENCE).unwrap();
        }
    }
    let directory = ImageFile::new(fs::File::open("/").unwrap());
    let error = runtime.create(&script(&directory, "true")).unwrap_err();
    assert!(error.message().contains("not an EROFS image"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn files_go_in_and_out_and_are_watched() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-files"));
    let mut tree = tree();
    tree.file("/srv/data/a", 0o640, (999, 50), "of the image\n");
    let sandbox = idle(&runtime, &tree.write(scratch.path("image")));
    let plain = FileOptions::new();
    assert_eq!(sandbox.read_file("/srv/data/a", &plain).unwrap(), b"of the image\n");
    let info = sandbox.stat_file("/srv/data/a", &plain).unwrap();
    assert_eq!((info.mode, info.user, info.group, info.size), (0o640, 999, 50, 13));
    let archive = fs::File::create_new(scratch.path("archive")).unwrap();
    let out = sandbox.copy_out("/srv", archive.as_fd(), &plain).unwrap();
    assert_eq!(out.entries, 2, "the directory in it, and the file");
    let archive = fs::File::open(scratch.path("archive")).unwrap();
    sandbox.copy_in("/srv/again", archive.as_fd(), &plain.clone().parents(true).keep_owner(true)).unwrap();
    assert_eq!(exec(&sandbox, "stat -c '%a %u %g' /srv/again/data/a"), "640 999 50\n");
    let watch = sandbox.begin_file(FileRequest::Watch("/srv/data".into()), &plain, None).unwrap();
    let next = || watch.next_change(PATIENCE).unwrap();
    assert_eq!(next().kind, FileChangeKind::Ready);
    sandbox.write_file("/srv/data/a", b"changed", &plain).unwrap();
    assert_eq!(next().path, std::path::Path::new("a"));
    assert_eq!(exec(&sandbox, "cat /srv/data/a"), "changed");
    sandbox.remove_file("/srv/data/a", &plain).unwrap();
    assert_eq!(sandbox.stat_file("/srv/data/a", &plain).unwrap_err().code(), Code::NotFound);
}

/// A static server and client: `net serve PORT` says "served" to whoever connects, `net ask ADDRESS PORT` prints what
/// comes, or why nothing does.
const NET: &str = r#"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    char text[64];
    int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    if (argc == 3) {
        at.sin_port = htons(atoi(argv[2]));
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(s, (void *)&at, sizeof at) || listen(s, 16)) return 1;
        for (;;) { int c = accept(s, 0, 0); if (write(c, "served\n", 7) < 0) return 1; close(c); }
    }
    at.sin_port = htons(atoi(argv[3]));
    inet_pton(AF_INET, argv[2], &at.sin_addr);
    if (connect(s, (void *)&at, sizeof at)) { puts(strerror(errno)); return 0; }
    for (ssize_t n; (n = read(s, text, sizeof text)) > 0;) fwrite(text, 1, n, stdout);
    return 0;
}
"#;

fn with_net(scratch: &Scratch) -> Tree {
    let (source, program) = (scratch.file("net.c", NET), scratch.path("net"));
    let built = Command::new("cc").args(["-static", "-o", &program, &source]).status();
    assert!(built.is_ok_and(|status| status.success()), "cc -static has failed: is there a C compiler?");
    let mut tree = tree();
    tree.file("/bin/net", 0o755, (0, 0), fs::read(program).unwrap());
    tree
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn tunnels_policies_and_services_are_as_on_any_root() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-net"));
    let image = with_net(&scratch).write(scratch.path("image"));
    let mut config = on(&image, &["net", "serve", "7000"]);
    config.add_port(7000, PortKind::Unencrypted).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    sandbox.wait_ready(PATIENCE).unwrap();
    let mut said = String::new();
    client::tcp(sandbox.tunnels(PATIENCE).unwrap().get(7000).unwrap()).read_to_string(&mut said).unwrap();
    assert_eq!(said, "served\n");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap();
    let server =
        std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"by the host\n").unwrap());
    let queue = Queue::new(64).unwrap();
    let ask = "net ask 192.0.0.1 8080; net ask 192.0.0.1 8081; net ask 203.0.113.7 80";
    let mut config = script(&image, ask);
    config.set_policy(&Policy::allowlist()).unwrap().add_host_service(8080, &here.to_string()).unwrap();
    config.set_queue(&queue, 7).unwrap();
    assert_eq!(run(&runtime, &config), "by the host\nConnection refused\nConnection refused\n");
    server.join().unwrap();
    let is_denial =
        |event: &Event| matches!(event, Event::Denied { destination, .. } if destination == "203.0.113.7");
    eventually("the denial", || std::iter::from_fn(|| queue.next()).any(|one| is_denial(&one.event)));

    let mut config = script(&image, "net ask 192.0.0.1 53; cat /etc/resolv.conf; cat /etc/hosts");
    config.set_policy(&Policy::blocked()).unwrap();
    let said = run(&runtime, &config);
    assert_eq!(
        said,
        "Network is unreachable\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         127.0.1.1\tsandbox\n"
    );
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn images_are_mounted_at_paths_of_any_root() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-mounts"));
    let mut data = Tree::new();
    data.file("/model/weights", 0o640, (999, 998), "weights\n").link("/out", "/etc/passwd");
    let data = data.write(scratch.path("data"));
    let look = "cat /opt/a/model/weights; stat -c '%a %u' /opt/b/model/weights; rm /opt/a/out 2>/dev/null || echo kept";
    let said = "weights\n640 999\nkept\n";
    let mut config = script(&tree().write(scratch.path("image")), look);
    config.mount_image_file(&data, "/opt/a").unwrap().mount_image_file(&data, "/opt/b").unwrap();
    assert_eq!(run(&runtime, &config), said);
    // Also on the host's own programs, beside a mount of the host's.
    let mut config = common::script(&format!("{look}; cat /data/shared"));
    config.mount_image_file(&data, "/opt/a").unwrap().mount_image_file(&data, "/opt/b").unwrap();
    config.mount_read_only(&scratch.file("shared", "of the host\n"), "/data/shared").unwrap();
    assert_eq!(run(&runtime, &config), format!("{said}of the host\n"));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_killed_host_leaves_nothing_of_it() {
    const NAME: &str = "SBX_TEST_KILLED";
    if let Some(path) = std::env::var_os(NAME) {
        let image = ImageFile::new(fs::File::open(path).unwrap());
        let runtime = runtime();
        let sandbox = runtime.create(&script(&image, "sleep 1000")).unwrap();
        println!("{NAME} {}", sandbox.id());
        loop {
            std::thread::park();
        }
    }
    let scratch = Scratch::new("image-killed");
    tree().write(scratch.path("image"));
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_host_leaves_nothing_of_it", "--nocapture"])
        .env(NAME, scratch.path("image"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines().map_while(Result::ok);
    let id =
        lines.into_iter().find_map(|line| Some(line.split_once(&format!("{NAME} "))?.1.to_owned())).unwrap();
    assert!(!processes_with(&id).is_empty());
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("its processes end", || processes_with(&id).is_empty());
}

/// How long it takes from the request to the program's first output, against the host's own programs as root.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn it_starts_no_slower_than_the_default_root() {
    let (runtime, scratch) = (runtime(), Scratch::new("image-time"));
    let image = tree().write(scratch.path("image"));
    let time = |config: &Config| {
        let begin = Instant::now();
        run(&runtime, config);
        begin.elapsed()
    };
    let (on_image, plain) = (on(&image, &["true"]), common::config(&["true"]));
    let mut times: Vec<_> = (0..12).map(|_| (time(&on_image), time(&plain))).collect();
    let mut median = |of: fn(&(Duration, Duration)) -> Duration| {
        times.sort_unstable_by_key(of);
        of(&times[times.len() / 2])
    };
    let (image, host) = (median(|pair| pair.0), median(|pair| pair.1));
    println!("on an image {image:?}, on the host's programs {host:?}");
    assert!(image < host * 3 / 2, "{image:?} against {host:?}");
}
