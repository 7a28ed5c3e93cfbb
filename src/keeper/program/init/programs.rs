//! The programs that init has started.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::files;
use super::session::Kills;
use super::users::{Accounts, Identity};
use crate::spawn::{self, Command, Executable};
use crate::system;
use crate::wire::Secret;
use crate::wire::init::{Reply, Source, Start, Step};

/// The search path if the environment has no PATH.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variable TERM of a terminal if the environment has none.
const DEFAULT_TERM: &[u8] = b"TERM=xterm";

/// The running programs.
#[derive(Debug)]
pub(super) struct Programs {
    /// Pids, by the library's id.
    running: HashMap<u32, i32>,
    /// The library's ids, by pid.
    numbers: HashMap<i32, u32>,
    /// The limit of open files that a program starts with; init's own is higher.
    descriptors: libc::rlimit,
    accounts: Accounts,
    kills: Kills,
}

impl Programs {
    pub(super) fn new(descriptors: libc::rlimit) -> Self {
        let (running, numbers) = (HashMap::new(), HashMap::new());
        Self { running, numbers, descriptors, accounts: Accounts::default(), kills: Kills::default() }
    }

    /// Starts a program, on a terminal if there is one.
    pub(super) fn start(&mut self, start: &Start, streams: &[OwnedFd], terminal: Option<&OwnedFd>) -> Reply {
        if self.running.contains_key(&start.id) {
            return Reply::NotStarted { id: start.id, step: Step::Message, errno: libc::EEXIST };
        }
        // The library sends only absolute ones; a relative one would be created below init's own directory.
        if !start.directory.is_empty() && !start.directory.starts_with(b"/") {
            return Reply::NotStarted { id: start.id, step: Step::MakeDirectory, errno: libc::EINVAL };
        }
        if let Err(errno) = files::replace_all(&start.files) {
            return Reply::NotStarted { id: start.id, step: Step::WriteFiles, errno };
        }
        // As root and with mode 0755, as docker and runsc create it.
        if let Err(errno) = files::make_directories(&start.directory) {
            return Reply::NotStarted { id: start.id, step: Step::MakeDirectory, errno };
        }
        if start.arguments.is_empty() {
            return Reply::Started { id: start.id };
        }
        match run(start, streams, terminal, &self.descriptors, &mut self.accounts) {
            Ok(pid) => {
                self.running.insert(start.id, pid);
                self.numbers.insert(pid, start.id);
                Reply::Started { id: start.id }
            }
            Err((step, errno)) => Reply::NotStarted { id: start.id, step, errno },
        }
    }

    /// Sends a signal, if the program still runs.
    pub(super) fn signal(&self, id: u32, signal: i32, group: bool) {
        if let Some(pid) = self.running.get(&id) {
            // Every program leads its own process group (setsid).
            // SAFETY: kill takes numbers; the child has not been reaped, so its number is its own.
            unsafe { libc::kill(if group { -pid } else { *pid }, signal) };
        }
    }

    /// Kills a program if it still runs, and every process that it has started, as far as they can be found.
    /// [`Self::advance_kills`] does the work.
    pub(super) fn kill_session(&mut self, id: u32) {
        if let Some(pid) = self.running.get(&id) {
            self.kills.add(*pid);
        }
    }

    /// Whether there are programs to be killed.
    pub(super) fn is_busy(&self) -> bool {
        self.kills.is_busy()
    }

    /// Continues to kill, for a bounded time.
    pub(super) fn advance_kills(&mut self) {
        self.kills.turn();
    }

    /// Records that a child was reaped and returns the program's id; `None` for an orphan.
    pub(super) fn ended(&mut self, pid: i32) -> Option<u32> {
        let id = self.numbers.remove(&pid)?;
        self.running.remove(&id);
        self.kills.reaped(pid);
        Some(id)
    }
}

fn run(
    start: &Start,
    streams: &[OwnedFd],
    terminal: Option<&OwnedFd>,
    descriptors: &libc::rlimit,
    accounts: &mut Accounts,
) -> Result<i32, (Step, i32)> {
    let malformed = (Step::Message, libc::EINVAL);
    let string = |text: &[u8]| CString::new(text).map_err(|_| malformed);
    let name = start.arguments.first().ok_or(malformed)?;
    let null = match start.streams.contains(&Source::Null) && terminal.is_none() {
        true => {
            Some(system::open(c"/dev/null", libc::O_RDWR).map_err(|error| (Step::Message, number(&error)))?)
        }
        false => None,
    };
    let streams = match terminal {
        Some(terminal) => [terminal.as_fd(); 3],
        None => place(&start.streams, streams, null.as_ref()).ok_or(malformed)?,
    };
    let arguments = start.arguments.iter().map(|text| string(text)).collect::<Result<Vec<_>, _>>()?;
    let mut environment = start.environment.iter().map(|text| string(text)).collect::<Result<Vec<_>, _>>()?;
    let identity = accounts.look_up(&start.user).ok_or((Step::User, libc::ENOENT))?;
    if terminal.is_none() && start.streams[0] == Source::Given && identity.user != 0 {
        // This is init's pipe, and the program's user may open it by name (/dev/stdin). If its owner can't be
        // changed, the descriptor still works.
        // SAFETY: fchown takes numbers.
        unsafe { libc::fchown(streams[0].as_raw_fd(), identity.user, libc::gid_t::MAX) };
    }
    if variable(&start.environment, b"HOME").is_none() {
        environment.push(CString::new([b"HOME=", identity.home.as_slice()].concat()).map_err(|_| malformed)?);
    }
    let search = match variable(&start.environment, b"PATH") {
        Some(search) => search,
        None => {
            environment.push(CString::new([b"PATH=", DEFAULT_PATH].concat()).map_err(|_| malformed)?);
            DEFAULT_PATH
        }
    };
    if terminal.is_some() && variable(&start.environment, b"TERM").is_none() {
        environment.push(CString::new(DEFAULT_TERM).map_err(|_| malformed)?);
    }
    let directory = CString::new(start.directory.as_slice()).map_err(|_| malformed)?;
    let paths = candidates(name, search).ok_or(malformed)?;
    let descriptors = match libc::rlim_t::from(start.open_files) {
        0 => *descriptors,
        most => libc::rlimit { rlim_cur: most, rlim_max: most },
    };
    // The child shares this memory until it executes the program, so the parent can read what it stores here.
    let step = Cell::new(Step::Process);
    let mut prepare = || {
        step.set(Step::Identity);
        // SAFETY: setsid takes nothing.
        unsafe { libc::setsid() };
        // SAFETY: the struct is live.
        let done = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const descriptors) };
        system::check(done).map_err(|error| number(&error))?;
        if let Some(terminal) = terminal {
            step.set(Step::Terminal);
            control(terminal, &identity)?;
            step.set(Step::Identity);
        }
        become_user(&identity)?;
        if !start.setuid_allowed {
            system::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(|error| number(&error))?;
        }
        step.set(Step::Directory);
        // SAFETY: the path ends with NUL.
        system::check(unsafe { libc::chdir(directory.as_ptr()) }).map_err(|error| number(&error))?;
        step.set(Step::Execute);
        Ok(())
    };
    let child = spawn::spawn(&mut Command {
        executable: Executable::Paths(&paths),
        arguments: &arguments,
        environment: &environment,
        descriptors: &streams,
        // The standard library ignores SIGPIPE before `main`; the rest is as the sentry starts init.
        dispositions: libc::SIGPIPE..=libc::SIGPIPE,
        prepare: &mut prepare,
    });
    child.map(|child| child.pid).map_err(|error| (step.get(), number(&error)))
}

/// The three standard streams, from the message's descriptors.
fn place<'a>(
    sources: &[Source; 3],
    given: &'a [OwnedFd],
    null: Option<&'a OwnedFd>,
) -> Option<[BorrowedFd<'a>; 3]> {
    let mut given = given.iter();
    let mut next = |source: Source, stdout: Option<BorrowedFd<'a>>| match source {
        Source::Null => null.map(AsFd::as_fd),
        Source::Given => given.next().map(AsFd::as_fd),
        Source::Stdout => stdout,
    };
    let stdin = next(sources[0], None)?;
    let stdout = next(sources[1], None)?;
    let stderr = next(sources[2], Some(stdout))?;
    given.next().is_none().then_some([stdin, stdout, stderr])
}

fn number(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

fn variable<'a>(environment: &'a [Secret], name: &[u8]) -> Option<&'a [u8]> {
    environment.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
}

/// The paths to try for a name (execvp(3)).
fn candidates(name: &[u8], search: &[u8]) -> Option<Vec<CString>> {
    if name.contains(&b'/') {
        return Some(vec![CString::new(name).ok()?]);
    }
    search
        .split(|byte| *byte == b':')
        .filter(|directory| directory.starts_with(b"/"))
        .map(|directory| CString::new([directory, b"/", name].concat()).ok())
        .collect()
}

/// Gives the terminal to the program's user and makes it the controlling terminal.
fn control(terminal: &OwnedFd, identity: &Identity) -> Result<(), i32> {
    let fd = terminal.as_raw_fd();
    // Failure is harmless: a process that has the terminal open may use it, and so may one that opens
    // /dev/tty.
    // SAFETY: fchown takes numbers.
    unsafe { libc::fchown(fd, identity.user, libc::gid_t::MAX) };
    // SAFETY: TIOCSCTTY takes a number.
    system::check(unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) }).map_err(|error| number(&error))?;
    Ok(())
}

/// Changes the user by raw system calls: libc's functions would synchronise all threads, and this may run in
/// the memory of the parent (vfork).
pub(super) fn become_user(identity: &Identity) -> Result<(), i32> {
    let groups = identity.groups.as_ptr();
    // SAFETY: the list is live and as long as said; the other calls take numbers.
    let done = unsafe { libc::syscall(libc::SYS_setgroups, identity.groups.len(), groups) };
    system::check(done).map_err(|error| number(&error))?;
    let (user, group) = (identity.user, identity.group);
    // SAFETY: setresgid takes numbers.
    let done = unsafe { libc::syscall(libc::SYS_setresgid, group, group, group) };
    system::check(done).map_err(|error| number(&error))?;
    // SAFETY: setresuid takes numbers.
    let done = unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) };
    system::check(done).map_err(|error| number(&error))?;
    Ok(())
}
