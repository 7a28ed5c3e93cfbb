//! The programs that init has started.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::CString;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::events::{Events, Interest, Token};
use super::files;
use super::session::Kills;
use super::users::{Accounts, Identity};
use crate::spawn::{self, Command, Executable};
use crate::system;
use crate::wire::Secret;
use crate::wire::init::{Reply, Source, Start, Step};

/// Where programs are looked for if the environment has no PATH.
const SEARCH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a terminal is called if the environment doesn't say.
const TERMINAL: &[u8] = b"TERM=xterm";

/// A program whose child has not executed it yet: it may be held up by a file system, and by that alone.
#[derive(Debug)]
struct Starting {
    /// The child says here at which step it failed and why; the end of it is that it hasn't.
    report: PipeReader,
    /// The signals that are sent to it, and to its group, once it has started.
    behind: [u64; 2],
    /// Whether there is one at all, or a directory only.
    program: bool,
}

/// Running programs.
#[derive(Debug)]
pub(super) struct Programs {
    /// Process numbers, by the library's number.
    running: HashMap<u32, i32>,
    /// The library's numbers, by process number.
    numbers: HashMap<i32, u32>,
    /// The limit of descriptors that a program starts with; init's own is higher.
    descriptors: libc::rlimit,
    accounts: Accounts,
    kills: Kills,
    starting: HashMap<u32, Starting>,
}

impl Programs {
    /// None yet.
    pub(super) fn new(descriptors: libc::rlimit) -> Self {
        let (running, numbers) = (HashMap::new(), HashMap::new());
        let (accounts, kills, starting) = (Accounts::default(), Kills::default(), HashMap::new());
        Self { running, numbers, descriptors, accounts, kills, starting }
    }

    /// Begins to start a program, on a terminal if there is one. The answer comes from [`Self::settle`], unless it is
    /// known already.
    pub(super) fn start(
        &mut self,
        events: &Events,
        start: &Start,
        streams: &[OwnedFd],
        terminal: Option<&OwnedFd>,
    ) -> Option<Reply> {
        let id = start.id;
        if self.running.contains_key(&id) {
            return Some(Reply::NotStarted { id, step: Step::Message, errno: libc::EEXIST });
        }
        let program = !start.arguments.is_empty();
        let begun = match program {
            true => run(start, streams, terminal, &self.descriptors, &mut self.accounts),
            false => fork(&[], |_| match files::make_directories(&start.directory) {
                // SAFETY: _exit takes a number. Nothing of init's is run or flushed.
                Ok(()) => unsafe { libc::_exit(0) },
                Err(errno) => (Step::MakeDirectory, errno),
            }),
        };
        match begun {
            Ok((pid, report)) => {
                self.running.insert(id, pid);
                self.numbers.insert(pid, id);
                // Without room for it in the set, it is heard when the child has ended.
                if events.add(report.as_raw_fd(), Token::Start { id }, Interest::READ).is_err() {
                    // SAFETY: kill takes numbers; the child has not been reaped, so its number is its own.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
                self.starting.insert(id, Starting { report, behind: [0; 2], program });
                None
            }
            Err((step, errno)) => Some(Reply::NotStarted { id, step, errno }),
        }
    }

    /// How a start went that has been begun, if that is to be said.
    pub(super) fn settle(&mut self, events: &Events, id: u32) -> Option<Reply> {
        let mut starting = self.starting.remove(&id)?;
        let _ = events.remove(starting.report.as_raw_fd());
        let mut said = [0_u8; REPORT];
        // What is there has come whole, since it is short.
        let length = starting.report.read(&mut said).unwrap_or(0);
        let (step, errno) = said.split_at(1);
        let failed = (length == REPORT).then(|| Some((Step::from(*step.first()?).ok()?, errno.try_into().ok()?)));
        if let Some(Some((step, errno))) = failed {
            self.forget(id);
            return Some(Reply::NotStarted { id, step, errno: i32::from_ne_bytes(errno) });
        }
        if !starting.program {
            self.forget(id);
        }
        for (group, signals) in [false, true].into_iter().zip(starting.behind) {
            for signal in (1..=64).filter(|signal| signals & bit(*signal) != 0) {
                self.signal(id, signal, group);
            }
        }
        Some(Reply::Started { id })
    }

    /// Its child is an orphan from now on.
    fn forget(&mut self, id: u32) {
        if let Some(pid) = self.running.remove(&id) {
            self.numbers.remove(&pid);
            self.kills.reaped(pid);
        }
    }

    /// Sends a signal, if the program still runs.
    pub(super) fn signal(&mut self, id: u32, signal: i32, group: bool) {
        let Some(pid) = self.running.get(&id) else { return };
        if let Some(starting) = self.starting.get_mut(&id) {
            // It leads no group yet, and what it will do about signals is not to be seen.
            if signal != libc::SIGKILL {
                let [one, all] = &mut starting.behind;
                *(if group { all } else { one }) |= bit(signal);
                return;
            }
            // SAFETY: as below.
            unsafe { libc::kill(*pid, signal) };
        }
        // Every program leads a group of its own (setsid).
        // SAFETY: kill takes numbers; the child has not been reaped, so its number is its own.
        unsafe { libc::kill(if group { -pid } else { *pid }, signal) };
    }

    /// Kills a program and all that it has started, as far as that can be found, if it still runs. That is done
    /// by [`Self::go_on`].
    pub(super) fn kill_session(&mut self, id: u32) {
        if let Some(pid) = self.running.get(&id) {
            self.kills.add(*pid);
        }
    }

    /// Whether something is being killed.
    pub(super) fn is_busy(&self) -> bool {
        self.kills.is_busy()
    }

    /// Goes on with killing, for a moment.
    pub(super) fn go_on(&mut self) {
        self.kills.turn();
    }

    /// The library's number of a child, if it has one.
    pub(super) fn number(&self, pid: i32) -> Option<u32> {
        self.numbers.get(&pid).copied()
    }

    /// The library's number of a child that has ended; `None` for an orphan.
    pub(super) fn ended(&mut self, pid: i32) -> Option<u32> {
        let id = self.numbers.remove(&pid)?;
        self.running.remove(&id);
        self.kills.reaped(pid);
        Some(id)
    }
}

/// A signal's place in a set of them; nothing for what is none.
fn bit(signal: i32) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

/// The length of what a child says: the step and the number.
const REPORT: usize = 5;

/// Has a child do something that ends it, or fails. It has these descriptors, and the one that it reports on.
fn fork(
    descriptors: &[BorrowedFd<'_>],
    work: impl FnOnce(&mut RawFd) -> (Step, i32),
) -> Result<(i32, PipeReader), (Step, i32)> {
    let failed = |error: &io::Error| (Step::Process, number(error));
    let (report, write) = io::pipe().map_err(|error| failed(&error))?;
    // SAFETY: init has one thread, so its fork may do whatever init may.
    let pid = system::check(unsafe { libc::fork() }).map_err(|error| failed(&error))?;
    if pid > 0 {
        return Ok((pid, report));
    }
    let mut place = write.as_raw_fd();
    let mut kept: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).chain([place]).collect();
    kept.sort_unstable();
    let (step, errno) = match files::close_others(&kept) {
        Ok(()) => work(&mut place),
        Err(error) => failed(&error),
    };
    let [a, b, c, d] = errno.to_ne_bytes();
    let said = [step as u8, a, b, c, d];
    // SAFETY: the bytes are live and as many as said; _exit takes a number. Nothing of init's is run or flushed.
    unsafe {
        libc::write(place, said.as_ptr().cast(), said.len());
        libc::_exit(127)
    }
}

fn run(
    start: &Start,
    streams: &[OwnedFd],
    terminal: Option<&OwnedFd>,
    descriptors: &libc::rlimit,
    accounts: &mut Accounts,
) -> Result<(i32, PipeReader), (Step, i32)> {
    let malformed = (Step::Message, libc::EINVAL);
    let string = |text: &[u8]| CString::new(text).map_err(|_| malformed);
    let name = start.arguments.first().ok_or(malformed)?;
    let null = match start.streams.contains(&Source::Null) && terminal.is_none() {
        true => Some(system::open(c"/dev/null", libc::O_RDWR).map_err(|error| (Step::Message, number(&error)))?),
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
        // A pipe of init's own making. Who runs the program may open it by name; one that can't be given away is
        // read all the same.
        // SAFETY: fchown takes numbers.
        unsafe { libc::fchown(streams[0].as_raw_fd(), identity.user, libc::gid_t::MAX) };
    }
    if variable(&start.environment, b"HOME").is_none() {
        environment.push(CString::new([b"HOME=", identity.home.as_slice()].concat()).map_err(|_| malformed)?);
    }
    let search = match variable(&start.environment, b"PATH") {
        Some(search) => search,
        None => {
            environment.push(CString::new([b"PATH=", SEARCH].concat()).map_err(|_| malformed)?);
            SEARCH
        }
    };
    if terminal.is_some() && variable(&start.environment, b"TERM").is_none() {
        environment.push(CString::new(TERMINAL).map_err(|_| malformed)?);
    }
    let directory = CString::new(start.directory.as_slice()).map_err(|_| malformed)?;
    let paths = candidates(name, search).ok_or(malformed)?;
    let descriptors = match libc::rlim_t::from(start.open_files) {
        0 => *descriptors,
        most => libc::rlimit { rlim_cur: most, rlim_max: most },
    };
    let step = Cell::new(Step::Process);
    let mut prepare = || {
        // By root and for everybody to enter, as docker and runsc do it, along whatever links there are inside.
        step.set(Step::MakeDirectory);
        files::make_directories(&start.directory)?;
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
    // Not as the host does it: a child that borrows init's memory holds init up for as long as a file system does that
    // to the child.
    fork(&streams, |report| {
        let mut command = Command {
            executable: Executable::Paths(&paths),
            arguments: &arguments,
            environment: &environment,
            descriptors: &streams,
            // The standard library ignores it before `main`; the rest is as the sentry starts init.
            dispositions: libc::SIGPIPE..=libc::SIGPIPE,
            prepare: &mut prepare,
        };
        let errno = spawn::execute(&mut command, report);
        (step.get(), errno)
    })
}

/// The three streams, from what came with the message.
fn place<'a>(sources: &[Source; 3], given: &'a [OwnedFd], null: Option<&'a OwnedFd>) -> Option<[BorrowedFd<'a>; 3]> {
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

fn number(error: &io::Error) -> i32 {
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

/// Makes the terminal this process's own: its user's, and the one that job control goes by.
fn control(terminal: &OwnedFd, identity: &Identity) -> Result<(), i32> {
    let fd = terminal.as_raw_fd();
    // A devpts that keeps its owners does no harm: who has it open may use it, and so may who opens /dev/tty.
    // SAFETY: fchown takes numbers.
    unsafe { libc::fchown(fd, identity.user, libc::gid_t::MAX) };
    // SAFETY: TIOCSCTTY takes a number.
    system::check(unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) }).map_err(|error| number(&error))?;
    Ok(())
}

/// The raw calls: libc's own would ask every thread, and this may run in borrowed memory.
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
