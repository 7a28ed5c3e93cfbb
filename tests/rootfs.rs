//! Root file systems: the curated view of the host, and a directory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use common::{PATIENCE, Scratch, config, output, runtime, script, text};
use sbx::{Code, Config, Runtime, Stream};

fn run(runtime: &Runtime, config: &Config) -> String {
    let sandbox = runtime.create(config).unwrap();
    let exit = sandbox.wait(PATIENCE).unwrap();
    assert_eq!(exit.code, 0, "{}{}", output(&sandbox), text(&sandbox, Stream::Stderr));
    output(&sandbox)
}

/// What the programs of the made root directories do: print the files named, write to the last.
const PROGRAM: &str = r#"
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    char line[256];
    for (int i = 1; i < argc; i++) {
        FILE *f = argv[i][0] == '+' ? fopen(argv[i] + 1, "w") : fopen(argv[i], "r");
        if (!f) { printf("%s: not there\n", argv[i]); continue; }
        if (argv[i][0] == '+') { fputs("written inside\n", f); fclose(f); printf("%s\n", argv[i]); continue; }
        while (fgets(line, sizeof line, f)) fputs(line, stdout);
        fclose(f);
    }
    return 0;
}
"#;

/// A root directory with one static program, `/bin/show`, that anybody may read.
fn made(name: &str) -> (Scratch, String) {
    let scratch = Scratch::new(name);
    let source = scratch.file("show.c", PROGRAM);
    let root = scratch.path("root");
    fs::create_dir_all(format!("{root}/bin")).unwrap();
    fs::create_dir_all(format!("{root}/data")).unwrap();
    fs::write(format!("{root}/data/file"), "of the image\n").unwrap();
    let built = Command::new("cc").args(["-static", "-o", &format!("{root}/bin/show"), &source]).status();
    assert!(built.is_ok_and(|status| status.success()), "cc -static has failed: is there a C compiler?");
    (scratch, root)
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_working_directory_that_is_not_in_it_is_made_above_it() {
    let runtime = runtime();
    let (_scratch, root) = made("workdir");
    let mut config = config(&["/bin/show", "+here", "/data/new/here"]);
    config.set_rootfs(&root).unwrap().set_workdir("/data/new").unwrap();
    assert_eq!(run(&runtime, &config), "+here\nwritten inside\n");
    assert_eq!(fs::read_dir(format!("{root}/data")).unwrap().count(), 1, "the directory is as it was");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_directory_is_the_root_and_nothing_written_reaches_it() {
    let runtime = runtime();
    let (_scratch, root) = made("plain");
    let before = listing(&root);
    let mut config = config(&[
        "/bin/show",
        "/data/file",
        "+/data/file",
        "/data/file",
        "+/new",
        "/new",
        "/etc/passwd-",
        "/usr/bin/env",
    ]);
    config.set_rootfs(&root).unwrap();
    let said = run(&runtime, &config);
    assert_eq!(
        said,
        "of the image\n+/data/file\nwritten inside\n+/new\nwritten inside\n/etc/passwd-: not there\n/usr/bin/env: not there\n"
    );
    assert_eq!(fs::read_to_string(format!("{root}/data/file")).unwrap(), "of the image\n");
    assert_eq!(listing(&root), before);
    // Two sandboxes of one directory see nothing of each other.
    let mut again = common::config(&["/bin/show", "/data/file", "/new"]);
    again.set_rootfs(&root).unwrap();
    assert_eq!(run(&runtime, &again), "of the image\n/new: not there\n");
}

fn listing(directory: &str) -> String {
    let output = Command::new("find").args([directory, "-ls"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn links_in_a_root_directory_lead_nowhere_else() {
    let runtime = runtime();
    for (name, link) in [("etc", "etc"), ("proc", "proc"), ("dev", "dev"), ("sys", "sys"), ("tmp", "tmp")] {
        let (scratch, root) = made(&format!("link-{name}"));
        let outside = scratch.path("outside");
        fs::create_dir(&outside).unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(format!("{outside}/secret"), "SECRET\n").unwrap();
        for target in [outside.clone(), "../outside".to_owned()] {
            let path = format!("{root}/{link}");
            symlink(&target, &path).unwrap();
            let mut config = config(&["/bin/show", &format!("/{link}/secret"), &format!("+/{link}/new")]);
            config.set_rootfs(&root).unwrap();
            // It is refused, or the link leads to something inside; the host's files are out of reach either way.
            match runtime.create(&config) {
                Ok(sandbox) => {
                    sandbox.wait(PATIENCE).unwrap();
                    assert!(!output(&sandbox).contains("SECRET"), "{link} -> {target}");
                }
                Err(error) => {
                    assert!(matches!(error.code(), Code::Engine | Code::Invalid | Code::Host), "{error}")
                }
            }
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{link} -> {target}: written outside");
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_mount_through_a_link_of_the_root_directory_stays_inside() {
    let runtime = runtime();
    let (scratch, root) = made("mount-link");
    let outside = scratch.path("outside");
    fs::create_dir(&outside).unwrap();
    let source = scratch.file("source", "mounted\n");
    symlink(&outside, format!("{root}/link")).unwrap();
    let mut config = config(&["/bin/show", "/link/file"]);
    config.set_rootfs(&root).unwrap().mount_read_only(&source, "/link/file").unwrap();
    match runtime.create(&config) {
        Ok(sandbox) => drop(sandbox.wait(PATIENCE).unwrap()),
        Err(error) => assert!(matches!(error.code(), Code::Engine | Code::Invalid), "{error}"),
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_root_directory_that_is_none() {
    let runtime = runtime();
    let scratch = Scratch::new("none");
    for path in [scratch.path("absent"), scratch.file("file", "")] {
        let mut config = config(&["true"]);
        config.set_rootfs(&path).unwrap();
        let error = runtime.create(&config).unwrap_err();
        assert!(error.message().contains(&path), "{error}");
        assert_eq!(error.code(), Code::Invalid, "{error}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_default_view_hides_what_is_the_hosts_own() {
    let runtime = runtime();
    let look = "find /var /run ! -type d ! -type l; for d in /root /home /srv /mnt /media /opt /boot /lost+found; do \
                  [ -z \"$(ls -A $d 2>/dev/null)\" ] || echo \"$d: $(ls -A $d)\"; done; \
                for f in /etc/shadow /etc/sudoers /etc/ssh /etc/machine-id /etc/fstab /proc/1/root/etc/shadow; do \
                  [ -e $f ] && echo $f; done; cat /etc/hostname; grep -c . /etc/passwd >/dev/null && echo passwd";
    let said = run(&runtime, &script(look));
    assert_eq!(said, "sandbox\npasswd\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_default_view_has_the_directories_of_programs_and_no_others() {
    let runtime = runtime();
    let known =
        ["bin", "games", "include", "lib", "lib32", "lib64", "libexec", "libx32", "local", "sbin", "share"];
    let said = run(&runtime, &script("ls /usr; echo; ls /usr/local"));
    let (usr, local) = said.split_once("\n\n").unwrap();
    for name in usr.lines() {
        assert!(known.contains(&name), "/usr/{name}");
    }
    for name in local.lines() {
        assert!(known.contains(&name) || name == "go", "/usr/local/{name}");
    }
    assert!(usr.contains("bin\n") && usr.contains("share"), "{said}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_default_view_knows_services_protocols_and_how_to_add_a_user() {
    let runtime = runtime();
    let said = run(
        &runtime,
        &script("getent services http; getent protocols tcp; ls -d /etc/skel; ls -A /etc/skel | wc -l"),
    );
    assert!(said.contains("80/tcp") && said.contains("tcp") && said.contains("/etc/skel"), "{said}");
    if !std::path::Path::new("/usr/sbin/adduser").exists() {
        return;
    }
    let add = "adduser --disabled-password --gecos '' bob >/tmp/said 2>&1 || { cat /tmp/said; exit 1; }; \
               id -un bob; id -u bob; stat -c %U /home/bob; getent passwd bob | cut -d: -f6";
    assert_eq!(run(&runtime, &script(add)), "bob\n1000\nbob\n/home/bob\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn python_is_there_where_python3_is() {
    let runtime = runtime();
    let said = run(
        &runtime,
        &script("python3 -c 'print(3)' && python -c 'print(1)' && python -c 'import sys; print(sys.prefix)'"),
    );
    assert!(said.starts_with("3\n1\n/usr"), "{said}");
}

/// Runs another test of this program in a mount namespace of its own, where that may lay files below /usr.
fn elsewhere(test: &str) {
    let is_root = std::env::var("SBX_TEST_RUN").as_deref() == Ok("root");
    let output = Command::new("unshare")
        .args([if is_root { "-m" } else { "-rm" }, "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SBX_TEST_ELSEWHERE", "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn is_elsewhere() -> bool {
    std::env::var_os("SBX_TEST_ELSEWHERE").is_some()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_not_everybody_may_read_is_not_shown_whoever_runs_the_library() {
    if !is_elsewhere() {
        return elsewhere("what_not_everybody_may_read_is_not_shown_whoever_runs_the_library");
    }
    let runtime = runtime();
    for directory in ["/usr/local/share", "/usr/src", "/usr/local/etc"] {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "sbx", directory]).status();
        assert!(mounted.unwrap().success(), "{directory}");
    }
    let file = |path: &str, mode: u32| {
        fs::write(path, "SECRET\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    file("/usr/local/share/public", 0o644);
    file("/usr/local/share/private", 0o600);
    file("/usr/local/share/group", 0o640);
    fs::create_dir_all("/usr/local/share/deep/closed").unwrap();
    file("/usr/local/share/deep/closed/public", 0o644);
    fs::set_permissions("/usr/local/share/deep/closed", fs::Permissions::from_mode(0o700)).unwrap();
    file("/usr/src/.env", 0o644);
    file("/usr/local/etc/settings", 0o644);
    // By root inside, and by what root inside can do about it: in memory, and to nothing of the host's.
    let look = "cat /usr/local/share/public; cd /usr/local/share; chmod 644 private group; chmod 755 deep/closed; \
                cat private group deep/closed/public /usr/src/.env /usr/local/etc/settings; \
                cp private /tmp/copy && cat /tmp/copy; mv deep/closed /tmp/moved; cat /tmp/moved/public; \
                umount private deep/closed; rm -f private; cat private; ls deep/closed; true";
    assert_eq!(run(&runtime, &script(look)), "SECRET\n");
    // What is laid there later, in a listed directory.
    file("/usr/local/share/later", 0o600);
    let look = "cat /usr/local/share/public /usr/local/share/later /usr/local/share/private; true";
    assert_eq!(run(&runtime, &script(look)), "SECRET\n");
    // As many as there are mounts for, and more: their directories are covered whole.
    fs::create_dir("/usr/local/share/crowd").unwrap();
    for number in 0..1000 {
        file(&format!("/usr/local/share/crowd/{number}"), 0o600);
    }
    file("/usr/local/share/crowd/public", 0o644);
    let look = "cat /usr/local/share/public /usr/local/share/crowd/* /usr/local/share/private; true";
    assert_eq!(run(&runtime, &script(look)), "SECRET\n");
    for (path, mode) in [("private", 0o600), ("deep/closed", 0o700)] {
        let there = fs::metadata(format!("/usr/local/share/{path}")).unwrap();
        assert_eq!(there.permissions().mode() & 0o777, mode);
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_default_view_is_writable_in_memory_only() {
    let runtime = runtime();
    let name = format!("sbx-test-{}", std::process::id());
    let write = format!(
        "for d in / /tmp /usr /usr/bin /etc /root; do echo x > $d/{name} && cat $d/{name} || echo \"$d: no\"; done; \
         rm /usr/bin/env && ! ls /usr/bin/env 2>/dev/null && echo gone"
    );
    let said = run(&runtime, &script(&write));
    assert!(said.starts_with("x\nx\n") && said.contains("gone"), "{said}");
    for directory in ["/", "/tmp", "/usr", "/usr/bin", "/etc", "/root"] {
        assert!(fs::metadata(format!("{directory}/{name}")).is_err(), "{directory}");
    }
    fs::metadata("/usr/bin/env").unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn setuid_programs_gain_nothing() {
    let runtime = runtime();
    // A shell copied by the sandbox's root, set-user-id, run by somebody else inside.
    let build = "cp /bin/dash /bin/sh2 2>/dev/null || cp /bin/sh /bin/sh2; cp /usr/bin/id /id2; chmod 4755 /id2; \
                 python3 -c 'import os; os.setgid(1000); os.setuid(1000); os.execv(\"/id2\", [\"id2\", \"-u\"])'";
    assert_eq!(run(&runtime, &script(build)), "1000\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn no_file_of_the_hosts_becomes_set_id() {
    let runtime = runtime();
    let scratch = Scratch::new("set-id");
    let shared = scratch.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    // In a writable mount a program could leave one for others to execute, as the user that the host runs as.
    let program = r#"
import errno, os
def attempt(what, *words):
    try:
        what(*words)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
os.umask(0)
print(attempt(os.close, os.open("/shared/plain", os.O_CREAT | os.O_WRONLY, 0o755)))
for mode in (0o4755, 0o2755, 0o6755):
    # gVisor takes the host's word, and passes it on for what is created only.
    attempt(os.chmod, "/shared/plain", mode)
    print(os.stat("/shared/plain").st_mode & 0o7000, attempt(os.open, f"/shared/{mode}", os.O_CREAT | os.O_WRONLY, mode))
print(attempt(os.mkdir, "/shared/directory", 0o2755), attempt(os.mkfifo, "/shared/pipe", 0o4755))
print(attempt(os.chmod, "/shared/plain", 0o1711), attempt(os.chmod, "/bin/ls", 0o4755), attempt(os.chmod, "/tmp", 0o3777))
"#;
    let mut config = config(&["/usr/bin/python3", "-I", "-c", program]);
    config.mount_writable(&shared, "/shared").unwrap();
    let said = run(&runtime, &config);
    for entry in fs::read_dir(&shared).unwrap().map(Result::unwrap) {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o6000, 0, "{:?} {mode:o}: {said}", entry.file_name());
    }
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..1], ["done"]);
    assert_eq!(lines[1..4], ["0 EPERM"; 3]);
    // The sandbox's own, in memory, are its own business.
    assert_eq!(lines[5], "done done done");
    assert_eq!(fs::metadata(format!("{shared}/plain")).unwrap().permissions().mode() & 0o7777, 0o1711);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_mount_leaves_no_trace_in_the_root_directory() {
    let runtime = runtime();
    let (scratch, root) = made("trace");
    let source = scratch.file("source", "mounted\n");
    let before = listing(&root);
    let mut config = config(&["/bin/show", "/new/place/file"]);
    config.set_rootfs(&root).unwrap().mount_read_only(&source, "/new/place/file").unwrap();
    assert_eq!(run(&runtime, &config), "mounted\n");
    assert_eq!(listing(&root), before);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_root_may_read_and_its_keeper_may_not_is_said_in_the_keepers_words() {
    let runtime = runtime();
    let scratch = Scratch::new("anothers");
    let closed = scratch.path("closed");
    fs::create_dir_all(scratch.path("closed/data")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    // Only root can give it away, and, with CAP_DAC_OVERRIDE, still look at it.
    if std::os::unix::fs::chown(&closed, Some(12345), None).is_err() || fs::read_dir(&closed).is_err() {
        return;
    }
    let mut config = config(&["true"]);
    config.mount_read_only(&scratch.path("closed/data"), "/data").unwrap();
    let error = runtime.create(&config).unwrap_err();
    assert_eq!(error.code(), Code::Host, "{error}");
    assert!(error.message().contains("mounting") && error.message().contains("Permission denied"), "{error}");
}
