//! Volumes: named directories that sandboxes share, and what a sandbox that is hostile to the others can't do with them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{PATIENCE, Scratch, eventually, output, runsc, script, text};
use sbx::{Code, Config, Error, Runtime, RuntimeConfig, Sandbox, Stream, VolumeMount};

/// A runtime with volumes of its own.
struct Volumes {
    runtime: Runtime,
    scratch: Scratch,
}

fn open(scratch: &std::path::Path) -> Runtime {
    runsc();
    let config = RuntimeConfig::new()
        .volume_directory(scratch.join("volumes"))
        .volume_min_free_bytes(1)
        .image_directory(scratch.join("images"));
    Runtime::new(&config).expect("a runtime")
}

impl Volumes {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(&format!("volumes-{name}"));
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
        Self { runtime: open(&scratch.0), scratch }
    }

    /// Makes a volume and returns its directory.
    fn create(&self, name: &str) -> PathBuf {
        self.runtime.create_volume(name, false).unwrap().path
    }

    /// What a script says that has the volume at /v.
    fn says(&self, volume: &VolumeMount, text: &str) -> String {
        let sandbox = self.runtime.create(&at(volume, text)).unwrap();
        assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0, "{}{}", output(&sandbox), errors(&sandbox));
        output(&sandbox)
    }

    /// Why there is no sandbox with that volume.
    fn refuses(&self, volume: &VolumeMount) -> Error {
        self.runtime.create(&at(volume, "true")).unwrap_err()
    }
}

fn at(volume: &VolumeMount, text: &str) -> Config {
    let mut config = script(text);
    config.mount_volume(volume, "/v").unwrap();
    config
}

fn errors(sandbox: &Sandbox) -> String {
    text(sandbox, Stream::Stderr)
}

fn data() -> VolumeMount {
    VolumeMount::new("data")
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_one_sandbox_writes_others_see_while_they_run_and_afterwards() {
    let volumes = Volumes::new("shared");
    assert_eq!(volumes.refuses(&data()).code(), Code::NotFound);
    let wait = "echo ready; until [ -e /v/from-writer ]; do sleep 0.02; done; cat /v/from-writer";
    let reader = volumes.runtime.create(&at(&data().create(), wait)).unwrap();
    // Another process of the user's.
    let others = open(&volumes.scratch.0);
    let writer = others.create(&at(&data(), "echo hello >/v/new && mv /v/new /v/from-writer")).unwrap();
    assert_eq!(writer.wait(PATIENCE).unwrap().code, 0, "{}", errors(&writer));
    assert_eq!(reader.wait(PATIENCE).unwrap().code, 0, "{}", errors(&reader));
    assert_eq!(output(&reader), "ready\nhello\n");
    assert_eq!(volumes.says(&data(), "cat /v/from-writer"), "hello\n");
    let info = volumes.runtime.find_volume("data").unwrap();
    assert_eq!(fs::read_to_string(info.path.join("from-writer")).unwrap(), "hello\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_read_only_volume_can_not_be_written() {
    let volumes = Volumes::new("read-only");
    let path = volumes.create("data");
    fs::write(path.join("file"), "kept\n").unwrap();
    let write = "cat /v/file; (echo x >/v/file) 2>/dev/null && echo wrote; (echo x >/v/new) 2>/dev/null && echo made; \
                 rm -f /v/file 2>/dev/null; chmod 777 /v/file /v 2>/dev/null && echo changed; cat /v/file";
    assert_eq!(volumes.says(&data().read_only(), write), "kept\nkept\n");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    assert_eq!(volumes.says(&data(), "echo more >>/v/file; cat /v/file"), "kept\nmore\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sub_path_is_a_directory_of_the_volume_and_nothing_else_of_it_is_seen() {
    let volumes = Volumes::new("sub-path");
    let path = volumes.create("data");
    fs::create_dir_all(path.join("tenants/one")).unwrap();
    fs::write(path.join("secret"), "").unwrap();
    fs::write(path.join("tenants/one/mine"), "").unwrap();
    let one = data().sub_path("tenants/one");
    assert_eq!(
        volumes.says(&one, "ls /v; ls /v/..; ls /v/../secret 2>/dev/null; touch /v/new").lines().next(),
        Some("mine")
    );
    assert!(path.join("tenants/one/new").exists());

    let error = volumes.refuses(&data().sub_path("tenants/two"));
    assert_eq!(error.code(), Code::NotFound, "{error}");
    assert!(error.message().contains("volume \"data\", sub-path \"tenants/two\""), "{error}");
    assert!(!path.join("tenants/two").exists());
    volumes.says(&data().sub_path("tenants/two/deep").create_sub_path(), "touch /v/here");
    let deep = path.join("tenants/two/deep");
    assert!(deep.join("here").exists());
    assert_eq!(fs::metadata(deep).unwrap().mode() & 0o7777, 0o755);
    // Both of one volume, in one sandbox.
    let mut config = at(&one, "echo x >/w/from-two; ls /v /w");
    config.mount_volume(&data().sub_path("tenants/two"), "/w").unwrap();
    let sandbox = volumes.runtime.create(&config).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0, "{}", errors(&sandbox));
    assert_eq!(output(&sandbox), "/v:\nmine\nnew\n\n/w:\ndeep\nfrom-two\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_link_or_a_file_is_no_sub_path() {
    let volumes = Volumes::new("links");
    let path = volumes.create("data");
    fs::create_dir_all(path.join("real/below")).unwrap();
    fs::write(path.join("file"), "").unwrap();
    symlink("real", path.join("relative")).unwrap();
    symlink(&volumes.scratch.0, path.join("absolute")).unwrap();
    symlink("/proc/self/root", path.join("magic")).unwrap();
    symlink("nowhere", path.join("dangling")).unwrap();
    for (sub_path, why) in [
        ("relative", "symbolic link"),
        ("relative/below", "symbolic link"),
        ("absolute", "symbolic link"),
        ("absolute/volumes", "symbolic link"),
        ("magic/etc", "symbolic link"),
        ("dangling", "symbolic link"),
        ("dangling/new", "symbolic link"),
        ("file", "must be a directory"),
        ("file/new", "must be a directory"),
    ] {
        for mount in [data().sub_path(sub_path), data().sub_path(sub_path).create_sub_path()] {
            let error = volumes.refuses(&mount);
            assert_eq!(error.code(), Code::Invalid, "{sub_path}: {error}");
            assert!(error.message().contains(why) && error.message().contains(sub_path), "{error}");
        }
    }
    assert!(!path.join("nowhere").exists() && fs::read_dir(path.join("real/below")).unwrap().count() == 0);
}

/// Exchanges a directory and links that lead out, as fast as it can, and renames directories below.
const SWAPPING: &str = r#"
import os, sys
os.chdir("/v")
for link, target in (("root", "/"), ("up", "../.."), ("far", "../../../../../../../../..")):
    os.symlink(target, link)
print("swapping", flush=True)
n = 0
while not os.path.exists("/v/stop"):
    n += 1
    link = ("root", "up", "far")[n % 3]
    try:
        os.rename("a", "aside")
        os.rename(link, "a")
        os.rename("a", link)
        os.rename("aside/b", "moved")
        os.rename("moved", "aside/b")
        os.rename("aside", "a")
    except OSError as error:
        # A directory that the other has just made.
        if os.path.isdir("a") and os.path.isdir("aside"):
            os.rename("a", f"junk{n}")
            os.rename("aside", "a")
        elif not os.path.isdir("a"):
            sys.exit(f"{error}: {os.listdir('.')}")
"#;

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_that_swaps_directories_and_links_leads_no_other_out_of_the_volume() {
    let volumes = Volumes::new("swapping");
    let path = volumes.create("data");
    fs::create_dir_all(path.join("a/b")).unwrap();
    fs::write(path.join("a/b/mark"), "").unwrap();
    let mut swapping = common::config(&["python3", "-c", SWAPPING]);
    swapping.mount_volume(&data(), "/v").unwrap();
    let attacker = volumes.runtime.create(&swapping).unwrap();
    eventually("the attacker begins", || !attacker.captured(Stream::Stdout).unwrap().head.is_empty());
    let (mut inside, mut refused) = (0, 0);
    let begin = Instant::now();
    // Until both have been seen, and some more.
    while begin.elapsed() < Duration::from_secs(60) && (inside < 3 || refused < 3 || inside + refused < 16) {
        let mount = data().sub_path("a/b");
        let mount = if (inside + refused) % 4 == 3 { mount.create_sub_path() } else { mount };
        // Never more than what the volume has: /etc or the store would be the way out.
        match volumes.runtime.create(&at(&mount, "ls -a /v; ls -a /v/b 2>/dev/null; touch /v/visited")) {
            Ok(sandbox) => {
                sandbox.wait(PATIENCE).unwrap();
                let seen = output(&sandbox);
                let expected = [".", "..", "mark", "visited"];
                assert!(seen.lines().all(|name| expected.contains(&name)), "out of the volume: {seen}");
                inside += 1;
            }
            Err(error) => {
                assert!(matches!(error.code(), Code::Invalid | Code::NotFound), "{error}");
                refused += 1;
            }
        }
    }
    fs::write(path.join("stop"), "").unwrap();
    assert_eq!(attacker.wait(PATIENCE).unwrap().code, 0, "{}", errors(&attacker));
    assert!(inside > 0, "{inside} inside, {refused} refused");
    // Nothing was made or touched beside the volume.
    let store: Vec<_> = fs::read_dir(volumes.scratch.0.join("volumes/v1/volumes")).unwrap().collect();
    assert_eq!(store.len(), 1, "{store:?}");
    assert_eq!(fs::read_dir(&volumes.scratch.0).unwrap().count(), 1);
    assert!(!std::path::Path::new("/b").exists() && !std::path::Path::new("/visited").exists());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_is_in_a_volume_is_the_hosts_users_and_gives_no_rights() {
    let volumes = Volumes::new("rights");
    let path = volumes.create("data");
    // What the host's user may have put there, or another program of theirs.
    fs::copy("/usr/bin/id", path.join("set-id")).unwrap();
    fs::set_permissions(path.join("set-id"), fs::Permissions::from_mode(0o6755)).unwrap();
    let device = is_root() && make_device(&path.join("kmsg"));
    fs::write(path.join("file"), "").unwrap();
    let mut config = at(
        &data(),
        "/v/set-id -u; /v/set-id -g; chown 7 /v/file 2>/dev/null && echo chowned; \
         cp /v/set-id /v/copy && chmod u+s /v/copy 2>/dev/null; chmod g+s /v/copy 2>/dev/null; stat -c %a /v/copy; \
         mknod /v/null c 1 3 2>/dev/null && echo made; head -c1 /v/kmsg 2>/dev/null | wc -c; true",
    );
    config.set_user("1234:1234").unwrap();
    // Whose files they are inside doesn't matter for what follows.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let sandbox = volumes.runtime.create(&config).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    let said = output(&sandbox);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.first(), Some(&"1234"), "a set-id bit counts: {said}{}", errors(&sandbox));
    assert_eq!(lines.get(1), Some(&"1234"), "a set-id bit counts: {said}");
    assert!(!said.contains("chowned") && !said.contains("made"), "{said}");
    assert_eq!(lines.last(), Some(&"0"), "a device can be read (made: {device}): {said}");
    let found = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    let user = fs::metadata(&volumes.scratch.0).unwrap().uid();
    let set_id = found.filter(|file| {
        assert_eq!(file.uid(), user);
        file.mode() & 0o6000 != 0
    });
    assert_eq!(set_id.count(), 1, "the sandbox has made a set-id file");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Makes a device that gVisor has none of: the kernel's log. False where that isn't allowed.
fn make_device(path: &std::path::Path) -> bool {
    std::process::Command::new("mknod")
        .arg(path)
        .args(["c", "1", "11"])
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_volume_is_removed_when_no_sandbox_of_any_process_has_it() {
    let volumes = Volumes::new("removal");
    let others = open(&volumes.scratch.0);
    let path = volumes.create("data");
    let idle = |mount: VolumeMount| {
        let mut config = Config::new();
        config.mount_volume(&mount, "/v").unwrap();
        config
    };
    let one = volumes.runtime.create(&idle(data())).unwrap();
    let two = others.create(&idle(data().read_only())).unwrap();
    for sandbox in [one, two] {
        for runtime in [&volumes.runtime, &others] {
            let error = runtime.remove_volume("data").unwrap_err();
            assert_eq!(error.code(), Code::State, "{error}");
            assert!(runtime.find_volume("data").unwrap().in_use);
        }
        sandbox.terminate().unwrap();
        sandbox.wait(PATIENCE).unwrap();
    }
    eventually("the keeper is gone", || !volumes.runtime.find_volume("data").unwrap().in_use);
    fs::create_dir(path.join("directory")).unwrap();
    symlink("/", path.join("directory/link")).unwrap();
    volumes.runtime.remove_volume("data").unwrap();
    assert!(!path.exists());
    assert_eq!(volumes.refuses(&data()).code(), Code::NotFound);
    assert!(volumes.runtime.list_volumes().unwrap().is_empty());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_host_that_is_killed_leaves_no_lock() {
    const HOST: &str = "SBX_TEST_VOLUMES_HOST";
    const SELF: &str = "a_host_that_is_killed_leaves_no_lock";
    if let Some(directory) = std::env::var_os(HOST) {
        let runtime = open(directory.as_ref());
        let mut config = Config::new();
        config.mount_volume(&data().create(), "/v").unwrap();
        let _sandbox = runtime.create(&config).unwrap();
        let _other = runtime.create_begin(&config).unwrap();
        fs::write(std::path::Path::new(&directory).join("ready"), "").unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let volumes = Volumes::new("killed");
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", SELF, "--nocapture"])
        .env(HOST, &volumes.scratch.0)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the host has its sandbox", || volumes.scratch.0.join("ready").exists());
    assert_eq!(volumes.runtime.remove_volume("data").unwrap_err().code(), Code::State);
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("the lock is gone", || volumes.runtime.remove_volume("data").is_ok());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn sandboxes_on_images_have_volumes_too_and_snapshots_leave_them_out() {
    let volumes = Volumes::new("images");
    let archive = volumes.scratch.path("box.tar");
    fs::write(&archive, common::images::Made::busybox().docker_archive("box:1")).unwrap();
    let image = volumes.runtime.import_image(&archive[..], &sbx::ImageOptions::new()).unwrap();
    let mut config = Config::new();
    config.set_image(&image).unwrap().set_no_command().unwrap().set_user("0").unwrap();
    config.mount_volume(&data().create().sub_path("a").create_sub_path(), "/srv/v").unwrap();
    let sandbox = volumes.runtime.create(&config).unwrap();
    let mut write = sbx::Exec::new();
    write.set_command(["sh", "-c", "mkdir -p /srv; echo hello >/srv/v/file; echo mine >/srv/own"]).unwrap();
    let process = sandbox.exec(&write).unwrap();
    assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
    let path = volumes.runtime.find_volume("data").unwrap().path;
    assert_eq!(fs::read_to_string(path.join("a/file")).unwrap(), "hello\n");
    let taken = sandbox.snapshot(None).unwrap();
    sandbox.terminate().unwrap();
    let mut config = common::config(&["cat /srv/own; ls /srv/v 2>/dev/null; true"]);
    config.set_image(&taken.image).unwrap();
    let sandbox = volumes.runtime.create(&config).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0, "{}", errors(&sandbox));
    assert_eq!(output(&sandbox), "mine\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn below_the_floor_of_free_space_only_sandboxes_that_read_start() {
    let volumes = Volumes::new("floor");
    volumes.create("data");
    let directory = volumes.scratch.0.join("volumes");
    let config = RuntimeConfig::new().volume_directory(directory).volume_min_free_bytes(u64::MAX);
    let full = Runtime::new(&config).unwrap();
    let error = full.create(&at(&data(), "true")).unwrap_err();
    assert_eq!(error.code(), Code::Limit, "{error}");
    assert!(error.message().contains("volume \"data\"") && error.message().contains("bytes free"), "{error}");
    full.create(&at(&data().read_only(), "true")).unwrap().wait(PATIENCE).unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_directory_that_others_can_write_is_refused_by_name() {
    let volumes = Volumes::new("trust");
    fs::set_permissions(&volumes.scratch.0, fs::Permissions::from_mode(0o777)).unwrap();
    let error = volumes.refuses(&data().create());
    assert_eq!(error.code(), Code::Host, "{error}");
    assert!(
        error.message().contains("volume \"data\"") && error.message().contains("volume_directory"),
        "{error}"
    );
    assert!(!volumes.scratch.0.join("volumes").exists());
}
