//! Starting one short-lived program from inside a host that may do anything with its children.
//!
//! `posix_spawn` suspends the calling thread only and copies no page tables, so the host's size doesn't
//! matter. The child is watched by a pidfd; nothing here relies on the host leaving its exit status alone.
#![allow(
    unsafe_code,
    reason = "posix_spawn, pidfd_open, pidfd_send_signal and getrandom have no safe wrapper"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::fcntl::{FcntlArg, fcntl};

/// Descriptors are first duplicated to here or above, so that mapping them to 0, 1, 2 … never overwrites
/// one that is still needed (a host may have closed its own standard streams).
const ABOVE_THE_MAPPED: RawFd = 16;

/// The most descriptors a child can be given.
const MAPPED_MAX: usize = 8;

/// `PIDFD_SIGNAL_PROCESS_GROUP`, since Linux 6.9.
const SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

unsafe extern "C" {
    // In glibc since 2.34; the libc crate doesn't declare it.
    fn posix_spawn_file_actions_addclosefrom_np(
        actions: *mut libc::posix_spawn_file_actions_t,
        from: libc::c_int,
    ) -> libc::c_int;
}

/// Starts `program` with `descriptors` as its 0, 1, 2 … and no other, in a session of its own, with default
/// signal dispositions and an empty signal mask. Returns a pidfd, or
/// `None` if it has already ended and the host (which ignores SIGCHLD or reaps all) has left no trace of it.
///
/// `program` may be `/proc/self/fd/N` with N the position of a descriptor that was given.
pub(crate) fn spawn(
    program: &CStr,
    argv: &[CString],
    environment: &[CString],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Option<OwnedFd>> {
    if descriptors.len() > MAPPED_MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let sources = descriptors.iter().map(duplicate_above).collect::<io::Result<Vec<_>>>()?;
    let actions = FileActions::new(&sources)?;
    let attributes = Attributes::new()?;
    let argv = pointers(argv);
    let environment = pointers(environment);
    let mut pid: libc::pid_t = 0;
    // SAFETY: every pointer is to a live, initialised object; both arrays end with a null pointer.
    let failed = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            program.as_ptr(),
            &raw const actions.0,
            &raw const attributes.0,
            argv.as_ptr(),
            environment.as_ptr(),
        )
    };
    check(failed)?;
    match open_pidfd(pid) {
        Ok(child) => Ok(Some(child)),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Kills the child and, where the kernel can (6.9), whatever it started in its process group.
pub(crate) fn kill(child: &OwnedFd) {
    if send_signal(child, SIGNAL_PROCESS_GROUP).is_err() {
        // An older kernel, or it has ended: then this fails too, as it should.
        let _ = send_signal(child, 0);
    }
}

/// Fills `bytes` with random numbers fit for identifiers nobody may guess.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are of one live slice. Up to 256 bytes come whole or not at all.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    match usize::try_from(got) {
        Ok(got) if got == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

fn duplicate_above(descriptor: &BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy = fcntl(descriptor, FcntlArg::F_DUPFD_CLOEXEC(ABOVE_THE_MAPPED))?;
    // SAFETY: fcntl has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    strings.iter().map(|string| string.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

/// The posix_spawn functions return the error number instead of setting errno.
fn check(failed: libc::c_int) -> io::Result<()> {
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

/// A host that reaps all its children could take this one's status, and its number could be given to another
/// process, before this call; for that the numbers would have to wrap around within microseconds.
fn open_pidfd(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match RawFd::try_from(descriptor) {
        // SAFETY: the kernel has just made this descriptor and nobody else knows it.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn send_signal(child: &OwnedFd, flags: libc::c_uint) -> io::Result<()> {
    let none = ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is live, and a null siginfo means the kernel's own.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, child.as_raw_fd(), libc::SIGKILL, none, flags) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new(sources: &[OwnedFd]) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the pointer is to memory of the right type; the call initialises it.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above.
        let mut actions = Self(unsafe { raw.assume_init() });
        let mut next: libc::c_int = 0;
        for source in sources {
            // SAFETY: the actions are initialised, the descriptors are plain integers.
            check(unsafe {
                libc::posix_spawn_file_actions_adddup2(&raw mut actions.0, source.as_raw_fd(), next)
            })?;
            next += 1;
        }
        // SAFETY: the actions are initialised.
        check(unsafe { posix_spawn_file_actions_addclosefrom_np(&raw mut actions.0, next) })?;
        Ok(actions)
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: the pointer is to memory of the right type; the call initialises it.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above.
        let mut attributes = Self(unsafe { raw.assume_init() });
        let all = signal_set(libc::sigfillset);
        let none = signal_set(libc::sigemptyset);
        // SAFETY: attributes and set are initialised.
        check(unsafe { libc::posix_spawnattr_setsigdefault(&raw mut attributes.0, &raw const all) })?;
        // SAFETY: attributes and set are initialised.
        check(unsafe { libc::posix_spawnattr_setsigmask(&raw mut attributes.0, &raw const none) })?;
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        let flags = libc::c_short::try_from(flags).map_err(io::Error::other)? | libc::POSIX_SPAWN_SETSID;
        // SAFETY: attributes are initialised.
        check(unsafe { libc::posix_spawnattr_setflags(&raw mut attributes.0, flags) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

fn signal_set(fill: unsafe extern "C" fn(*mut libc::sigset_t) -> libc::c_int) -> libc::sigset_t {
    let mut set = MaybeUninit::zeroed();
    // SAFETY: sigfillset and sigemptyset write one whole set and can't fail with a valid pointer.
    unsafe { fill(set.as_mut_ptr()) };
    // SAFETY: written by the call above.
    unsafe { set.assume_init() }
}
