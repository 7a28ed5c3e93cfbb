//! Spares: which creations take one, when none is of use, and what becomes of them.

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

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio as Std};

use common::{PATIENCE, Scratch, alone, children_of, command_line, eventually, output, runtime, script};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sbx::{Code, Config, ExitReason, Policy, Runtime, RuntimeConfig, VolumeMount};

/// What a sandbox's program has said.
fn run(runtime: &Runtime, config: &Config) -> String {
    let sandbox = runtime.create(config).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Exited, 0));
    output(&sandbox)
}

/// A runtime with a spare for configurations like this one.
fn with_spare(config: &Config) -> Runtime {
    let runtime = runtime();
    runtime.set_spares(1).unwrap();
    for _ in 0..2 {
        run(&runtime, config);
    }
    ready(&runtime);
    runtime
}

fn ready(runtime: &Runtime) {
    eventually("a spare", || runtime.spare_stats().ready == 1);
}

fn hits(runtime: &Runtime) -> u64 {
    runtime.spare_stats().hits
}

fn own_children() -> Vec<u32> {
    children_of(std::process::id())
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn every_kind_of_sandbox_can_have_spares() {
    let scratch = Scratch::new("spare-kinds");
    scratch.file("file", "mounted\n");
    let mut tree = image::Tree::new();
    tree.programs(&["sh", "cat", "echo"]);
    for name in ["/proc", "/sys", "/dev", "/tmp", "/.sbx"] {
        tree.directory(name, 0o755, (0, 0));
    }
    let image = tree.write(scratch.path("image"));
    let mount = scratch.path("");
    type Change<'a> = &'a dyn Fn(&mut Config);
    let kinds: [(Change<'_>, &str); 5] = [
        (&|_| (), "sandbox\n"),
        (&|config| drop(config.set_policy(&Policy::blocked())), "sandbox\n"),
        (&|config| drop(config.set_hostname("own").unwrap().set_max_open_files(100)), "own\n"),
        (&|config| drop(config.mount_read_only(&mount, "/mnt")), "mounted\nsandbox\n"),
        (&|config| drop(config.set_image_file(&image)), "sandbox\n"),
    ];
    let runtime = runtime();
    runtime.set_spares(2).unwrap();
    for (change, expected) in kinds {
        let mut config = script("cat /mnt/file 2>/dev/null; cat /etc/hostname");
        change(&mut config);
        for _ in 0..2 {
            assert_eq!(run(&runtime, &config), expected);
        }
        eventually("spares", || runtime.spare_stats().ready == 2);
        let before = hits(&runtime);
        assert_eq!(run(&runtime, &config), expected);
        assert_eq!(hits(&runtime) - before, 1, "{expected}: {:?}", runtime.spare_stats());
        assert_eq!(runtime.spare_stats().failures, 0);
    }
    let stats = runtime.warm_stats(None);
    assert_eq!((stats.hits, stats.wanted), (0, 0), "they are no warm sandboxes: {stats:?}");
    assert!(runtime.sandboxes().is_empty());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_spare_is_no_sandbox_yet_and_one_sandbox_alone_has_none() {
    alone("a_spare_is_no_sandbox_yet_and_one_sandbox_alone_has_none", "", || {
        let runtime = runtime();
        assert_eq!(runtime.spares(), 0);
        for _ in 0..3 {
            run(&runtime, &script("echo alive"));
        }
        assert_eq!(runtime.spare_stats(), sbx::WarmStats::default(), "none by default");
        runtime.set_spares(1).unwrap();
        assert_eq!(runtime.spares(), 1);
        run(&runtime, &script("echo alive"));
        let mut other = script("echo alive");
        other.set_hostname("other").unwrap();
        run(&runtime, &other);
        assert_eq!(runtime.spare_stats().wanted, 0, "they differ");
        run(&runtime, &other);
        ready(&runtime);
        // A keeper and a runsc, with no gofer and no sentry.
        let keepers = own_children();
        assert_eq!(keepers.len(), 1);
        let below = children_of(keepers[0]);
        assert_eq!(below.len(), 1);
        assert_eq!(command_line(below[0])[0], "runsc");
        assert!(children_of(below[0]).is_empty());
        runtime.set_spares(0).unwrap();
        eventually("it ends", || own_children().is_empty());
        assert_eq!(runtime.set_spares(17).unwrap_err().code(), Code::Invalid);
        assert_eq!(runtime.spares(), 0);
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_spare_is_of_no_use_once_what_it_was_made_from_has_changed() {
    alone("a_spare_is_of_no_use_once_what_it_was_made_from_has_changed", "", || {
        let scratch = Scratch::new("spare-changes");
        let mount = scratch.path("mount");
        fs::create_dir(&mount).unwrap();
        fs::write(scratch.path("mount/file"), "old\n").unwrap();
        let mut config = script("cat /mnt/file");
        config.mount_read_only(&mount, "/mnt").unwrap();
        let runtime = with_spare(&config);
        // Another directory of that name.
        fs::rename(&mount, scratch.path("away")).unwrap();
        fs::create_dir(&mount).unwrap();
        fs::write(scratch.path("mount/file"), "new\n").unwrap();
        assert!(run(&runtime, &config).starts_with("new\n"));
        assert_eq!(hits(&runtime), 0);
        ready(&runtime);
        // What a keeper that is started now would inherit.
        let pid = std::process::id().to_string();
        let limited = Command::new("prlimit").args(["--pid", &pid, "--rttime=1000000000"]).status().unwrap();
        assert!(limited.success());
        run(&runtime, &config);
        assert_eq!((hits(&runtime), runtime.spare_stats().discarded), (0, 2));
        ready(&runtime);
        run(&runtime, &config);
        assert_eq!(hits(&runtime), 1);
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_spare_that_dies_is_replaced_and_not_taken() {
    alone("a_spare_that_dies_is_replaced_and_not_taken", "", || {
        let runtime = with_spare(&script("echo alive"));
        let keepers = own_children();
        kill(Pid::from_raw(keepers[0].cast_signed()), Signal::SIGKILL).unwrap();
        eventually("its death is seen", || runtime.spare_stats().failures == 1);
        assert_eq!(run(&runtime, &script("echo alive")), "alive\n");
        ready(&runtime);
        let runsc = children_of(own_children()[0])[0];
        kill(Pid::from_raw(runsc.cast_signed()), Signal::SIGKILL).unwrap();
        eventually("its death is seen", || runtime.spare_stats().failures == 2);
        assert_eq!(run(&runtime, &script("echo alive")), "alive\n");
        assert_eq!(hits(&runtime), 0);
        ready(&runtime);
        assert_eq!(run(&runtime, &script("echo alive")), "alive\n");
        assert_eq!(hits(&runtime), 1);
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn sandboxes_with_volumes_have_no_spares_and_creations_that_lack_something_end_them() {
    alone("sandboxes_with_volumes_have_no_spares_and_creations_that_lack_something_end_them", "", || {
        let runtime = with_spare(&script("echo alive"));
        runtime.pretend_low_memory(true);
        assert_eq!(run(&runtime, &script("echo alive")), "alive\n");
        assert_eq!((hits(&runtime), runtime.spare_stats().discarded), (0, 1));
        runtime.pretend_low_memory(false);
        let scratch = Scratch::new("spare-volumes");
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
        let volumes = RuntimeConfig::new().volume_directory(scratch.path("volumes"));
        let runtime = Runtime::new(&volumes).unwrap();
        runtime.set_spares(1).unwrap();
        let mut config = script("echo alive");
        let volume = VolumeMount::new("cache").create();
        config.mount_volume(&volume, "/cache").unwrap();
        for _ in 0..3 {
            run(&runtime, &config);
        }
        assert_eq!(runtime.spare_stats(), sbx::WarmStats::default());
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn spares_end_with_their_runtime_and_are_ended_while_they_are_made() {
    alone("spares_end_with_their_runtime_and_are_ended_while_they_are_made", "", || {
        let first = with_spare(&script("echo alive"));
        first.shutdown();
        assert!(own_children().is_empty());
        assert_eq!(first.set_spares(1).unwrap_err().code(), Code::Closed);
        let filling = runtime();
        filling.set_spares(16).unwrap();
        for _ in 0..2 {
            run(&filling, &script("echo alive"));
        }
        eventually("one is being made", || filling.spare_stats().filling == 1);
        drop(filling);
        assert!(own_children().is_empty());
    });
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn spares_end_with_their_host() {
    const HOST: &str = "SBX_TEST_SPARES_HOST";
    if std::env::var_os(HOST).is_some() {
        let runtime = with_spare(&script("echo alive"));
        // A child that lives on has the same descriptors.
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        println!("ready {}", child.id());
        child.wait().unwrap();
        return drop(runtime);
    }
    let mut host = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spares_end_with_their_host", "--nocapture"])
        .env(HOST, "1")
        .stdout(Std::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find_map(|line| line.split_once("ready ").map(|(_, pid)| pid.to_owned()));
    let child: u32 = line.unwrap().parse().unwrap();
    let keepers: Vec<u32> = children_of(host.id()).into_iter().filter(|pid| *pid != child).collect();
    assert_eq!(keepers.len(), 1);
    let below = children_of(keepers[0]);
    assert_eq!(below.len(), 1);
    host.kill().unwrap();
    host.wait().unwrap();
    let is_there =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    eventually("nothing is left", || !keepers.iter().chain(&below).any(is_there));
    kill(Pid::from_raw(child.cast_signed()), Signal::SIGKILL).unwrap();
}
