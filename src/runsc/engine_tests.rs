//! The plans against the real runsc, in namespaces of the test's own, as the user that runs the tests.
//!
//! A shell script stands in for the keeper (it composes the root file system on a tmpfs of its own) and
//! another for init.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::bundle::{Bundle, BundleMount};
use super::command::{Launch, Network, SandboxId};
use super::fake::{Directory, real};
use super::find::{Locator, Search};
use super::rootfs::{self, Entry, Names};

/// The shell commands that carry out a plan below `base`.
fn compose(plan: &[Entry], base: &Path, directory: &Directory) -> String {
    let mut script = String::new();
    for (index, entry) in plan.iter().enumerate() {
        let at = base.join(entry.path().strip_prefix("/").unwrap());
        let at = at.display();
        match entry {
            Entry::Dir { mode, .. } => writeln!(script, "mkdir '{at}'; chmod {mode:o} '{at}'"),
            Entry::Symlink { target, .. } => writeln!(script, "ln -s '{}' '{at}'", target.display()),
            Entry::File { mode, content, .. } => {
                let file = directory.file(&format!("file{index}"), content, *mode);
                writeln!(script, "cp '{}' '{at}'", file.display())
            }
            Entry::Cover { .. } => writeln!(
                script,
                "if [ -d '{at}' ]; then mount -t tmpfs none '{at}'; else touch '{cover}'; mount --bind '{cover}' '{at}'; fi",
                cover = directory.path().join("cover").display()
            ),
            Entry::Bind { source, .. } => {
                let make = if source.is_dir() { "mkdir" } else { "touch" };
                writeln!(script, "{make} '{at}'; mount --rbind '{}' '{at}'", source.display())
            }
        }
        .unwrap();
    }
    script
}

/// Runs `init` as process 1 on the host's file system and returns what it printed.
fn run(directory: &Directory, runsc: &Path, network: Network, init: &str, mounts: &[BundleMount]) -> String {
    let runsc =
        Locator::new(Search { explicit: Some(runsc.to_owned()), ..Search::default() }).locate().unwrap();
    let base = directory.path().join("base");
    fs::create_dir(&base).unwrap();
    let root = base.join("rootfs");
    let mut plan =
        rootfs::plan(None, &Names { hostname: "box", network: network == Network::Sandbox }).unwrap();
    plan.push(Entry::Bind {
        source: directory.script("init", init),
        path: rootfs::INIT.into(),
        writable: false,
        recursive: false,
    });
    let bound = directory.path().join("bound");
    plan.push(Entry::Bind { source: bound, path: "/bound".into(), writable: true, recursive: true });

    let bundle = Bundle {
        limits: &crate::config::Limits::default(),
        root: &root,
        root_image: None,
        images: &[],
        init: rootfs::INIT,
        hostname: "box",
        network_namespace: (network == Network::Sandbox).then_some(Path::new("/proc/self/ns/net")),
        mounts,
        tmp_in_root: false,
    };
    let config = directory.file("config.json", &bundle.json().unwrap(), 0o644);
    let passed = directory.file("passed", b"through standard input\n", 0o644);
    let (state, log, panic_log) = (base.join("state"), directory.path().join("log"), base.join("panic"));
    let launch = Launch {
        disk: None,
        sidecars: false,
        id: &SandboxId::random().unwrap(),
        root: &state,
        log: &log,
        panic_log: &panic_log,
        bundle: &base,
        network,
    };
    let arguments: Vec<_> =
        launch.arguments(&runsc).into_iter().map(|argument| argument.into_string().unwrap()).collect();
    let quoted: Vec<_> = arguments.iter().skip(1).map(|argument| format!("'{argument}'")).collect();
    let script = format!(
        "set -e\numask 022\nip link set lo up\nmount --make-rprivate /\nmount -t tmpfs tmpfs '{base}'\nmkdir '{root}'\n\
         {compose}cp '{config}' '{base}/config.json'\n\
         env -i {environment} '{runsc}' {arguments} <'{passed}' 2>&1 | cat\n\
         cat '{root}/etc/hostname'; ls -d '{root}/new' 2>/dev/null || echo no new file below\n",
        base = base.display(),
        root = root.display(),
        compose = compose(&plan, &root, directory),
        config = config.display(),
        environment = "PATH=/ TMPDIR=/tmp",
        runsc = runsc.path().display(),
        arguments = quoted.join(" "),
        passed = passed.display(),
    );
    let keeper = directory.file("keeper.sh", script.as_bytes(), 0o644);
    let output = Command::new("unshare").arg("-Urnm").arg("sh").arg(keeper).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
    assert!(output.status.success(), "{text}\n{errors}\n{log}");
    format!("{text}{errors}{log}")
}

const INIT: &str = "\
cat
echo pid $$ uid $(id -u) host $(hostname)
grep CapEff /proc/self/status
cat /etc/resolv.conf
echo changed > /etc/hostname && touch /new /usr/new /bound/new && echo wrote
touch /data/new 2>/dev/null || echo data is read-only
echo out > /out/new
ls /tmp /home /var/lib /dev/shm | tr '\\n' ' '
test -e /etc/shadow && echo shadow seen
test -c /dev/null && test -e /dev/pts/ptmx && echo devices
touch /sys/new 2>/dev/null || echo sys is read-only
python3 -c 'import ssl; print(\"python\")' 2>/dev/null
tr '\\n' ' ' < /proc/net/dev | grep -o 'lo:' ";

fn check(network: Network) {
    let runsc = real();
    let directory = Directory::new();
    for name in ["bound", "data", "out"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let mount = |name: &str, writable| BundleMount {
        source: directory.path().join(name),
        destination: Path::new("/").join(name),
        writable,
    };
    let text = run(&directory, &runsc, network, INIT, &[mount("data", false), mount("out", true)]);
    let expected = [
        "through standard input",
        "pid 1 uid 0 host box",
        "wrote",
        "data is read-only",
        "devices",
        "sys is read-only",
        "lo:",
        // What lies below the overlay, seen afterwards.
        "box\nno new file below",
    ];
    for line in expected {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }
    assert_eq!(text.contains("nameserver 192.0.0.1"), network == Network::Sandbox, "{text}");
    assert!(!text.contains("shadow seen"), "{text}");
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP
    assert!(text.contains("CapEff:\t00000000800405fb"), "{text}");
    assert!(!text.contains("\"level\":\"error\""), "{text}");
    assert_eq!(fs::read_dir(directory.path().join("bound")).unwrap().count(), 0, "a write reached the host");
    assert_eq!(fs::read_dir(directory.path().join("data")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(directory.path().join("out/new")).unwrap(), "out\n");
    assert!(!Path::new("/usr/new").exists());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_networked_sandbox() {
    check(Network::Sandbox);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_without_a_network() {
    check(Network::None);
}
