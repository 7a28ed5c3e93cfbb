//! The supervisor: holds one sandbox and ends it with its host.
//!
//! It is started with its channel to the library as descriptor 3 and the pidfd of the library's thread as 4.
//! The sandbox ends when the channel reaches EOF or the thread ends. EOF alone doesn't suffice, because a
//! forked child of the host may keep the channel open. The thread ends whenever the host does, also by
//! execve. Before Linux 6.9 the pidfd is of the host's process and misses execve: a host that forks and then
//! executes another program is missed until the child ends. The sandbox also ends when its lifetime is over
//! and the library, stopped or frozen, hasn't ended it.
//!
//! It does nothing else than create namespaces, create sockets in them on request, and start and reap
//! children. One of them can take snapshots, and is left before the keeper's filter if the library asks for it. All its files are in a tmpfs of its own mount namespace and vanish with it.

mod cgroups;
mod children;
mod mount_setup;
mod mounts;
mod namespaces;
mod rootfs;
pub(crate) mod seccomp;
mod snapshot;
mod usage;
mod volumes;
mod walk;
mod watchdog;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::channel::Channel;
use crate::system;
use crate::wire::keeper::{OutOfMemory, Reply, Request, Setup, SnapshotEnd, SocketKind, TRIED_MOUNTS, Usage};
use cgroups::Groups;
use children::Engine;
use namespaces::{Entered, Namespaces};
use snapshot::Snapshotter;
use watchdog::Watchdog;

/// The maximum number of sockets per request.
const MAX_SOCKETS: u32 = 32;

/// A step that failed, for the library's error message.
#[derive(Debug)]
pub(crate) struct Failure {
    step: String,
    cause: io::Error,
}

impl Failure {
    /// The same with that before the step.
    fn of(self, what: &str) -> Self {
        Self { step: format!("{what}{}", self.step), ..self }
    }
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    fn step(self, step: impl AsRef<str>) -> Result<T, Failure>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: impl AsRef<str>) -> Result<T, Failure> {
        self.map_err(|cause| Failure { step: step.as_ref().to_owned(), cause })
    }
}

/// Why the keeper ends.
enum End {
    /// The library or the host has ended, or the library requested it.
    Requested,
    /// A step failed.
    Failed(Failure),
    /// runsc ended.
    Engine,
    /// The lifetime is over, and the library hasn't ended the sandbox.
    Expired,
    /// The sandbox is out of memory.
    OutOfMemory(OutOfMemory),
}

struct Keeper {
    channel: Channel,
    host: OwnedFd,
    namespaces: Option<Namespaces>,
    /// The images that runsc opens, until it is started.
    images: Vec<OwnedFd>,
    /// The locks of the sandbox's volumes, which last as long as this process.
    volume_locks: Vec<OwnedFd>,
    engine: Option<Engine>,
    snapshotter: Option<Snapshotter>,
    groups: Groups,
    watchdog: Watchdog,
    deadline: Option<Instant>,
    /// The number of usage requests that wait for the walk.
    usage_requests: u32,
}

/// Runs the supervisor.
pub(crate) fn main() -> ExitCode {
    let mut keeper = Keeper {
        channel: Channel::new(system::inherited(3)),
        host: system::inherited(4),
        namespaces: None,
        images: Vec::new(),
        volume_locks: Vec::new(),
        engine: None,
        snapshotter: None,
        groups: Groups::default(),
        watchdog: Watchdog::default(),
        deadline: None,
        usage_requests: 0,
    };
    let mut out_of_memory = OutOfMemory::No;
    match keeper.run_loop() {
        End::Requested | End::Engine => {}
        End::Expired => keeper.send(&Reply::Expired, vec![]),
        End::OutOfMemory(by) => out_of_memory = by,
        End::Failed(failure) => {
            let errno = failure.cause.raw_os_error().unwrap_or(libc::EIO);
            let step = failure.step.into_bytes();
            keeper.send(&Reply::Failed { step, errno }, vec![]);
        }
    }
    // Before the rest, which it works on. It is reaped with the others.
    keeper.snapshotter = None;
    if let Some(engine) = keeper.engine.take() {
        let ended = engine.end(&keeper.groups, out_of_memory);
        keeper.send(&ended, vec![]);
    }
    keeper.groups.remove();
    keeper.finish();
    ExitCode::SUCCESS
}

/// The timeout of poll(2) in milliseconds, negative for none, cut to the time that is left.
fn cut_timeout(timeout: i32, left: Option<Duration>) -> i32 {
    let Some(left) = left else { return timeout };
    // Rounded up, so as not to wake too early.
    let left = i32::try_from(left.as_millis()).unwrap_or(i32::MAX - 1) + i32::from(!left.is_zero());
    if timeout < 0 { left } else { timeout.min(left) }
}

fn out_of_order<T>() -> Result<T, Failure> {
    Err(io::Error::from_raw_os_error(libc::EPROTO)).step("order of messages")
}

/// Reports why there will be no sandbox.
pub(crate) fn refuse(why: &str) -> ExitCode {
    let mut channel = Channel::new(system::inherited(3));
    let reply = Reply::Failed { step: why.as_bytes().to_vec(), errno: libc::ENOEXEC };
    let _ = channel.send(&reply.encode(), vec![]);
    ExitCode::FAILURE
}

impl Keeper {
    fn run_loop(&mut self) -> End {
        if let Err(failure) = self.detach() {
            return End::Failed(failure);
        }
        loop {
            match self.wait() {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(cause) => return End::Failed(Failure { step: "waiting".into(), cause }),
            }
            loop {
                let message = match self.channel.receive() {
                    Ok(message) => message,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return End::Requested,
                };
                let Ok(request) = Request::decode(&message.bytes) else {
                    return End::Requested;
                };
                if message.truncated {
                    let cause = io::Error::from_raw_os_error(libc::EMFILE);
                    return End::Failed(Failure { step: "descriptors".into(), cause });
                }
                match self.handle(request, message.fds) {
                    Ok(true) => {}
                    Ok(false) => return End::Requested,
                    Err(failure) => return End::Failed(failure),
                }
            }
        }
    }

    /// Leaves the host's session, so that a Ctrl-C at its terminal doesn't reach the sandbox, and gives up
    /// the ways to gain privileges.
    fn detach(&mut self) -> Result<(), Failure> {
        // SAFETY: setsid takes nothing.
        unsafe { libc::setsid() };
        system::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).step("no_new_privs")?;
        // Orphans of a killed runsc become our children, to be reaped.
        system::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).step("subreaper")?;
        // SAFETY: the name is a NUL-terminated literal.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"sbx-keeper".as_ptr()) };
        // SAFETY: umask takes a number.
        unsafe { libc::umask(0o022) };
        system::block_sigchld().step("signals")?;
        Ok(())
    }

    /// What is left of the lifetime.
    fn remaining_lifetime(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Continues the walk over the sandbox's processes, for the library or the watchdog.
    fn walk(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let is_watched = self.watchdog.is_on() && !engine.is_held();
        let due = self.usage_requests > 0 || (is_watched && engine.pause().is_zero());
        if due && let Some(used) = engine.walk(&self.groups) {
            for _ in 0..std::mem::take(&mut self.usage_requests) {
                self.send(&Reply::Used(used), vec![]);
            }
        }
    }

    /// Waits for the next event. Returns why the sandbox ends, if it does.
    fn wait(&mut self) -> io::Result<Option<End>> {
        let channel = libc::POLLIN | if self.channel.wants_write() { libc::POLLOUT } else { 0 };
        let (process, output) = match &self.engine {
            Some(engine) => (engine.pidfd().as_raw_fd(), engine.output().map_or(-1, |fd| fd.as_raw_fd())),
            None => (-1, -1),
        };
        let memory = self.groups.out_of_memory_signal().map_or(-1, |fd| fd.as_raw_fd());
        let snapshots = self.snapshotter.as_ref().map_or(-1, |process| process.channel().as_raw_fd());
        let mut set = [
            libc::pollfd { fd: self.channel.as_raw_fd(), events: channel, revents: 0 },
            libc::pollfd { fd: self.host.as_raw_fd(), events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: process, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: output, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: memory, events: libc::POLLIN, revents: 0 },
            libc::pollfd { fd: snapshots, events: libc::POLLIN, revents: 0 },
        ];
        self.walk();
        let timeout = self.engine.as_mut().map_or(-1, |engine| {
            let look = if engine.is_held() { -1 } else { self.watchdog.timeout(engine) };
            match (self.usage_requests, look) {
                // Poll without waiting: the walk continues after the other events.
                (1.., _) => 0,
                (0, -1) => -1,
                (0, look) => {
                    look.min(i32::try_from(engine.pause().as_millis()).unwrap_or(look).saturating_add(1))
                }
            }
        });
        let timeout = cut_timeout(timeout, self.remaining_lifetime());
        // SAFETY: the array is live and as long as said.
        let ready = unsafe { libc::poll(set.as_mut_ptr(), set.len() as libc::nfds_t, timeout) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(None) } else { Err(error) };
        }
        let [channel, host, process, output, memory, snapshots] = set.map(|entry| entry.revents != 0);
        if host {
            return Ok(Some(End::Requested));
        }
        if channel && self.flush().is_err() {
            return Ok(Some(End::Requested));
        }
        if process {
            return Ok(Some(End::Engine));
        }
        if memory {
            return Ok(Some(End::OutOfMemory(OutOfMemory::Kernel)));
        }
        if self.remaining_lifetime().is_some_and(|left| left.is_zero()) {
            return Ok(Some(End::Expired));
        }
        if self.watchdog.has_triggered() {
            return Ok(Some(End::OutOfMemory(OutOfMemory::Watchdog)));
        }
        if output && let Some(engine) = &mut self.engine {
            engine.read_output();
        }
        if snapshots {
            self.pass_on_snapshot();
        }
        Ok(None)
    }

    /// Passes on how a snapshot has ended. The process for snapshots may be gone (killed for want of memory): what it had
    /// paused stays so, and the library ends the sandbox.
    fn pass_on_snapshot(&mut self) {
        let Some(process) = &mut self.snapshotter else {
            debug_assert!(false, "its channel is ready");
            return;
        };
        match process.receive() {
            Ok(None) => {}
            Ok(Some(reply)) => self.send(&reply, vec![]),
            Err(_) => {
                let was_busy = process.is_busy();
                self.snapshotter = None;
                if was_busy {
                    let step = b"the process for snapshots has ended".to_vec();
                    let end = SnapshotEnd::Failed { step, errno: libc::ECHILD };
                    let lost = Reply::SnapshotEnded { end, bytes: 0, paused_us: 0, is_paused: true };
                    self.send(&lost, vec![]);
                }
            }
        }
    }

    /// Begins a snapshot into the file, or reports why there is none.
    fn snapshot(&mut self, request: &Request, file: OwnedFd) {
        let refused = match &mut self.snapshotter {
            Some(process) => process.begin(request, file),
            None => {
                let step = b"the process for snapshots".to_vec();
                Some(SnapshotEnd::Failed { step, errno: libc::ESRCH })
            }
        };
        if let Some(end) = refused {
            self.send(&Reply::SnapshotEnded { end, bytes: 0, paused_us: 0, is_paused: false }, vec![]);
        }
    }

    /// Handles a request. Returns false if it is to end the sandbox.
    fn handle(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<bool, Failure> {
        let wanted = match &request {
            Request::Run { .. } | Request::Snapshot { .. } => 1,
            Request::Setup(setup) => {
                setup.groups.len().saturating_add(usize::try_from(setup.images).unwrap_or(usize::MAX))
            }
            _ => 0,
        };
        if fds.len() != wanted {
            return Err(io::Error::from_raw_os_error(libc::EPROTO)).step("descriptors of a message");
        }
        let is_ready = self.namespaces.is_some() && self.engine.is_none();
        let networked = self.namespaces.as_ref().is_some_and(|namespaces| namespaces.sandbox.is_some());
        match request {
            Request::Setup(setup) if self.namespaces.is_none() => self.set_up(&setup, fds)?,
            Request::Run { arguments, hold } => self.run(&arguments, hold, fds)?,
            // Without G the sockets would be in the host's namespace.
            Request::Sockets { kind, count, purpose } if networked => {
                self.sockets(kind, count.min(MAX_SOCKETS), purpose);
            }
            Request::Kill => return Ok(false),
            Request::Lifetime { milliseconds } => {
                // On overflow there is no deadline.
                self.deadline = Instant::now().checked_add(Duration::from_millis(milliseconds));
            }
            // The walk in progress answers this request too.
            Request::Usage if self.usage_requests > 0 => {
                self.usage_requests = self.usage_requests.saturating_add(1)
            }
            Request::Usage => {
                let used =
                    self.engine.as_mut().map_or(Some(Usage::default()), |engine| engine.usage(&self.groups));
                match used {
                    Some(used) => self.send(&Reply::Used(used), vec![]),
                    None => self.usage_requests = 1,
                }
            }
            Request::KeepSnapshots { arguments, id } if is_ready && self.snapshotter.is_none() => {
                self.snapshotter = Some(Snapshotter::start(&arguments, &id, networked)?);
            }
            Request::Snapshot { .. } if self.engine.is_some() => {
                if let Some(file) = fds.into_iter().next() {
                    self.snapshot(&request, file);
                }
            }
            // For one that has ended meanwhile it does nothing.
            Request::CancelSnapshot => {
                if let Some(process) = &mut self.snapshotter {
                    process.cancel();
                }
            }
            Request::Proceed => match &mut self.engine {
                Some(engine) if engine.is_held() => engine.let_go().step("letting go of runsc")?,
                _ => return out_of_order(),
            },
            Request::Setup(_)
            | Request::Sockets { .. }
            | Request::KeepSnapshots { .. }
            | Request::Snapshot { .. } => return out_of_order(),
        }
        Ok(true)
    }

    fn set_up(&mut self, setup: &Setup, mut fds: Vec<OwnedFd>) -> Result<(), Failure> {
        self.images = fds.split_off(setup.groups.len().min(fds.len()));
        // Before entering the user namespace, whose owner has fewer rights to write.
        self.groups = Groups::make(&setup.groups, fds)?;
        self.watchdog = Watchdog::new(setup.watched_memory);
        let Entered { namespaces, refused, fds } = namespaces::enter(setup)?;
        self.namespaces = Some(namespaces);
        if setup.only_namespaces {
            namespaces::try_more(setup.network)?;
            mount_setup::try_out().map_err(|failure| failure.of(TRIED_MOUNTS))?;
        }
        // The library configures the links while the root file system is set up here.
        self.send(&Reply::Namespaces { refused }, fds);
        if setup.only_namespaces {
            return Ok(());
        }
        self.volume_locks = mount_setup::run(setup)?;
        // The kernel lets the umount wait for its RCU, for a millisecond and on a busy machine for ten and more. The
        // library's next request comes meanwhile, and is read after it.
        self.send(&Reply::Prepared, vec![]);
        mount_setup::leave_host()
    }

    fn run(&mut self, arguments: &[Vec<u8>], hold: bool, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let (Some(namespaces), None) = (&self.namespaces, &self.engine) else {
            return out_of_order();
        };
        let sandbox = namespaces.sandbox.as_ref().map(AsFd::as_fd);
        let [channel] = <[OwnedFd; 1]>::try_from(fds)
            .map_err(|_| io::Error::from_raw_os_error(libc::EPROTO))
            .step("descriptors of a message")?;
        // runsc's own, once it runs: an image that is removed is given back when the sandbox ends.
        let images = std::mem::take(&mut self.images);
        let held = if hold { Some(children::hold().step("a FIFO for runsc's log")?) } else { None };
        self.engine = Some(Engine::start(arguments, sandbox, &channel, &images, &self.groups, held)?);
        drop(channel);
        self.send(&Reply::Running, vec![]);
        seccomp::restrict().step("seccomp filter")
    }

    fn sockets(&mut self, kind: SocketKind, count: u32, purpose: u32) {
        let family = if kind.ipv6 { libc::AF_INET6 } else { libc::AF_INET };
        let style = if kind.datagram { libc::SOCK_DGRAM } else { libc::SOCK_STREAM };
        let fds = (0..count).map_while(|_| system::socket(family, style, 0).ok()).collect();
        // The channel keeps what can't be sent now.
        let _ = self.channel.send(&Reply::Sockets { kind, purpose }.encode(), fds);
        let _ = self.flush();
    }

    /// Sends pending messages. If too many descriptors are in flight (unix(7), ETOOMANYREFS), sends the
    /// message without them: a reply with no sockets is valid.
    fn flush(&mut self) -> io::Result<bool> {
        match self.channel.flush() {
            Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                self.channel.forget_descriptors();
                self.channel.flush()
            }
            done => done,
        }
    }

    /// Sends the remaining messages, for at most a moment.
    fn finish(&mut self) {
        while self.channel.wants_write() {
            let mut set = libc::pollfd { fd: self.channel.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
            // SAFETY: one live struct.
            let ready = unsafe { libc::poll(&raw mut set, 1, 1000) };
            if ready <= 0 || self.flush().is_err() {
                return;
            }
        }
    }

    /// Sends a reply. If the library is gone, the next wait notices.
    fn send(&mut self, reply: &Reply, fds: Vec<OwnedFd>) {
        let _ = self.channel.send(&reply.encode(), fds);
    }
}
