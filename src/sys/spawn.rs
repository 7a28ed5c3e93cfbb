//! Starting a program without copying the host: clone(2) with CLONE_VM and CLONE_VFORK.
//!
//! The cost does not grow with the host's memory, and no handler of pthread_atfork runs. The child borrows
//! the parent's memory until it executes, on a stack of its own, with every signal blocked, and makes
//! nothing but system calls. It starts with an environment made from scratch, default dispositions, an empty
//! signal mask, the hard limit of file size, and no descriptor but those named: hosts leak descriptors without close-on-exec.
#![allow(unsafe_code, reason = "clone, execveat and what a child does between them")]

use std::ffi::CString;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Where the program comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Executable<'a> {
    /// An open file.
    Open(BorrowedFd<'a>),
    /// Paths, the first that exists and may be executed is taken (the search of execvp(3)).
    Paths(&'a [CString]),
}

/// What is to be started.
pub(crate) struct Command<'a> {
    /// The program.
    pub(crate) executable: Executable<'a>,
    /// Its arguments, the name first.
    pub(crate) arguments: &'a [CString],
    /// Its whole environment, `NAME=value`.
    pub(crate) environment: &'a [CString],
    /// Its descriptors: the first becomes 0, the second 1, and so on. There are no others.
    pub(crate) descriptors: &'a [BorrowedFd<'a>],
    /// The signals whose dispositions are set back to the default: [`EVERY_SIGNAL`], unless less is known to do.
    pub(crate) dispositions: RangeInclusive<i32>,
    /// Runs in the child before the descriptors are placed. It may only make system calls, must not
    /// allocate or panic, and returns an `errno`.
    pub(crate) prepare: &'a mut dyn FnMut() -> Result<(), i32>,
}

/// A started program.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its process id. Valid until it is reaped; for signals use the descriptor.
    pub(crate) pid: i32,
    /// Readable once it has ended.
    pub(crate) pidfd: OwnedFd,
}

/// A host may ignore any.
#[allow(dead_code, reason = "init knows what it ignores itself")]
pub(crate) const EVERY_SIGNAL: RangeInclusive<i32> = 1..=64;

/// Two of the largest pages there are (64 KiB, on some arm64 kernels), so that the first can be the guard.
const STACK: usize = 2 * GUARD;
const GUARD: usize = 64 * 1024;

struct Plan<'a, 'b> {
    command: &'a mut Command<'b>,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    /// Room for the moved descriptors, allocated before the child exists.
    moved: Vec<RawFd>,
    /// A further descriptor, and the number that it gets.
    wide: Option<(RawFd, RawFd)>,
    failure: i32,
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Starts a program. Returns when it has been executed, or with the error that kept it from that.
pub(crate) fn spawn(command: &mut Command<'_>) -> io::Result<Child> {
    start(command, None)
}

/// Starts a program that has a further descriptor with this number, above the others. Its table of descriptors has room up
/// to there from the start, and its children's tables have, too. The program is started without it where the limit of
/// descriptors doesn't allow it.
#[allow(dead_code, reason = "only the keeper starts such a program")]
pub(crate) fn spawn_wide(command: &mut Command<'_>, fd: BorrowedFd<'_>, number: RawFd) -> io::Result<Child> {
    start(command, Some((fd.as_raw_fd(), number)))
}

fn start(command: &mut Command<'_>, wide: Option<(RawFd, RawFd)>) -> io::Result<Child> {
    let mut plan = Plan {
        arguments: pointers(command.arguments),
        environment: pointers(command.environment),
        moved: vec![-1; command.descriptors.len()],
        wide,
        failure: 0,
        command,
    };
    let stack = Stack::new()?;
    let mut pidfd: RawFd = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;

    let mask = block_signals();
    // SAFETY: the stack is live and its top aligned; CLONE_VFORK keeps this thread, and so `plan` and
    // `stack`, where they are until the child has executed or ended; `pidfd` is written before that.
    let pid = unsafe { libc::clone(child, stack.top(), flags, (&raw mut plan).cast(), &raw mut pidfd) };
    let failed = io::Error::last_os_error();
    restore_signals(&mask);
    if pid < 0 {
        return Err(failed);
    }
    // SAFETY: clone succeeded, so the kernel opened this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    // The child wrote this through memory that the compiler does not know to be shared.
    // SAFETY: `plan.failure` is a live, aligned integer.
    let failure = unsafe { ptr::read_volatile(&raw const plan.failure) };
    if failure == 0 {
        return Ok(Child { pid, pidfd });
    }
    collect(&pidfd);
    Err(io::Error::from_raw_os_error(failure))
}

/// Takes a child that could not execute off the kernel's list; a host that reaps everything may have done so.
fn collect(pidfd: &OwnedFd) {
    // SAFETY: siginfo_t is a plain C struct for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = libc::id_t::try_from(pidfd.as_raw_fd()).unwrap_or(0);
    loop {
        // SAFETY: waitid writes into `info`, which lives long enough.
        let done = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED) };
        if done == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

/// The child's stack, with a page below it that can't be touched.
struct Stack(*mut libc::c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the kernel likes.
        let start = unsafe { libc::mmap(ptr::null_mut(), STACK, access, flags | libc::MAP_STACK, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(start);
        // SAFETY: the first page of the mapping.
        if unsafe { libc::mprotect(start, GUARD, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stack)
    }

    fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of the mapping, which is page-aligned.
        unsafe { self.0.byte_add(STACK) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's own, and no code runs on it any more.
        unsafe { libc::munmap(self.0, STACK) };
    }
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: sigset_t is a plain C struct for which all zeroes is a valid value.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    let mut old = all;
    // SAFETY: `all` is writable.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both sets are live.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old) };
    old
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: the set is live, the old one is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// The child: from here to execve nothing but system calls.
extern "C" fn child(plan: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passed its own Plan, which lives until this child has executed or ended.
    let plan = unsafe { &mut *plan.cast::<Plan<'_, '_>>() };
    let failure = match become_program(plan) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    // SAFETY: `plan.failure` is a live, aligned integer in memory shared with the parent.
    unsafe { ptr::write_volatile(&raw mut plan.failure, failure) };
    // SAFETY: _exit runs no handler of the parent's.
    unsafe { libc::_exit(127) }
}

fn become_program(plan: &mut Plan<'_, '_>) -> Result<std::convert::Infallible, i32> {
    default_dispositions(&plan.command.dispositions);
    unlimit_files();
    (plan.command.prepare)()?;
    let executable = match plan.command.executable {
        Executable::Open(fd) => Some(fd.as_raw_fd()),
        Executable::Paths(_) => None,
    };
    let executable = place_descriptors(plan, executable)?;
    // SAFETY: sigset_t is a plain C struct for which all zeroes, the empty set, is a valid value.
    let none: libc::sigset_t = unsafe { std::mem::zeroed() };
    restore_signals(&none);
    let arguments = plan.arguments.as_ptr();
    let environment = plan.environment.as_ptr();
    match plan.command.executable {
        Executable::Open(_) => {
            let fd = executable.unwrap_or(-1);
            // SAFETY: both arrays end with NULL, and their strings live in the parent, which waits.
            unsafe {
                libc::syscall(
                    libc::SYS_execveat,
                    fd,
                    c"".as_ptr(),
                    arguments,
                    environment,
                    libc::AT_EMPTY_PATH,
                )
            };
            Err(errno())
        }
        Executable::Paths(paths) => {
            let mut failure = libc::ENOENT;
            for path in paths {
                // SAFETY: as above; the path ends with NUL.
                unsafe { libc::execve(path.as_ptr(), arguments, environment) };
                match errno() {
                    libc::ENOENT | libc::ENOTDIR => {}
                    libc::EACCES => failure = libc::EACCES,
                    other => return Err(other),
                }
            }
            Err(failure)
        }
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)
}

/// Ignored signals stay ignored across execve, so all of them are set back. The table is the child's own:
/// CLONE_SIGHAND is not given. The raw call, since libc's refuses to touch the two signals it uses itself.
fn default_dispositions(signals: &RangeInclusive<i32>) {
    // The kernel's struct sigaction; all zeroes is SIG_DFL without flags.
    let default = [0_u64; 4];
    for signal in signals.clone() {
        // SAFETY: `default` is as long as the kernel's struct, and the size of a signal set is 8 bytes.
        // SIGKILL and SIGSTOP are refused, which is fine.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), 8) };
    }
}

/// A host may limit the size of its files. That isn't meant for gVisor, whose memory is a file, and whom the
/// signal of a larger one would kill. What the hard limit allows is taken.
fn unlimit_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is live.
    if unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: as above. The limits are the child's own, also while it borrows the parent's memory.
        unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) };
    }
}

/// Moves the named descriptors to 0, 1, 2 … and closes everything else. Returns where an open executable
/// is now (close-on-exec).
fn place_descriptors(plan: &mut Plan<'_, '_>, executable: Option<RawFd>) -> Result<Option<RawFd>, i32> {
    let count = i32::try_from(plan.command.descriptors.len()).map_err(|_| libc::EINVAL)?;
    // SAFETY: fcntl with this command takes numbers. It fails where the limit is lower, and nothing depends on it.
    let wide = plan.wide.map_or(-1, |(fd, number)| unsafe { libc::fcntl(fd, libc::F_DUPFD, number) });
    // First all of them above the targets, so that none overwrites another …
    for (fd, moved) in plan.command.descriptors.iter().zip(plan.moved.iter_mut()) {
        *moved = duplicate_above(fd.as_raw_fd(), count)?;
    }
    let mut executable = match executable {
        Some(fd) => Some(duplicate_above(fd, count)?),
        None => None,
    };
    // … then each to its place, without close-on-exec.
    for (target, moved) in (0..count).zip(plan.moved.iter()) {
        // SAFETY: dup2 takes numbers.
        if unsafe { libc::dup2(*moved, target) } < 0 {
            return Err(errno());
        }
    }
    if let Some(fd) = executable.as_mut() {
        // SAFETY: dup3 takes numbers.
        if unsafe { libc::dup3(*fd, count, libc::O_CLOEXEC) } < 0 {
            return Err(errno());
        }
        *fd = count;
    }
    let first = count + i32::from(executable.is_some());
    let first = libc::c_uint::try_from(first).map_err(|_| libc::EINVAL)?;
    match libc::c_uint::try_from(wide) {
        Ok(wide) if wide > first => {
            close_range(first, wide - 1)?;
            close_range(wide + 1, libc::c_uint::MAX)?;
        }
        _ => close_range(first, libc::c_uint::MAX)?,
    }
    Ok(executable)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> Result<(), i32> {
    // Not libc::close_range: glibc has that function since 2.34, the kernel since 5.9.
    // SAFETY: close_range takes numbers, and the descriptor table is the child's own.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 { Ok(()) } else { Err(errno()) }
}

fn duplicate_above(fd: RawFd, count: i32) -> Result<RawFd, i32> {
    // SAFETY: F_DUPFD_CLOEXEC takes numbers. One above the targets is kept free for the executable.
    let moved = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, count + 1) };
    if moved < 0 { Err(errno()) } else { Ok(moved) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn run(script: &str, extra: &[BorrowedFd<'_>]) -> (String, Child) {
        let (mut read, write) = io::pipe().unwrap();
        let null = File::open("/dev/null").unwrap();
        let mut descriptors = vec![null.as_fd(), write.as_fd(), write.as_fd()];
        descriptors.extend_from_slice(extra);
        let arguments = ["sh", "-c", script].map(|text| CString::new(text).unwrap());
        let child = spawn(&mut Command {
            executable: Executable::Paths(&[c"/nowhere/sh".into(), c"/bin/sh".into()]),
            arguments: &arguments,
            environment: &[c"ONLY=this".into()],
            descriptors: &descriptors,
            dispositions: EVERY_SIGNAL,
            prepare: &mut || Ok(()),
        })
        .unwrap();
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        (text, child)
    }

    #[test]
    fn the_child_has_what_it_was_given_and_nothing_else() {
        // A descriptor without close-on-exec, as hosts leak them.
        let leaked = File::open("/").unwrap();
        // SAFETY: F_SETFD takes a number.
        unsafe { libc::fcntl(leaked.as_raw_fd(), libc::F_SETFD, 0) };
        let extra = File::open("/etc").unwrap();
        let (text, child) = run(
            "ls /proc/$$/fd >/dev/null; exec env -u PWD -u _ -u SHLVL sh -c 'readlink /proc/self/fd/3; env; \
             grep -E \"Sig(Blk|Ign)\" /proc/self/status; exec ls -l /proc/self/fd'",
            &[extra.as_fd()],
        );
        assert!(text.starts_with("/etc\n"), "{text}");
        // 0, 1, 2, /etc, and the directory that ls itself reads.
        assert_eq!(text.matches(" -> ").count(), 5, "{text}");
        assert!(text.contains("ONLY=this"), "{text}");
        assert!(!text.contains("HOME="), "{text}");
        assert!(text.contains("SigBlk:\t0000000000000000"), "{text}");
        assert!(text.contains("SigIgn:\t0000000000000000"), "{text}");
        crate::sys::pidfd::reap(child.pidfd.as_fd());
    }

    #[test]
    fn an_open_file_can_be_started() {
        let (mut read, write) = io::pipe().unwrap();
        let program = File::open("/bin/echo").unwrap();
        let child = spawn(&mut Command {
            executable: Executable::Open(program.as_fd()),
            arguments: &[c"echo".into(), c"hi".into()],
            environment: &[],
            descriptors: &[write.as_fd(), write.as_fd(), write.as_fd()],
            dispositions: EVERY_SIGNAL,
            prepare: &mut || Ok(()),
        })
        .unwrap();
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi\n");
        crate::sys::pidfd::reap(child.pidfd.as_fd());
    }

    #[test]
    fn failures_come_back_with_their_number() {
        let null = File::open("/dev/null").unwrap();
        let start = |paths: &[CString], failure: i32| {
            spawn(&mut Command {
                executable: Executable::Paths(paths),
                arguments: &[c"x".into()],
                environment: &[],
                descriptors: &[null.as_fd()],
                dispositions: EVERY_SIGNAL,
                prepare: &mut || if failure == 0 { Ok(()) } else { Err(failure) },
            })
            .unwrap_err()
            .raw_os_error()
        };
        assert_eq!(start(&[c"/nowhere".into()], 0), Some(libc::ENOENT));
        assert_eq!(start(&[c"/etc/passwd".into(), c"/nowhere".into()], 0), Some(libc::EACCES));
        assert_eq!(start(&[c"/bin/true".into()], libc::EPERM), Some(libc::EPERM));
    }
}
