//! F7 and F10: what the host lacks is one precise error each, and what isn't needed isn't missed.

use std::process::Command;

use crate::census::{self, Census};
use crate::host::{Scratch, compile};

const HOST: i32 = -1011;

/// Runs a host where these commands were given first, as root of a user and mount namespace of its own: what it
/// said. The directory `$D` is its own.
fn host_after(commands: &str, argument: &str) -> Option<String> {
    let namespaces = ["--user", "--map-root-user", "--mount"];
    // Uid 0 without CAP_SETFCAP may not have them, and neither has it sandboxes.
    let possible = Command::new("unshare").args(namespaces).arg("true").output().unwrap().status.success();
    if !possible {
        return None;
    }
    let _turn = census::turn();
    let program = compile("hosts", "once", true);
    let scratch = Scratch::new();
    let before = Census::take(&scratch.0, &[]);
    let output = Command::new("unshare")
        .args(namespaces)
        .args(["sh", "-ec"])
        .arg(format!("{commands}\nexec \"$1\" {argument}"))
        .arg("-")
        .arg(&program)
        .env("D", &scratch.0)
        .env("TMPDIR", &scratch.0)
        .env("XDG_RUNTIME_DIR", &scratch.0)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{commands}: {}: {out}{err}", output.status);
    before.again(&scratch.0, &[]).unwrap();
    println!("{commands}: {out}");
    // The doctor says the same, whatever it is.
    let (created, usable) = (out.starts_with("created\n"), out.contains("the doctor: usable\n"));
    assert_eq!(created, usable, "{commands}: {out}");
    Some(out.into_owned())
}

#[track_caller]
fn refused(commands: &str, argument: &str, code: i32, texts: &[&str]) {
    let Some(said) = host_after(commands, argument) else { return };
    assert!(said.starts_with(&format!("{code} ")), "{said}");
    for text in texts {
        assert!(said.contains(text), "{said} lacks {text:?}");
    }
}

#[track_caller]
fn created(commands: &str) {
    let Some(said) = host_after(commands, "") else { return };
    assert!(said.starts_with("created\n"), "{said}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn without_user_namespaces_the_setting_is_named() {
    let texts = ["user namespace", "No space left", "sysctl user.max_user_namespaces"];
    refused("echo 0 >/proc/sys/user/max_user_namespaces", "", HOST, &texts);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn without_network_namespaces_the_step_is_named() {
    let texts = ["network namespace G", "No space left", "max_net_namespaces=15000\n", "namespaces: network"];
    refused("echo 0 >/proc/sys/user/max_net_namespaces", "", HOST, &texts);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn without_mount_namespaces_the_step_is_named() {
    let texts = ["mount namespace", "No space left", "max_mnt_namespaces=15000\n", "namespaces: mount"];
    refused("echo 0 >/proc/sys/user/max_mnt_namespaces", "", HOST, &texts);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn without_ipc_namespaces_the_step_is_named() {
    let texts = ["ipc namespace", "No space left", "max_ipc_namespaces=15000\n", "namespaces: ipc"];
    refused("echo 0 >/proc/sys/user/max_ipc_namespaces", "", HOST, &texts);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn too_few_namespaces_for_gvisor_are_named_and_the_doctor_knows() {
    for (kind, counts) in [("pid", 0..4), ("net", 1..4), ("ipc", 1..4), ("uts", 0..4)] {
        for count in counts {
            let commands = format!("echo {count} >/proc/sys/user/max_{kind}_namespaces");
            let Some(said) = host_after(&commands, "") else { return };
            if !said.starts_with("created\n") {
                assert!(said.contains(&format!("max_{kind}_namespaces")), "{commands}: {said}");
            }
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn limits_that_gvisor_can_not_live_with_are_named() {
    refused("ulimit -f 100000", "", HOST, &["RLIMIT_FSIZE", "ulimit -f unlimited", "process: "]);
    refused("ulimit -f 2000000", "", HOST, &["RLIMIT_FSIZE"]);
    created("ulimit -f 2097152");
    refused("ulimit -v 400000", "", HOST, &["RLIMIT_AS", "ulimit -v unlimited"]);
    created("ulimit -v 8000000");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn uid_0_that_can_not_map_itself_is_named() {
    let drop = "exec setpriv --bounding-set=-all --inh-caps=-all \"$1\"";
    refused(drop, "", HOST, &["CAP_SETFCAP", "ordinary user", "user_namespaces: "]);
}

#[test]
fn an_empty_dev_is_named() {
    refused("mount -t tmpfs empty /dev", "", HOST, &["/dev/null is not there", "process: "]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_chroot_is_named() {
    // A directory that is no mount, with the host's file system in it.
    let chroot = "mount -t tmpfs own \"$D\"; mkdir \"$D/root\"; \
                  for d in usr bin sbin lib lib64 etc dev proc tmp var; do [ -d /$d ] || continue; \
                  mkdir \"$D/root/$d\"; mount --rbind /$d \"$D/root/$d\"; done; \
                  exec chroot \"$D/root\" \"$1\"";
    refused(chroot, "", HOST, &["chroot", "pivot_root", "user_namespaces: "]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_filter_that_refuses_unshare_is_named_with_the_doctor() {
    refused("", "no-unshare", HOST, &["user namespace", "not permitted", "sbx_runtime_check"]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn full_directories_for_temporary_files_are_not_missed() {
    created("mount -t tmpfs -o size=4k,nr_inodes=3 full \"$D\"; cat /dev/zero >\"$D/fill\" 2>/dev/null || :");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn read_only_directories_for_temporary_files_are_not_missed() {
    created("mount -t tmpfs -o ro empty \"$D\"; mount -t tmpfs -o ro empty /dev/shm");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn directories_for_temporary_files_that_are_not_there_are_not_missed() {
    created("export TMPDIR=/nowhere XDG_RUNTIME_DIR=/nowhere");
}

#[test]
fn without_proc_that_is_said() {
    refused("mount -t tmpfs -o ro empty /proc", "", HOST, &["/proc is not mounted"]);
}
