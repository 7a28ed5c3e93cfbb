//! The keeper and init against real runsc.

mod build;
mod hostile;
mod inside;
mod life;
/// A part of the program that needs nothing of it, for its own tests.
#[path = "program/init/files/mounted.rs"]
mod mounted;
mod seccomp;
mod snapshot;
mod tar;
mod terminal;
/// The same.
#[path = "program/supervisor/walk.rs"]
mod walk;
mod wire;
mod wire_bytes;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::socket::{SockType, SockaddrIn, SockaddrIn6, connect, getsockopt, sockopt};

use super::{Keeper, Origin, Program};
use crate::keeper::wire::init::{self, Source, Start, Step};
use crate::keeper::wire::keeper::{Bind, Entry, Reply, Request, Setup, SocketKind};
use crate::sys::channel::{self, Channel};

/// Longer than anything here takes; a test that waits for it fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn runsc() -> PathBuf {
    std::env::var_os("SBX_RUNSC").expect("SBX_RUNSC names no runsc: sh tests/run.sh installs one").into()
}

fn readable(fd: impl AsFd) {
    let mut set = [nix::poll::PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)];
    let patience = nix::poll::PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(nix::poll::poll(&mut set, patience), Ok(1), "nothing came in time");
}

fn next(keeper: &mut Keeper) -> (Reply, Vec<OwnedFd>) {
    loop {
        if let Some(reply) = keeper.hear().unwrap() {
            return reply;
        }
        readable(keeper.as_fd());
    }
}

fn setup(network: bool, rootfs: Vec<Entry>) -> Setup {
    let runsc = runsc();
    let there = fs::metadata(&runsc).unwrap();
    let bundle = r#"{"ociVersion":"1.1.0","process":{"user":{"uid":0,"gid":0},"args":["/.sbx/init"],"env":[],
        "cwd":"/","capabilities":{"bounding":["CAP_SETUID","CAP_SETGID","CAP_KILL"],"effective":["CAP_SETUID","CAP_SETGID","CAP_KILL"],"permitted":["CAP_SETUID","CAP_SETGID","CAP_KILL"]}},
        "root":{"path":"/rootfs"},"hostname":"sbx",
        "mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/dev","type":"tmpfs","source":"tmpfs"},{"destination":"/tmp","type":"tmpfs","source":"tmpfs"}],
        "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/proc/self/ns/net"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}]}}"#;
    Setup {
        user_namespace: true,
        network,
        only_namespaces: false,
        sysctls: vec![],
        runsc: runsc.to_str().unwrap().into(),
        runsc_identity: (there.dev(), there.ino()),
        beside: (0, 0),
        rootfs,
        mounts: vec![],
        volumes: vec![],
        bundle: bundle.into(),
        groups: vec![],
        images: 0,
        watched_memory: 0,
    }
}

fn host_view() -> Vec<Entry> {
    let mut entries =
        vec![Entry::Bind { path: "/usr".into(), bind: Bind { source: "/usr".into(), writable: false } }];
    for name in ["bin", "lib", "lib64", "sbin"] {
        entries.push(Entry::Symlink { path: name.into(), target: format!("usr/{name}").into() });
    }
    entries.push(Entry::Directory { path: "/etc".into(), mode: 0o755 });
    entries.push(Entry::Directory { path: "/tmp".into(), mode: 0o1777 });
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n".to_vec();
    entries.push(Entry::File { path: "/etc/passwd".into(), mode: 0o644, content: passwd });
    let group =
        b"root:x:0:\nuser:x:1000:\nstaff:x:50:other\naudio:x:29:user,other\nvideo:x:44:other,user\n".to_vec();
    entries.push(Entry::File { path: "/etc/group".into(), mode: 0o644, content: group });
    entries
}

struct Sandbox {
    keeper: Keeper,
    init: Channel,
}

impl Sandbox {
    fn start(network: bool) -> Self {
        Self::named(network, "test")
    }

    /// The name is in the command lines of all of runsc's processes.
    fn named(network: bool, name: &str) -> Self {
        Self::with_keeper(network, name, |_| ())
    }

    /// With a keeper to which something is done first.
    fn with_keeper(network: bool, name: &str, first: impl FnOnce(&Keeper)) -> Self {
        let setup = setup(network, host_view());
        let program = Program::new(&Origin::new(None)).unwrap();
        let mut keeper = Keeper::start(&program).unwrap();
        first(&keeper);
        keeper.ask(&Request::Setup(Box::new(setup)), vec![]).unwrap();
        let (reply, fds) = next(&mut keeper);
        assert!(matches!(reply, Reply::Namespaces { .. }), "{reply:?}");
        assert_eq!(fds.len(), if network { 5 } else { 0 });
        assert_eq!(next(&mut keeper).0, Reply::Prepared);
        let (ours, theirs) = channel::pair().unwrap();
        let commands = ["runsc", "--root=/state", "--log-format=json"];
        let arguments = commands.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        keeper.ask(&Request::KeepSnapshots { arguments, id: name.into() }, vec![]).unwrap();
        let network = if network { "--network=sandbox" } else { "--network=none" };
        let arguments = [
            "runsc",
            "--root=/state",
            "--log=/state/log",
            "--log-format=json",
            "--ignore-cgroups",
            "--overlay2=root:memory",
            network,
            "run",
            "--bundle=/bundle",
            name,
        ];
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        keeper.ask(&Request::Run { arguments, hold: false }, vec![theirs]).unwrap();
        assert_eq!(next(&mut keeper).0, Reply::Running);
        let mut sandbox = Self { keeper, init: Channel::new(ours) };
        let hello = sandbox.reply();
        assert_eq!(hello, init::Reply::Hello);
        sandbox
    }

    fn reply(&mut self) -> init::Reply {
        loop {
            match self.init.receive() {
                Ok(message) => return init::Reply::decode(&message.bytes).unwrap(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}: {:?}", self.keeper.hear()),
            }
            if self.init.wants_write() && self.init.flush().is_ok_and(|done| !done) {
                let mut set = [nix::poll::PollFd::new(
                    self.init.as_fd(),
                    nix::poll::PollFlags::POLLIN | nix::poll::PollFlags::POLLOUT,
                )];
                nix::poll::poll(&mut set, nix::poll::PollTimeout::NONE).unwrap();
                continue;
            }
            readable(self.init.as_fd());
        }
    }

    fn run(&mut self, id: u32, arguments: &[&str], change: impl FnOnce(&mut Start)) -> (init::Reply, String) {
        let (mut read, write) = std::io::pipe().unwrap();
        let mut start = Start {
            id,
            arguments: arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
            directory: b"/".to_vec(),
            streams: [Source::Null, Source::Given, Source::Stdout],
            ..Start::default()
        };
        change(&mut start);
        self.init.send(&init::Request::Start(Box::new(start)).encode(), vec![write.into()]).unwrap();
        let first = self.reply();
        if first != (init::Reply::Started { id }) {
            return (first, String::new());
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut read, &mut text).unwrap();
        (self.reply(), text)
    }

    fn end(mut self) {
        self.keeper.ask(&Request::Kill, vec![]).unwrap();
        let (reply, _) = next(&mut self.keeper);
        assert!(matches!(reply, Reply::Ended { .. }), "{reply:?}");
        wait_for_end(&self.keeper);
        self.keeper.reap();
    }
}

fn wait_for_end(keeper: &Keeper) {
    let begin = Instant::now();
    while fs::read_to_string(format!("/proc/{}/stat", keeper.pid())).is_ok_and(|stat| !stat.contains(") Z "))
    {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn programs_start_report_and_fail_as_they_should() {
    let mut sandbox = Sandbox::start(true);
    let begin = Instant::now();
    let (reply, text) = sandbox.run(1, &["sh", "-c", "echo hi; id -u; pwd; exit 7"], |_| ());
    println!("{:?}", begin.elapsed());
    assert_eq!((reply, text.as_str()), (init::Reply::Exited { id: 1, status: 7 << 8 }, "hi\n0\n/\n"));
    let (reply, text) = sandbox.run(2, &["sh", "-c", "id; pwd; echo $HOME; echo $A; kill -9 $$"], |start| {
        start.user.user = "user".into();
        start.directory = b"/tmp".to_vec();
        start.environment = vec![b"A=b".to_vec().into()];
    });
    assert_eq!(reply, init::Reply::Exited { id: 2, status: libc::SIGKILL });
    assert_eq!(
        text,
        "uid=1000(user) gid=1000(user) groups=1000(user),29(audio),44(video)\n/tmp\n/home/user\nb\n"
    );
    // By number: with the groups of the entry in /etc/passwd, or in a group of the same number without one.
    for (user, ids) in [("1000", "1000 1000 1000 29 44\n"), ("4711", "4711 4711 4711\n"), ("0", "0 0 0\n")] {
        let (reply, text) = sandbox.run(2, &["sh", "-c", "echo $(id -u) $(id -g) $(id -G)"], |start| {
            start.user.user = user.into();
        });
        assert_eq!((reply, text.as_str()), (init::Reply::Exited { id: 2, status: 0 }, ids));
    }
    let failed = |step, errno| init::Reply::NotStarted { id: 3, step, errno };
    assert_eq!(sandbox.run(3, &["nothing"], |_| ()).0, failed(Step::Execute, libc::ENOENT));
    assert_eq!(sandbox.run(3, &["/etc/passwd"], |_| ()).0, failed(Step::Execute, libc::EACCES));
    let file = |start: &mut Start| start.directory = b"/etc/passwd".to_vec();
    assert_eq!(sandbox.run(3, &["true"], file).0, failed(Step::Directory, libc::ENOTDIR));
    let below = |start: &mut Start| start.directory = b"/etc/passwd/below".to_vec();
    assert_eq!(sandbox.run(3, &["true"], below).0, failed(Step::MakeDirectory, libc::ENOTDIR));
    let nobody = |start: &mut Start| start.user.user = "mallory".into();
    assert_eq!(sandbox.run(3, &["true"], nobody).0, failed(Step::User, libc::ENOENT));
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn sockets_of_every_kind_are_made_in_g() {
    let mut sandbox = Sandbox::start(true);
    for (purpose, (ipv6, datagram)) in (7..).zip([(false, false), (true, false), (false, true), (true, true)])
    {
        let kind = SocketKind { ipv6, datagram };
        sandbox.keeper.ask(&Request::Sockets { kind, count: 5, purpose }, vec![]).unwrap();
        let (reply, fds) = next(&mut sandbox.keeper);
        assert_eq!((reply, fds.len()), (Reply::Sockets { kind, purpose }, 5));
        // SIOCGSKNS would need CAP_NET_ADMIN here; that they are elsewhere shows in what they can't reach.
        for fd in &fds {
            let refused = if ipv6 {
                let address = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, 9, 0, 0);
                connect(fd.as_raw_fd(), &SockaddrIn6::from(address))
            } else {
                connect(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 9))
            };
            // What IPv6 says of a ::1 that no link has.
            let nowhere =
                if ipv6 { nix::errno::Errno::EADDRNOTAVAIL } else { nix::errno::Errno::ENETUNREACH };
            assert_eq!(refused, Err(nowhere), "G has no route and no lo that is up");
            let style = getsockopt(fd, sockopt::SockType).unwrap();
            assert_eq!(style == SockType::Datagram, datagram);
        }
    }
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_blocked_sandbox_has_no_namespaces_of_the_network() {
    let mut sandbox = Sandbox::start(false);
    let (_, text) =
        sandbox.run(1, &["sh", "-c", "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"], |_| ());
    assert_eq!(text.trim(), "lo");
    sandbox.end();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_librarys_end_of_the_channel_is_the_sandboxs_life() {
    let sandbox = Sandbox::start(true);
    let (keeper, init) = (sandbox.keeper, sandbox.init);
    let pid = keeper.pid();
    drop(keeper);
    drop(init);
    let begin = Instant::now();
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(begin.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
}

#[test]
fn the_keepers_own_lock_has_what_the_librarys_has() {
    let libc = |lock: &str| {
        let package = lock.split("[[package]]").find(|package| package.contains("name = \"libc\""));
        package.and_then(|package| package.split_once("\n\n")).map(|(package, _)| package.trim().to_owned())
    };
    let ours = libc(include_str!("../../Cargo.lock"));
    assert!(ours.is_some());
    assert_eq!(libc(include_str!("program/Cargo.lock")), ours, "copy that package from Cargo.lock");
}
