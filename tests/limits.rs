//! What a sandbox may use of the host: each bomb is contained, and a second sandbox answers meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{PATIENCE, config, output, peer, script};
use sbx::{Config, ExitReason, Sandbox, Stream};

/// Lets a program do its worst until it ends, and has a second sandbox answer meanwhile.
fn contained(config: &Config) -> Sandbox {
    peer::contained(&common::runtime(), config)
}

fn python(program: &str) -> Config {
    config(&["python3", "-c", program])
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_fork_bomb_gets_eagain_at_its_limit() {
    let mut config = python(
        "import os, time\nheld = []\ntry:\n  while True:\n    pid = os.fork()\n    if pid == 0: time.sleep(1000)\n    \
         held.append(pid)\nexcept BlockingIOError: print(len(held))",
    );
    config.set_max_processes(50).unwrap();
    let bomb = contained(&config);
    assert_eq!(output(&bomb), "49\n", "python itself is one of 50");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_thread_bomb_gets_eagain_at_its_limit() {
    let mut config = python(
        "import threading, time\nheld = 0\ntry:\n  while True:\n    \
         threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n    held += 1\n\
         except RuntimeError: print(held)",
    );
    config.set_max_processes(50).unwrap();
    let bomb = contained(&config);
    assert_eq!(output(&bomb), "49\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_shells_fork_bomb_changes_nothing_for_others() {
    let mut config = script("f() { f | f & }; f; sleep 3; exit 5");
    config.set_max_processes(100).unwrap();
    let bomb = contained(&config);
    let exit = bomb.wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::Exited, 5));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_limit_of_processes_can_not_be_raised_inside() {
    let runtime = common::runtime();
    let mut config = python(
        "import resource\ntry:\n  resource.setrlimit(resource.RLIMIT_NPROC, (1000, 1000))\nexcept ValueError: print('no')",
    );
    config.set_max_processes(50).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(output(&sandbox), "no\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_full_disk_is_enospc() {
    const MIB: u64 = 1 << 20;
    for directory in ["/", "/tmp", "/dev/shm", "/root"] {
        let program = format!(
            "written = 0\ntry:\n  with open('{directory}/fill', 'wb', 0) as file:\n    while True: written += \
             file.write(b'x' * 65536)\nexcept OSError as error: print(error.errno, written)"
        );
        let mut config = python(&program);
        config.set_disk(16 * MIB).unwrap();
        let bomb = contained(&config);
        let said = output(&bomb);
        let (errno, written) = said.trim().split_once(' ').unwrap();
        assert_eq!(errno, libc::ENOSPC.to_string(), "{directory}: {said}");
        let written: u64 = written.parse().unwrap();
        assert!((15 * MIB..=16 * MIB).contains(&written), "{directory}: {written}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn descriptors_run_out_at_their_limit() {
    let mut config = python(
        "import os, resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE))\ntry:\n  \
         while True: last = os.open('/', 0)\nexcept OSError as error: print(error.errno, last)",
    );
    config.set_max_open_files(100).unwrap();
    let bomb = contained(&config);
    assert_eq!(output(&bomb), format!("(100, 100)\n{} 99\n", libc::EMFILE));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_flood_of_output_is_bounded() {
    let flood = script("yes | head -c 300000000; exit 7");
    let bomb = contained(&flood);
    assert_eq!(bomb.wait(PATIENCE).unwrap().code, 7);
    let captured = bomb.captured(Stream::Stdout).unwrap();
    assert!(captured.head.len() + captured.tail.len() < 1 << 20);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn descriptors_inside_are_none_of_the_hosts() {
    let mut config = python(
        "import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (1 << 17, 1 << 17))\n\
         fds = [os.dup(0) for _ in range(100000)]\nprint(len(fds))",
    );
    config.set_timeout(PATIENCE.unwrap()).unwrap();
    let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let bomb = contained(&config);
    assert_eq!(output(&bomb), "100000\n");
    assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() < before + 64);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_read_only_mount_is_erofs_inside() {
    let runtime = common::runtime();
    let scratch = common::Scratch::new("mounts");
    let mut config = script("echo x >/out/file && cat /out/file; echo x >/in/file || echo refused");
    config.mount_writable(&scratch.path(""), "/out").unwrap();
    config.mount_read_only(&scratch.path(""), "/in").unwrap();
    let sandbox = runtime.create(&config).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(output(&sandbox), "x\nrefused\n");
    assert_eq!(std::fs::read_to_string(scratch.path("file")).unwrap(), "x\n");
}
