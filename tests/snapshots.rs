//! Snapshots: a new image of what a sandbox has in its root file system, while it goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by it"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::busybox::{config, import, root, shell};
use common::images::TestStore;
use common::{PATIENCE, eventually, processes_with};
use sbx::{Code, Config, Event, Exec, ExitReason, Image, LimitMode, PortKind, Queue, Sandbox, Stdio, Stream};

/// A root file system with something to change, as an image.
fn base(store: &TestStore) -> Image {
    let tar = root()
        .file("etc/gone", 0o600, (5, 6), b"not for long\n")
        .directory("lower", 0o750, (1000, 1001))
        .file("lower/one", 0o640, (1000, 1001), b"one\n")
        .directory("lower/deep", 0o700, (70_000, 80_000))
        .file("lower/deep/two", 0o600, (70_000, 80_000), b"two\n")
        .symlink("lower/link", "deep/two")
        .directory("opaque", 0o755, (0, 0))
        .file("opaque/hidden", 0o644, (0, 0), b"hidden\n")
        .directory("replaced", 0o755, (0, 0))
        .file("replaced/file", 0o644, (0, 0), b"file\n")
        .file("linked", 0o644, (0, 0), b"linked\n")
        .hard_link("linked-too", "linked");
    import(store, tar)
}

/// A sandbox on an image, without a program of its own.
fn start(store: &TestStore, image: &Image) -> Sandbox {
    store.runtime.create(&config(image)).unwrap()
}

/// A script in the background, which goes on.
fn begin(sandbox: &Sandbox, script: &str) -> sbx::Process {
    let mut exec = Exec::new();
    exec.set_command(["/bin/sh", "-c", script]).unwrap();
    sandbox.exec(&exec).unwrap()
}

/// Every file of the root: name, and what it is. Init writes three of them anew at each start.
fn tree(sandbox: &Sandbox) -> BTreeMap<String, String> {
    let skipped =
        ["/proc", "/sys", "/dev", "/tmp", "/.sbx", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];
    let skipped = skipped.map(|path| format!("-path {path}")).join(" -o ");
    let find = format!("find / \\( {skipped} \\) -prune -o");
    let listed = shell(sandbox, &format!("{find} -print0 | xargs -0 stat -c '%n|%f|%u|%g|%h|%s|%Y|%N'"));
    let sums = shell(sandbox, &format!("{find} -type f -print0 | xargs -0 md5sum"));
    let sums: BTreeMap<&str, &str> =
        sums.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (name, sum)).collect();
    let entry = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let [name, mode, user, group, links, size, modified, shown] = fields[..] else { panic!("{line}") };
        let kind = u32::from_str_radix(mode, 16).unwrap() & libc::S_IFMT;
        // What a directory's size and links are is the file system's business. Init changes /etc.
        let (links, size) = if kind == libc::S_IFDIR { ("", "") } else { (links, size) };
        let modified = if matches!(name, "/etc" | "/") { "" } else { modified };
        let sum = sums.get(name).copied().unwrap_or_default();
        (name.to_owned(), format!("{mode} {user}:{group} {links} {size} {modified} {shown} {sum}"))
    };
    listed.lines().map(entry).collect()
}

/// A process: its number and when it started.
type Process = (u32, String);

/// The processes that haven't ended: their names, and their parents.
fn processes() -> BTreeMap<Process, (String, u32)> {
    let stats = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let parent = fields[1].parse().ok()?;
        (fields[0] != "Z").then(|| ((pid, fields[19].to_owned()), (name.to_owned(), parent)))
    });
    stats.collect()
}

/// The processes below one, with their names.
fn descendants(of: u32) -> Vec<(String, Process)> {
    let all = processes();
    let (mut found, mut parents) = (Vec::new(), vec![of]);
    while let Some(parent) = parents.pop() {
        for (process, (name, _)) in all.iter().filter(|(_, (_, of))| *of == parent) {
            found.push((name.clone(), process.clone()));
            parents.push(process.0);
        }
    }
    found
}

fn assert_same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>) {
    for (name, entry) in expected {
        assert_eq!(found.get(name), Some(entry), "{name}");
    }
    let more: Vec<_> = found.keys().filter(|name| !expected.contains_key(*name)).collect();
    assert!(more.is_empty(), "{more:?}");
}

/// Times are rounded to seconds, so they get some that already are. Twice, since a file that comes into the upper layer
/// changes the time of its directory.
fn settle(sandbox: &Sandbox) {
    let skipped = ["/proc", "/sys", "/dev", "/.sbx"].map(|path| format!("-path {path} -prune -o")).join(" ");
    for _ in 0..2 {
        shell(sandbox, &format!("find / {skipped} -print0 | xargs -0 touch -h -d '2020-02-02 02:02:02'"));
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_sandbox_on_a_snapshot_has_the_same_tree_file_by_file() {
    let store = TestStore::new("tree");
    let sandbox = start(&store, &base(&store));
    shell(
        &sandbox,
        r#"set -e
        mkdir -p /new/deep/er; echo hello >/new/deep/file; chmod 4640 /new/deep/file; chown 1000:1001 /new/deep/file
        ln /new/deep/file /new/hard; ln -s deep/file /new/link; ln -s /nowhere /new/dangling; mkfifo -m 600 /new/fifo
        rm /etc/gone; echo changed >>/etc/motd; chmod 700 /lower/one; chown 0:7 /lower/deep
        rm -r /opaque; mkdir /opaque; echo only >/opaque/one
        rm -r /replaced; echo 'a file' >/replaced
        rm /lower/link; mkdir /lower/link; echo in >/lower/link/in
        ln /linked /new/of-below; echo more >>/linked
        truncate -s 3M /new/sparse; echo end | dd of=/new/sparse bs=1 seek=5000000 2>/dev/null
        : >/new/empty; mkdir -m 1777 /new/sticky
        touch "/new/na me" "/new/ümlaut" "/new/$(head -c 240 /dev/zero | tr '\0' x)"
        head -c 300000 /dev/urandom >/new/random
        mkdir -p /new/a/b/c/d/e/f/g/h/i/j/k; echo deep >/new/a/b/c/d/e/f/g/h/i/j/k/l
        echo not >/tmp/here; echo not >/dev/shm/here"#,
    );
    // Renames of what is below, directories too: by rename(2), or by a copy where that is refused.
    shell(
        &sandbox,
        "mv /lower/deep /lower/renamed; mv /lower /moved; mkdir /lower; echo another >/lower/one",
    );
    settle(&sandbox);
    let before = tree(&sandbox);
    let taken = sandbox.snapshot(Some("tests/tree:1")).unwrap();
    assert_same(&tree(&sandbox), &before);
    assert!(taken.paused > Duration::ZERO && taken.paused < PATIENCE.unwrap());
    assert_eq!(taken.image.info().tags, ["docker.io/tests/tree:1"]);
    assert_eq!(taken.left_out, ["/dev", "/dev/shm", "/proc", "/sys", "/tmp"]);
    assert_eq!(taken.skipped, 5);
    let again = start(&store, &taken.image);
    assert_same(&tree(&again), &before);
    assert_eq!(shell(&again, "cat /moved/renamed/two /new/hard /opaque/*; ls /tmp"), "two\nhello\nonly\n");
    // Nothing was changed since, so its snapshot has the same files.
    let same = again.snapshot(None).unwrap();
    assert_same(&tree(&start(&store, &same.image)), &before);
    assert_eq!(store.left().0.len(), 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn snapshots_of_snapshots_are_each_one_image() {
    let store = TestStore::new("depth");
    let mut image = base(&store);
    for depth in 1..=20 {
        let sandbox = start(&store, &image);
        let script = format!(
            "set -e; echo {depth} >/level-{depth}; echo {depth} >>/etc/motd; rm -f /level-{}; mkdir -p /kept/{depth}",
            depth - 2
        );
        shell(&sandbox, &script);
        // A look at all of it takes as long as four of the rounds.
        let looks = depth % 5 == 0;
        let before = looks.then(|| {
            settle(&sandbox);
            tree(&sandbox)
        });
        image = sandbox.snapshot(None).unwrap().image;
        sandbox.terminate().unwrap();
        if let Some(before) = before {
            assert_same(&tree(&start(&store, &image)), &before);
        }
    }
    let last = start(&store, &image);
    let lines: String = (1..=20).map(|depth| format!("{depth}\n")).collect();
    assert_eq!(shell(&last, "cat /etc/motd"), format!("below\n{lines}"));
    assert_eq!(shell(&last, "echo /level-*; ls /kept | wc -l"), "/level-19 /level-20\n20\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_sandbox_that_was_kept_warm_has_snapshots() {
    let store = TestStore::new("warm");
    let image = base(&store);
    let mut template = Config::new();
    template.set_image(&image).unwrap();
    store.runtime.keep_warm(&template, 1).unwrap();
    eventually("it is warm", || store.runtime.warm_stats(None).ready == 1);
    let sandbox = start(&store, &image);
    assert_eq!(store.runtime.warm_stats(None).hits, 1);
    shell(&sandbox, "echo changed > /etc/motd");
    let taken = sandbox.snapshot(None).unwrap();
    let after = start(&store, &taken.image);
    assert_eq!(shell(&after, "cat /etc/motd"), "changed\n");
    assert_eq!(store.runtime.warm_stats(None).misses_different, 1, "it is another image");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn what_goes_on_meanwhile_goes_on_after() {
    let store = TestStore::new("busy");
    let sandbox = start(&store, &base(&store));
    // A file that grows at full speed, one that is deleted and still open, and one that is replaced all the time.
    let grows = begin(
        &sandbox,
        "while :; do : >/grows; i=0; while [ $i -lt 64 ]; do head -c 1000000 /dev/zero >>/grows; i=$((i+1)); done; done",
    );
    let holds = begin(
        &sandbox,
        "exec 5>/deleted; echo held >&5; rm /deleted; while :; do echo more >&5; sleep 0.01; done",
    );
    let renames = begin(&sandbox, "i=0; while :; do i=$((i+1)); echo $i >/next; mv /next /counter; done");
    eventually("all three run", || {
        shell(&sandbox, "[ -e /counter ] && [ ! -e /deleted ] && [ -e /grows ] && echo yes || echo no")
            == "yes\n"
    });
    for _ in 0..3 {
        let taken = sandbox.snapshot(None).unwrap();
        let again = start(&store, &taken.image);
        let size: u64 = shell(&again, "stat -c %s /grows").trim().parse().unwrap();
        assert!(size <= 64_000_000);
        let listed = shell(&again, "ls / /counter /deleted 2>&1 || true");
        assert!(listed.contains("/deleted: No such file"), "{listed}");
        let count = || shell(&sandbox, "cat /counter").trim().to_owned();
        let before = count();
        eventually("it counts on", || count() != before);
    }
    for program in [grows, holds, renames] {
        assert!(program.exit().is_none(), "it was disturbed");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_tunnel_and_a_program_go_on_meanwhile() {
    let store = TestStore::new("going-on");
    let mut config = Config::new();
    config.set_image(&base(&store)).unwrap().set_env("PATH", "/bin").unwrap();
    config.set_command(["/bin/busybox", "nc", "-ll", "-p", "7000", "-e", "/bin/cat"]).unwrap();
    config.add_port(7000, PortKind::Unencrypted).unwrap();
    let sandbox = store.runtime.create(&config).unwrap();
    sandbox.wait_ready(PATIENCE).unwrap();
    let tunnels = sandbox.tunnels(PATIENCE).unwrap();
    let mut tunnel = TcpStream::connect(tunnels.get(7000).unwrap().tcp_socket()).unwrap();
    tunnel.set_read_timeout(PATIENCE).unwrap();
    let mut exec = Exec::new();
    exec.set_command(["/bin/cat"]).unwrap();
    exec.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::Descriptor).unwrap();
    let program = sandbox.exec(&exec).unwrap();
    let mut typed = UnixStream::from(program.open_stream(Stream::Stdin).unwrap());
    let mut shown = fs::File::from(program.open_stream(Stream::Stdout).unwrap());
    for round in 0..3 {
        let operation = sandbox.snapshot_begin(None, None).unwrap();
        let mut sent = 0;
        // Before, while it is paused, and after.
        while !operation.has_ended() || sent < 10 {
            sent += 1;
            let line = format!("{round} {sent:06}\n");
            tunnel.write_all(line.as_bytes()).unwrap();
            let mut answer = vec![0; line.len()];
            tunnel.read_exact(&mut answer).unwrap();
            assert_eq!(answer, line.as_bytes());
            typed.write_all(line.as_bytes()).unwrap();
            let mut came = 0;
            eventually("the program answers", || {
                came += shown.read(&mut answer[came..]).unwrap_or(0);
                came == line.len()
            });
            assert_eq!(answer, line.as_bytes());
        }
        operation.wait(PATIENCE).unwrap();
    }
    assert!(program.exit().is_none());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_file_that_gvisor_could_not_read_is_refused_and_the_sandbox_lives() {
    let store = TestStore::new("giant");
    let sandbox = start(&store, &base(&store));
    shell(&sandbox, "mkdir /made; truncate -s 1099511627776 /made/giant");
    let error = sandbox.snapshot(None).unwrap_err();
    assert_eq!(error.code(), Code::Limit, "{error}");
    assert!(error.message().contains("/made/giant"), "{error}");
    shell(&sandbox, "rm /made/giant");
    let taken = sandbox.snapshot(None).unwrap();
    assert_eq!(shell(&start(&store, &taken.image), "ls /made"), "");
    assert_eq!(store.left().0.len(), 0);
    // With a limit of memory: what is read has to fit into what is free of it.
    let mut config = Config::new();
    config.set_image(&taken.image).unwrap().set_no_command().unwrap();
    config.set_env("PATH", "/bin").unwrap();
    config.set_memory(256 << 20).unwrap().set_limit_mode(LimitMode::Watchdog);
    let sandbox = store.runtime.create(&config).unwrap();
    shell(&sandbox, "truncate -s 200000000 /sparse");
    assert_eq!(sandbox.snapshot(None).unwrap_err().code(), Code::Limit);
    shell(&sandbox, "rm /sparse; head -c 10000000 /dev/zero >/small");
    let taken = sandbox.snapshot(None).unwrap();
    assert_eq!(shell(&start(&store, &taken.image), "stat -c %s /small"), "10000000\n");
    assert_eq!(shell(&sandbox, "echo lives"), "lives\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn only_a_sandbox_on_an_image_has_snapshots() {
    let store = TestStore::new("roots");
    let sandbox = store.runtime.create(&Config::new()).unwrap();
    let error = sandbox.snapshot(None).unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert!(error.message().contains("import its root directory as an image"), "{error}");
    let on_image = start(&store, &base(&store));
    assert_eq!(on_image.snapshot(Some("not a name!")).unwrap_err().code(), Code::Invalid);
    on_image.terminate().unwrap();
    on_image.wait(PATIENCE).unwrap();
    assert_eq!(on_image.snapshot(None).unwrap_err().code(), Code::State);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn one_that_is_cancelled_leaves_nothing_and_the_sandbox_goes_on() {
    let store = TestStore::new("cancel");
    let sandbox = start(&store, &base(&store));
    shell(&sandbox, "for i in 1 2 3 4 5 6; do head -c 30000000 /dev/urandom >/$i; done");
    let mut waits = [0, 30, 100, 200, 400].into_iter().peekable();
    let until = Instant::now() + Duration::from_secs(60);
    while let Some(wait) = waits.peek().copied() {
        let queue = Queue::new(64).unwrap();
        let operation = sandbox.snapshot_begin(None, Some((&queue, 7))).unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        operation.cancel();
        let ended = operation.wait(PATIENCE);
        // The one that was cancelled before may still be ending.
        if ended.as_ref().is_err_and(|error| error.code() == Code::State) && Instant::now() < until {
            continue;
        }
        waits.next();
        assert!(ended.as_ref().err().is_none_or(|error| error.code() == Code::Closed), "{ended:?}");
        let done = std::iter::from_fn(|| queue.next()).filter(|queued| {
            assert_eq!(queued.cookie, 7);
            matches!(queued.event, Event::OperationDone { .. })
        });
        assert_eq!(done.count(), 1);
        assert_eq!(shell(&sandbox, "echo lives"), "lives\n");
        eventually("nothing is being written", || store.left().0.is_empty());
    }
    // Two at once.
    let first = sandbox.snapshot_begin(None, None).unwrap();
    let second = sandbox.snapshot_begin(None, None).unwrap();
    let ended = [first.wait(PATIENCE), second.wait(PATIENCE)];
    assert!(ended.iter().any(Result::is_ok), "{ended:?}");
    let refused = ended.iter().filter_map(|ended| ended.as_ref().err());
    refused.for_each(|error| assert_eq!(error.code(), Code::State, "{error}"));
    assert_eq!(shell(&sandbox, "echo lives"), "lives\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_sandbox_that_ends_in_the_middle_ends_its_snapshot() {
    let store = TestStore::new("ends");
    let image = base(&store);
    for wait in [0, 20, 60, 120, 250] {
        let sandbox = start(&store, &image);
        shell(&sandbox, "for i in 1 2 3 4 5 6; do head -c 30000000 /dev/urandom >/$i; done");
        let operation = sandbox.snapshot_begin(None, None).unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let begun = Instant::now();
        sandbox.terminate().unwrap();
        let exit = sandbox.wait(PATIENCE).unwrap();
        assert!(begun.elapsed() < PATIENCE.unwrap() / 3, "{:?}", begun.elapsed());
        assert_eq!(exit.reason, ExitReason::Terminated);
        // Its changes may have been written before: then it is done.
        let ended = operation.wait(PATIENCE);
        assert!(ended.as_ref().err().is_none_or(|error| error.code() == Code::State), "{ended:?}");
        eventually("nothing is left", || {
            store.left().0.is_empty() && processes_with(sandbox.id()).is_empty()
        });
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_host_that_is_killed_in_the_middle_leaves_nothing() {
    const HOST: &str = "SBX_TEST_SNAPSHOT_HOST";
    const SELF: &str = "a_host_that_is_killed_in_the_middle_leaves_nothing";
    let take = |store: &TestStore| {
        let sandbox = start(store, &base(store));
        shell(&sandbox, "for i in 1 2 3 4 5 6; do head -c 30000000 /dev/urandom >/$i; done");
        println!("SANDBOX {}", sandbox.id());
        loop {
            sandbox.snapshot(None).unwrap();
        }
    };
    if let Ok(name) = std::env::var(HOST) {
        take(&TestStore::new(&name));
    }
    for (round, wait) in [10, 50, 150, 300, 600].into_iter().enumerate() {
        let name = format!("killed-{}-{round}", std::process::id());
        let mut host = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", SELF, "--nocapture"])
            .env(HOST, &name)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(std::io::BufReader::new(host.stdout.take().unwrap()));
        let id = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once("SANDBOX ")?.1.to_owned()))
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let below = descendants(host.id());
        assert!(below.iter().any(|(name, _)| name == "sbx-snapshot"), "{below:?}");
        let pid = host.id();
        host.kill().unwrap();
        host.wait().unwrap();
        eventually("every process is gone", || {
            let all = processes();
            below.iter().all(|(_, of)| !all.contains_key(of)) && processes_with(&id).is_empty()
        });
        // What it was writing is collected by the next one that opens the store.
        let scratch = std::env::temp_dir().join(format!("sbx-test-{pid}-{name}"));
        common::images::collected(&scratch);
        fs::remove_dir_all(scratch).unwrap();
    }
}
