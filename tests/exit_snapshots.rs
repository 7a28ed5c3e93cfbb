//! Exit snapshots: what a sandbox has at its end is a new image.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by it"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::time::Duration;

use common::busybox::{begin, config, import, root, shell};
use common::images::{Layer, Made, TestStore};
use common::{PATIENCE, eventually, processes_with};
use sbx::{
    Code, Config, Event, ExitReason, Image, ImageOptions, LimitMode, PortKind, Queue, QueuedEvent, Sandbox,
};
use serde_json::json;

/// A config with an exit snapshot, whose program is a script.
fn saved(image: &Image, script: &str) -> Config {
    let mut config = Config::new();
    config.set_image(image).unwrap().set_exit_snapshot(None).unwrap();
    config.set_env("PATH", "/bin").unwrap().set_command(["/bin/sh", "-c", script]).unwrap();
    config
}

/// What has happened to a sandbox that has ended.
fn events(queue: &Queue) -> Vec<Event> {
    std::iter::from_fn(|| queue.next()).map(|queued: QueuedEvent| queued.event).collect()
}

/// What an image has in a file.
fn content(store: &TestStore, image: &Image, file: &str) -> String {
    let sandbox = store.runtime.create(&config(image)).unwrap();
    shell(&sandbox, &format!("cat {file}"))
}

/// Why there is no exit snapshot. The event says the same, before that of the end.
fn reason(sandbox: &Sandbox, queue: &Queue) -> String {
    let error = sandbox.exit_snapshot().unwrap_err();
    let all = events(queue);
    let [.., Event::ExitSnapshot { image: Err(told), .. }, Event::Exited { .. }] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(told, &error);
    error.message().to_owned()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn each_end_leaves_an_image() {
    let store = TestStore::new("ends");
    let base = import(&store, root());
    let stay = "echo kept >/kept; echo not >/tmp/not; rm /etc/motd; : >/ready; while :; do sleep 1; done";
    type End = fn(&Sandbox);
    // A second, in which what comes before `/ready` is done: an emulated machine takes longer.
    let second = PATIENCE.unwrap() / 30;
    let long = 100 * second;
    let ends: [(&str, Duration, Option<Duration>, End, ExitReason); 5] = [
        ("echo kept >/kept; rm /etc/motd; exit 3", long, None, |_| (), ExitReason::Exited),
        (stay, long, None, |sandbox| sandbox.terminate().unwrap(), ExitReason::Terminated),
        (
            stay,
            long,
            None,
            |sandbox| sandbox.stop(libc::SIGTERM, Duration::ZERO).unwrap(),
            ExitReason::Terminated,
        ),
        (stay, 3 * second, None, |_| (), ExitReason::TimedOut),
        (stay, long, Some(second), |_| (), ExitReason::Idle),
    ];
    for (number, (script, timeout, idle_timeout, end, expected)) in ends.into_iter().enumerate() {
        let queue = Queue::new(64).unwrap();
        let mut config = saved(&base, script);
        config.set_timeout(timeout).unwrap().set_queue(&queue, 1).unwrap();
        config.set_exit_snapshot(Some(&format!("tests/exit:{number}"))).unwrap();
        if let Some(idle_timeout) = idle_timeout {
            config.set_idle_timeout(idle_timeout).unwrap();
        }
        let sandbox = store.runtime.create(&config).unwrap();
        if matches!(expected, ExitReason::Terminated) {
            eventually("it is ready", || sandbox.stat_file("/ready", &sbx::FileOptions::new()).is_ok());
            assert_eq!(sandbox.exit_snapshot().unwrap_err().code(), Code::State);
        }
        end(&sandbox);
        let exit = sandbox.wait(PATIENCE.map(|patience| 3 * patience)).unwrap();
        assert_eq!(exit.reason, expected);
        let image = sandbox.exit_snapshot().unwrap().image;
        let all = events(&queue);
        let [.., Event::ExitSnapshot { image: Ok(id), .. }, Event::Exited { .. }] = &all[..] else {
            panic!("{all:?}")
        };
        assert_eq!(id, image.id());
        // Two ends in one second leave the same image, which has both names.
        assert!(image.info().tags.contains(&format!("docker.io/tests/exit:{number}")));
        assert_eq!(content(&store, &image, "/kept; ls /etc | grep motd; ls /tmp"), "kept\n");
        // And of that one, too.
        let mut again = saved(&image, "echo more >>/kept");
        again.set_timeout(long).unwrap();
        let again = store.runtime.create(&again).unwrap();
        again.wait(PATIENCE).unwrap();
        assert_eq!(content(&store, &again.exit_snapshot().unwrap().image, "/kept"), "kept\nmore\n");
    }
    assert_eq!(store.left().0.len(), 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn programs_are_killed_and_connections_closed_before() {
    let store = TestStore::new("closed");
    let base = import(&store, root());
    // Daemons that left their session, and a fork bomb's beginning.
    let script = "for i in 1 2 3 4 5 6 7 8; do setsid sh -c 'while :; do echo x >>/log; sleep 0.01; done' & done; \
                  (while :; do head -c 100000000 /dev/urandom >/big; sleep 1000; done) & \
                  exec nc -ll -p 7000 -e cat";
    let mut config = saved(&base, script);
    config.add_port(7000, PortKind::Unencrypted).unwrap();
    let sandbox = store.runtime.create(&config).unwrap();
    sandbox.wait_ready(PATIENCE).unwrap();
    eventually("they run", || shell(&sandbox, "stat -c %s /log /big 2>/dev/null | wc -l").trim() == "2");
    let tunnels = sandbox.tunnels(PATIENCE).unwrap();
    let tunnel = tunnels.get(7000).unwrap().tcp_socket();
    let mut open = TcpStream::connect(tunnel).unwrap();
    open.set_read_timeout(PATIENCE).unwrap();
    let program = begin(&sandbox, "while :; do sleep 1; done");
    // While another snapshot is taken, which is given up.
    let other = sandbox.snapshot_begin(None, None).unwrap();
    sandbox.terminate().unwrap();
    // Closed or reset, at once and not when the image is there.
    let _ = open.read(&mut [0; 16]);
    let exit = sandbox.wait(PATIENCE.map(|patience| 3 * patience)).unwrap();
    assert_eq!(exit.reason, ExitReason::Terminated);
    assert_eq!(program.wait(PATIENCE).unwrap().reason, ExitReason::Terminated);
    let image = sandbox.exit_snapshot().unwrap().image;
    let other = other.wait(PATIENCE);
    assert!(other.as_ref().err().is_none_or(|error| error.code() == Code::State), "{other:?}");
    let lines = content(&store, &image, "/log | wc -l");
    assert!(lines.trim().parse::<u64>().unwrap() > 0);
    eventually("nothing is left", || store.left().0.is_empty() && processes_with(sandbox.id()).is_empty());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn the_host_can_do_without() {
    let store = TestStore::new("without");
    let base = import(&store, root());
    let images = || store.runtime.list_images().unwrap().len();
    let large =
        "for i in 1 2 3 4; do head -c 30000000 /dev/urandom >/$i; done; : >/ready; while :; do sleep 1; done";
    let start = || {
        let queue = Queue::new(64).unwrap();
        let mut config = saved(&base, large);
        config.set_queue(&queue, 1).unwrap();
        let sandbox = store.runtime.create(&config).unwrap();
        eventually("it is ready", || sandbox.stat_file("/ready", &sbx::FileOptions::new()).is_ok());
        (sandbox, queue)
    };
    let before = images();
    // Terminated again, at once and in the middle.
    for wait in [0, 20, 100] {
        let (sandbox, queue) = start();
        sandbox.terminate().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        sandbox.terminate().unwrap();
        assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, ExitReason::Terminated);
        // It may have been stored before.
        if sandbox.exit_snapshot().is_err() {
            assert!(reason(&sandbox, &queue).contains("terminated again"));
        } else {
            assert!(wait > 0, "it takes longer than that");
        }
        eventually("nothing is left", || store.left().0.is_empty());
    }
    // Freed.
    let stored = images();
    let (sandbox, queue) = start();
    let id = sandbox.id().to_owned();
    sandbox.terminate().unwrap();
    drop(sandbox);
    eventually("it is gone", || store.left().0.is_empty() && processes_with(&id).is_empty());
    eventually("its end is told", || {
        events(&queue).iter().any(|event| matches!(event, Event::Exited { .. }))
    });
    assert_eq!(images(), stored);
    assert!(stored >= before);
    // Without one, or without an image to take it of.
    let plain = store.runtime.create(&config(&base)).unwrap();
    plain.terminate().unwrap();
    plain.wait(PATIENCE).unwrap();
    assert_eq!(plain.exit_snapshot().unwrap_err().code(), Code::NotFound);
    let error = store.runtime.create(Config::new().set_exit_snapshot(None).unwrap()).unwrap_err();
    assert_eq!(error.code(), Code::Invalid);
    assert_eq!(Config::new().set_exit_snapshot(Some("not a name!")).unwrap_err().code(), Code::Invalid);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn there_is_none_after_a_lack_of_memory_or_a_loss() {
    let store = TestStore::new("lost");
    let base = import(&store, root());
    let queue = Queue::new(64).unwrap();
    let mut bomb = saved(&base, "cat /dev/zero >/fill");
    bomb.set_memory(128 << 20).unwrap().set_limit_mode(LimitMode::Watchdog);
    bomb.set_queue(&queue, 1).unwrap();
    let bomb = store.runtime.create(&bomb).unwrap();
    assert_eq!(bomb.wait(PATIENCE).unwrap().reason, ExitReason::OutOfMemory);
    assert!(reason(&bomb, &queue).contains("out of memory"));
    // Its engine is killed, while its program runs and while it is saved.
    for is_saving in [false, true] {
        let queue = Queue::new(64).unwrap();
        let mut config =
            saved(&base, "head -c 100000000 /dev/urandom >/big; : >/ready; while :; do sleep 1; done");
        config.set_queue(&queue, 1).unwrap();
        let sandbox = store.runtime.create(&config).unwrap();
        eventually("it is ready", || sandbox.stat_file("/ready", &sbx::FileOptions::new()).is_ok());
        if is_saving {
            sandbox.terminate().unwrap();
            eventually("it is saved", || sandbox.state() == sbx::State::Ending);
        }
        kill(sandbox.id());
        let exit = sandbox.wait(PATIENCE).unwrap();
        assert_eq!(exit.reason == ExitReason::Terminated, is_saving, "{exit:?}");
        // Killed that late, the image may have been stored before.
        if !is_saving || sandbox.exit_snapshot().is_err() {
            let why = reason(&sandbox, &queue);
            // The part that notices first says what it has lost.
            assert!(is_saving || why.contains("engine was lost"), "{why}");
        }
        eventually("nothing is left", || store.left().0.is_empty());
    }
}

/// Kills the processes of a sandbox's runsc.
fn kill(id: &str) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
            && String::from_utf8_lossy(&line).contains(id)
        {
            // It may have ended.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_host_that_is_killed_leaves_nothing() {
    const HOST: &str = "SBX_TEST_EXIT_HOST";
    const SELF: &str = "a_host_that_is_killed_leaves_nothing";
    if let Ok(name) = std::env::var(HOST) {
        let store = TestStore::new(&name);
        let script = "head -c 100000000 /dev/urandom >/big; : >/ready; while :; do sleep 1; done";
        let sandbox = store.runtime.create(&saved(&import(&store, root()), script)).unwrap();
        eventually("it is ready", || sandbox.stat_file("/ready", &sbx::FileOptions::new()).is_ok());
        sandbox.terminate().unwrap();
        println!("SANDBOX {}", sandbox.id());
        sandbox.wait(None).unwrap();
        std::thread::sleep(PATIENCE.unwrap());
    }
    for (round, wait) in [0, 50, 200].into_iter().enumerate() {
        let name = format!("killed-{}-{round}", std::process::id());
        let mut host = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", SELF, "--nocapture"])
            .env(HOST, &name)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(host.stdout.take().unwrap()).lines();
        let id = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.split_once("SANDBOX ")?.1.to_owned()))
            .unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let pid = host.id();
        host.kill().unwrap();
        host.wait().unwrap();
        eventually("every process is gone", || processes_with(&id).is_empty());
        let scratch = std::env::temp_dir().join(format!("sbx-test-{pid}-{name}"));
        common::images::collected(&scratch);
        fs::remove_dir_all(scratch).unwrap();
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn an_exit_snapshot_that_fails_lets_the_sandbox_end() {
    let store = TestStore::new("fails");
    let base = import(&store, root());
    let queue = Queue::new(64).unwrap();
    let mut config = saved(&base, "truncate -s 1099511627776 /giant; exit 3");
    config.set_queue(&queue, 1).unwrap();
    let sandbox = store.runtime.create(&config).unwrap();
    assert_eq!(sandbox.wait(PATIENCE.map(|patience| 3 * patience)).unwrap().code, 3);
    assert_eq!(sandbox.exit_snapshot().unwrap_err().code(), Code::Limit);
    let why = reason(&sandbox, &queue);
    assert!(why.contains("/giant"), "{why}");
    assert_eq!(store.left().0.len(), 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn the_images_stop_signal_is_used_and_kept() {
    let store = TestStore::new("signals");
    let script = "trap 'echo usr1 >>/said; exit 5' USR1; trap 'exit 6' TERM; echo $HOSTNAME >>/said; : >/ready; \
                  while :; do sleep 0.1; done";
    let settings = json!({"StopSignal": "SIGUSR1", "Env": ["PATH=/bin"], "Cmd": ["/bin/sh", "-c", script]});
    let path = store.scratch.0.join("signals.tar");
    fs::write(&path, Made::new(vec![Layer::plain(root())], &settings).docker_archive("signals:1")).unwrap();
    let mut image = store.runtime.import_image(path, &ImageOptions::new()).unwrap();
    // Of an image, of its snapshot, and of that one's.
    for round in 1..=3 {
        assert_eq!(image.config().stop_signal.as_deref(), Some("SIGUSR1"));
        let mut config = Config::new();
        config.set_image(&image).unwrap().set_exit_snapshot(None).unwrap().set_hostname("box").unwrap();
        let sandbox = store.runtime.create(&config).unwrap();
        eventually("it is ready", || sandbox.stat_file("/ready", &sbx::FileOptions::new()).is_ok());
        shell(&sandbox, "rm /ready");
        sandbox.stop(0, PATIENCE.unwrap()).unwrap();
        let exit = sandbox.wait(PATIENCE.map(|patience| 3 * patience)).unwrap();
        assert_eq!((exit.reason, exit.code), (ExitReason::Exited, 5));
        image = sandbox.exit_snapshot().unwrap().image;
        assert_eq!(content(&store, &image, "/said"), "box\nusr1\n".repeat(round));
    }
    // Without one it is SIGTERM, as docker's is.
    let mut config =
        saved(&import(&store, root()), "trap 'exit 6' TERM; : >/ready; while :; do sleep 0.1; done");
    config.set_exit_snapshot(None).unwrap();
    let sandbox = store.runtime.create(&config).unwrap();
    eventually("it is ready", || sandbox.stat_file("/ready", &sbx::FileOptions::new()).is_ok());
    sandbox.stop(0, PATIENCE.unwrap()).unwrap();
    assert_eq!(sandbox.wait(PATIENCE.map(|patience| 3 * patience)).unwrap().code, 6);
}
