//! Directories of a sandbox as images, and images that are copied into a sandbox.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by it"
)]

mod common;

use std::fs;
use std::time::Duration;

use common::busybox::{begin, config, import, root, script, shell, tree};
use common::images::TestStore;
use common::{PATIENCE, eventually};
use sbx::{Code, Config, Event, Image, LimitMode, Queue, Sandbox};

/// What a tree can have, in a directory. `dev`, `tmp` and `etc` are files: the image of a directory needs no root.
const FILL: &str = r#"set -e
    mkdir -p $D/deep/er; echo hello >$D/deep/file; chown 1000:1001 $D/deep/file; chmod 4640 $D/deep/file
    ln $D/deep/file $D/hard; ln $D/deep/file $D/deep/er/hard; ln -s deep/file $D/link; ln -s /nowhere $D/dangling
    mkfifo -m 600 $D/fifo; mkdir -m 1777 $D/sticky; chown 70000:80000 $D/deep; chmod 700 $D/deep
    echo d >$D/dev; echo t >$D/tmp; echo e >$D/etc; echo w >$D/.wh.etc; : >$D/empty
    truncate -s 3M $D/sparse; echo end | dd of=$D/sparse bs=1 seek=5000000 2>/dev/null
    touch "$D/na me" "$D/ümlaut" "$D/$(head -c 240 /dev/zero | tr '\0' x)"
    mkdir -p $D/$(head -c 200 /dev/zero | tr '\0' y)/$(head -c 200 /dev/zero | tr '\0' z)
    (cd $D/y*/z*; echo long >file); head -c 3000000 /dev/urandom >$D/random
    chmod 2750 $D; chown 5:6 $D
    find $D -print0 | xargs -0 touch -h -d '2020-02-02 02:02:02'"#;

fn fill(sandbox: &Sandbox, directory: &str) {
    shell(sandbox, &format!("D={directory}\n{FILL}"));
}

fn start(store: &TestStore, image: &Image) -> Sandbox {
    store.runtime.create(&config(image)).unwrap()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_directory_becomes_an_image_and_the_image_a_directory() {
    let store = TestStore::new("directory");
    let base = import(&store, root());
    let sandbox = start(&store, &base);
    // In the root's overlay and on a tmpfs.
    for directory in ["/data", "/tmp/data"] {
        fill(&sandbox, directory);
        let before = tree(&sandbox, directory);
        let taken = sandbox.snapshot_directory(directory, Some("tests/directory:1")).unwrap();
        assert_eq!((taken.skipped, taken.paused), (0, Duration::ZERO));
        assert_eq!(taken.entries, u64::try_from(before.len()).unwrap(), "with the directory itself");
        assert_eq!(taken.image.info().tags, ["docker.io/tests/directory:1"]);
        assert_eq!(tree(&sandbox, directory), before);
        let mut mounted = config(&base);
        mounted.mount_image(&taken.image, "/mounted").unwrap();
        let again = store.runtime.create(&mounted).unwrap();
        assert_eq!(tree(&again, "/mounted"), before, "mounted");
        for copy in ["/copy", "/tmp/a/b/c", "/data"] {
            let copied = again.copy_image(&taken.image, copy).unwrap();
            assert_eq!((copied.entries, copied.skipped), (taken.entries, 0));
            assert_eq!(copied.bytes, taken.bytes);
            assert_eq!(tree(&again, copy), before, "copied to {copy}");
        }
        // Over what is there: that is replaced, and what has another name stays.
        shell(&again, "echo more >/copy/more; rm /copy/hard; ln -s / /copy/hard; echo x >>/copy/random");
        again.copy_image(&taken.image, "/copy").unwrap();
        let mut over = tree(&again, "/copy");
        assert!(over.remove("./more").is_some());
        assert_eq!(over, before);
        let twice = again.snapshot_directory("/copy", None).unwrap();
        assert_eq!(twice.entries, taken.entries + 1);
        shell(&again, "rm -r /copy/deep; echo file >/copy/deep");
        let error = again.copy_image(&taken.image, "/copy").unwrap_err();
        assert_eq!(error.code(), Code::Exists, "a directory in the place of a file: {error}");
        assert!(error.message().contains("deep"), "{error}");
    }
    assert_eq!(store.left().0.len(), 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn any_root_and_any_mount_has_directories() {
    let store = TestStore::new("mounts");
    let host = store.scratch.0.join("shared");
    fs::create_dir_all(host.join("below")).unwrap();
    fs::write(host.join("below/file"), "of the host").unwrap();
    let mut on_host = Config::new();
    on_host.mount_writable(host.to_str().unwrap(), "/tmp/work/shared").unwrap();
    let secret = host.join("below/file");
    on_host.mount_read_only(secret.to_str().unwrap(), "/tmp/work/in/a file").unwrap();
    let sandbox = store.runtime.create(&on_host).unwrap();
    shell(
        &sandbox,
        "cd /tmp/work && mkdir own && echo mine >own/file && python3 -c 'import socket; \
         socket.socket(socket.AF_UNIX).bind(\"/tmp/work/socket\")'",
    );
    // Of the default root, with a socket and mounts of a directory and a file in it, which are left out.
    let taken = sandbox.snapshot_directory("/tmp/work", None).unwrap();
    let mounted = ["/tmp/work/in/a file", "/tmp/work/shared"].map(str::to_owned);
    assert_eq!((taken.skipped, taken.left_out), (3, mounted.to_vec()));
    let shared = sandbox.snapshot_directory("/tmp/work/shared", None).unwrap();
    assert_eq!((shared.skipped, shared.entries), (0, 3));
    sandbox.copy_image(&taken.image, "/opt/copy").unwrap();
    sandbox.copy_image(&shared.image, "/opt/copy/shared").unwrap();
    assert_eq!(shell(&sandbox, "cat /opt/copy/own/file /opt/copy/shared/below/file"), "mine\nof the host");
    assert_eq!(shell(&sandbox, "cd /opt/copy && ls . in"), ".:\nin\nown\nshared\n\nin:\n");
    // Into a mount: it is on the host then.
    sandbox.copy_image(&taken.image, "/tmp/work/shared/copied").unwrap();
    assert_eq!(fs::read_to_string(host.join("copied/own/file")).unwrap(), "mine\n");
    // The root as a directory: an image to start from, without what is mounted.
    let on_image = start(&store, &import(&store, root()));
    shell(&on_image, "echo kept >/kept; echo not >/tmp/not");
    let whole = on_image.snapshot_directory("/", None).unwrap();
    assert!(whole.skipped >= 4, "{}: /proc, /sys, /dev, /tmp", whole.skipped);
    let again = start(&store, &whole.image);
    assert_eq!(shell(&again, "cat /kept; ls /tmp"), "kept\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn what_can_not_be_is_an_error_that_says_why() {
    let store = TestStore::new("refused");
    let image = import(&store, root());
    let sandbox = start(&store, &image);
    shell(&sandbox, "mkdir /made; echo file >/made/file");
    let failed = |path: &str, tag: Option<&str>| sandbox.snapshot_directory(path, tag).unwrap_err();
    assert_eq!(failed("made", None).code(), Code::Invalid);
    assert_eq!(failed("/made", Some("not a name!")).code(), Code::Invalid);
    for path in ["/nowhere", "/made/file"] {
        let error = failed(path, None);
        assert_eq!(error.code(), Code::NotFound, "{error}");
        assert!(error.message().contains(path), "{error}");
    }
    for path in ["/", "//", "/."] {
        assert_eq!(sandbox.copy_image(&image, path).unwrap_err().code(), Code::Invalid, "{path}");
    }
    let error = sandbox.copy_image(&image, "/made/file").unwrap_err();
    assert!(error.message().contains("/made/file"), "{error}");
    // On a read-only file system.
    let error = sandbox.copy_image(&image, "/.sbx/copy").unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EROFS), "{error}");
    // A giant is found before it is read.
    shell(&sandbox, "truncate -s 1099511627776 /made/giant");
    let error = failed("/made", None);
    assert_eq!(error.code(), Code::Limit, "{error}");
    assert!(error.message().contains("giant"), "{error}");
    shell(&sandbox, "rm /made/giant");
    assert_eq!(sandbox.snapshot_directory("/made", None).unwrap().entries, 2);
    assert_eq!(store.left().0.len(), 0);
    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(failed("/made", None).code(), Code::State);
    assert_eq!(sandbox.copy_image(&image, "/copy").unwrap_err().code(), Code::State);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn programs_that_change_a_directory_do_not_disturb_its_snapshot() {
    let store = TestStore::new("changing");
    let sandbox = start(&store, &import(&store, root()));
    shell(&sandbox, "mkdir /busy; cd /busy; for i in $(seq 300); do echo $i >kept-$i; done");
    let scripts = [
        // Files that grow and shrink at full speed, directories that come and go, names that change what they are.
        "cd /busy; while :; do : >grows; i=0; while [ $i -lt 32 ]; do head -c 1000000 /dev/zero >>grows; i=$((i+1)); done; done",
        "cd /busy; i=0; while :; do i=$((i+1)); mkdir -p come/$i; echo x >come/$i/file; rm -r come; done",
        "cd /busy; while :; do echo x >odd; rm odd; mkdir odd; rmdir odd; ln -s / odd; rm odd; mkfifo odd; rm odd; done",
    ];
    let programs: Vec<_> = scripts.iter().map(|script| begin(&sandbox, script)).collect();
    eventually("they run", || shell(&sandbox, "[ -e /busy/grows ] && echo yes || echo no") == "yes\n");
    for round in 0..5 {
        let taken = sandbox.snapshot_directory("/busy", None).unwrap();
        sandbox.copy_image(&taken.image, format!("/copy-{round}")).unwrap();
        let kept = shell(&sandbox, &format!("cd /copy-{round}; cat kept-* | wc -l; ls | wc -l"));
        assert!(kept.starts_with("300\n"), "{kept}");
    }
    for program in programs {
        assert!(program.exit().is_none(), "it was disturbed");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_program_that_kills_or_stops_the_helper_fails_its_own_sandboxs_operation_only() {
    let store = TestStore::new("killed");
    let sandbox = start(&store, &import(&store, root()));
    shell(&sandbox, "mkdir /big; for i in 1 2 3; do head -c 20000000 /dev/urandom >/big/$i; done");
    let image = sandbox.snapshot_directory("/big", None).unwrap().image;
    for signal in ["KILL", "STOP"] {
        let killer = begin(
            &sandbox,
            &format!(
                "while :; do for p in /proc/[0-9]*; do p=${{p#/proc/}}; \
                 [ $p = 1 ] || [ $p = $$ ] || kill -{signal} $p; done; done 2>/dev/null"
            ),
        );
        for round in 0..3 {
            let out = sandbox.snapshot_directory("/big", None).map(drop);
            let copied = sandbox.copy_image(&image, format!("/copy-{signal}-{round}")).map(drop);
            for ended in [out, copied] {
                assert!(ended.as_ref().err().is_none_or(|error| error.code() == Code::Engine), "{ended:?}");
            }
        }
        killer.signal(libc::SIGKILL).unwrap();
        killer.wait(PATIENCE).unwrap();
        assert_eq!(sandbox.snapshot_directory("/big", None).unwrap().entries, 4);
        assert_eq!(store.left().0.len(), 0);
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn one_that_is_cancelled_leaves_nothing_and_the_sandbox_goes_on() {
    let store = TestStore::new("cancelled");
    let sandbox = start(&store, &import(&store, root()));
    shell(&sandbox, "mkdir /big; for i in 1 2 3 4 5 6; do head -c 20000000 /dev/urandom >/big/$i; done");
    let image = sandbox.snapshot_directory("/big", None).unwrap().image;
    for wait in [0, 10, 50, 150] {
        let queue = Queue::new(64).unwrap();
        let out = sandbox.snapshot_directory_begin("/big", None, Some((&queue, 7))).unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        out.cancel();
        let ended = out.wait(PATIENCE);
        assert!(ended.as_ref().err().is_none_or(|error| error.code() == Code::Closed), "{ended:?}");
        let copy = sandbox.copy_image_begin(&image, format!("/copy-{wait}"), Some((&queue, 7))).unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        copy.cancel();
        let ended = copy.wait(PATIENCE);
        assert!(ended.as_ref().err().is_none_or(|error| error.code() == Code::Closed), "{ended:?}");
        let done = std::iter::from_fn(|| queue.next()).filter(|queued| {
            assert_eq!(queued.cookie, 7);
            matches!(queued.event, Event::OperationDone { .. })
        });
        assert_eq!(done.count(), 2);
        eventually("nothing is left", || {
            store.left().0.is_empty() && shell(&sandbox, "rm -rf /copy-*; echo lives") == "lives\n"
        });
    }
    // The sandbox ends in the middle.
    let out = sandbox.snapshot_directory_begin("/big", None, None).unwrap();
    let copy = sandbox.copy_image_begin(&image, "/copy", None).unwrap();
    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
    let out = out.wait(PATIENCE);
    assert!(out.as_ref().err().is_none_or(|error| error.code() == Code::State), "{out:?}");
    let copy = copy.wait(PATIENCE);
    assert!(copy.as_ref().err().is_none_or(|error| error.code() == Code::State), "{copy:?}");
    eventually("nothing is left", || store.left().0.is_empty());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_copy_counts_as_what_the_sandbox_has_written() {
    let store = TestStore::new("counted");
    let base = import(&store, root());
    let sandbox = start(&store, &base);
    shell(&sandbox, "mkdir /big; head -c 40000000 /dev/urandom >/big/file");
    let image = sandbox.snapshot_directory("/big", None).unwrap().image;
    let mut small = config(&base);
    small.set_disk(10 << 20).unwrap();
    let small = store.runtime.create(&small).unwrap();
    let error = small.copy_image(&image, "/copy").unwrap_err();
    assert_eq!(error.os_error(), Some(libc::ENOSPC), "{error}");
    let (code, said) = script(&small, "rm -r /copy && echo lives");
    assert_eq!((code, said.as_str()), (0, "lives\n"));
    let mut watched = config(&base);
    watched.set_memory(400 << 20).unwrap().set_limit_mode(LimitMode::Watchdog);
    let watched = store.runtime.create(&watched).unwrap();
    let memory = || watched.stats().unwrap().memory.unwrap();
    let before = memory();
    watched.copy_image(&image, "/copy").unwrap();
    eventually("it is counted", || memory() >= before + 39_000_000);
}
