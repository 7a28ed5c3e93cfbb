//! seccomp(2) filters for the keeper, for runsc and its descendants, and for the image helper.
//!
//! Once the sandbox runs, the keeper can't execute a program, create or enter a namespace, mount, trace, or
//! open a connection. This is a second line of defence: the keeper only communicates with the library.
//!
//! The process for snapshots has a filter that the runsc it starts inherits: files, threads, memory, AF_UNIX sockets and
//! execution, but no namespaces, no mounts, no tracing, and no other socket.
//!
//! runsc has filters of its own. Ours comes before those and removes one thing that they allow: giving a file
//! of the host a set-id bit. In a writable mount a program could otherwise leave a set-id file of the host's
//! user, for others to execute on the host.
//!
//! The image helper's filter is its confinement where no namespaces can be had: no call that names a file, a
//! process or an address is left. The library's tests include this file, which uses nothing of the program.

use std::io;
use std::mem::offset_of;

const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_fcntl,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_kill,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_prlimit64,
    libc::SYS_getrusage,
    libc::SYS_readlinkat,
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
];

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64, linux/audit.h
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

#[allow(clippy::cast_possible_truncation, reason = "the codes of classic BPF have 16 bits")]
const fn code(bits: u32) -> u16 {
    bits as u16
}

const LOAD: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
const EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
const ANY_BIT: u16 = code(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K);
const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);

fn step(code: u16, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt: yes, jf: no, k }
}

fn field(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(0)
}

fn argument(index: usize) -> u32 {
    // The lower half of a little-endian 64-bit argument.
    field(offset_of!(libc::seccomp_data, args) + 8 * index)
}

/// The system calls that set a file's mode, and the index of that argument. openat2 passes it in memory,
/// where no filter can look; runsc doesn't use that call.
const MODES: &[(libc::c_long, usize)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (SYS_FCHMODAT2, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 2),
    (libc::SYS_openat, 3),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, 1),
    (libc::SYS_mkdirat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
    (libc::SYS_mknodat, 2),
];
/// Linux 6.6; the number is the same on all architectures.
const SYS_FCHMODAT2: libc::c_long = 452;
const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();

/// A filter to be applied.
#[derive(Debug)]
pub(crate) struct Filter(pub(crate) Vec<libc::sock_filter>);

impl Filter {
    /// Applies the filter to this process; children inherit it. Makes one system call and nothing else.
    pub(crate) fn apply(&mut self) -> io::Result<()> {
        let length = u16::try_from(self.0.len()).unwrap_or(0);
        let filter = libc::sock_fprog { len: length, filter: self.0.as_mut_ptr() };
        // SAFETY: the filter points at a live program as long as it says; no_new_privs is set.
        let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Starts a filter: loads the number of the system call. `others` is the action for calls of another
    /// architecture.
    fn of_calls(others: u32) -> Vec<libc::sock_filter> {
        vec![
            step(LOAD, field(offset_of!(libc::seccomp_data, arch)), 0, 0),
            step(EQUAL, ARCHITECTURE, 1, 0),
            step(RETURN, others, 0, 0),
            step(LOAD, field(offset_of!(libc::seccomp_data, nr)), 0, 0),
        ]
    }
}

/// The filter for runsc: setting a set-id bit is EPERM. It doesn't slow down other calls, because the kernel
/// caches which calls a filter allows whatever their arguments. The sentry intercepts the programs' own calls
/// by a trap that takes precedence over these actions; calls of other architectures are left to it.
pub(super) fn no_set_id() -> Filter {
    let mut program = Filter::of_calls(libc::SECCOMP_RET_ALLOW);
    for &(call, mode) in MODES {
        program.extend([
            step(EQUAL, u32::try_from(call).unwrap_or(u32::MAX), 0, 4),
            step(LOAD, argument(mode), 0, 0),
            step(ANY_BIT, SET_ID, 0, 1),
            step(RETURN, REFUSE, 0, 0),
            step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        ]);
    }
    program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    Filter(program)
}

/// Applies the keeper's own filter to this process. Called after runsc was started.
pub(super) fn restrict() -> io::Result<()> {
    let mut program = Filter::of_calls(libc::SECCOMP_RET_KILL_PROCESS);
    for &call in ALLOWED {
        program.push(step(EQUAL, u32::try_from(call).unwrap_or(u32::MAX), 0, 1));
        program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    // socket(): IPv4 and IPv6, streams and datagrams, with or without the flags; no raw ones.
    let socket = u32::try_from(libc::SYS_socket).unwrap_or(u32::MAX);
    let flags = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC).cast_unsigned();
    program.extend([
        step(EQUAL, socket, 1, 0),
        step(RETURN, REFUSE, 0, 0),
        step(LOAD, argument(0), 0, 0),
        step(EQUAL, libc::AF_INET.cast_unsigned(), 2, 0),
        step(EQUAL, libc::AF_INET6.cast_unsigned(), 1, 0),
        step(RETURN, REFUSE, 0, 0),
        step(LOAD, argument(1), 0, 0),
        step(EQUAL, libc::SOCK_STREAM.cast_unsigned() | flags, 2, 0),
        step(EQUAL, libc::SOCK_DGRAM.cast_unsigned() | flags, 1, 0),
        step(RETURN, REFUSE, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ]);
    Filter(program).apply()
}

/// What the process for snapshots and its runsc may do beyond [`ALLOWED`].
const ALLOWED_FOR_SNAPSHOTS: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getcwd,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_getres,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_tid_address,
    libc::SYS_mincore,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_dup3,
    libc::SYS_close_range,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_flock,
    libc::SYS_renameat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_connect,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getrlimit,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];
/// The namespaces that clone(2) can create.
const NEW_NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Applies the filter of the process for snapshots. Another call is EPERM, and clone3 ENOSYS: its flags are in memory, where
/// no filter can look.
pub(super) fn restrict_snapshots() -> io::Result<()> {
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let mut program = Filter::of_calls(libc::SECCOMP_RET_KILL_PROCESS);
    for &call in ALLOWED.iter().chain(ALLOWED_FOR_SNAPSHOTS) {
        program.push(step(EQUAL, number(call), 0, 1));
        program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    program.extend([
        step(EQUAL, number(libc::SYS_clone), 0, 4),
        step(LOAD, argument(0), 0, 0),
        step(ANY_BIT, NEW_NAMESPACES.cast_unsigned(), 0, 1),
        step(RETURN, REFUSE, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(EQUAL, number(libc::SYS_clone3), 0, 1),
        step(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(), 0, 0),
        step(EQUAL, number(libc::SYS_socket), 0, 4),
        step(LOAD, argument(0), 0, 0),
        step(EQUAL, libc::AF_UNIX.cast_unsigned(), 1, 0),
        step(RETURN, REFUSE, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(EQUAL, number(libc::SYS_prctl), 0, 5),
        step(LOAD, argument(0), 0, 0),
        step(EQUAL, libc::PR_SET_PDEATHSIG.cast_unsigned(), 2, 0),
        step(EQUAL, PR_SET_VMA, 1, 0),
        step(RETURN, REFUSE, 0, 0),
        step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(RETURN, REFUSE, 0, 0),
    ]);
    Filter(program).apply()
}

/// Names anonymous memory (prctl(2)), as the Go runtime does.
const PR_SET_VMA: u32 = 0x5356_4d41;

/// A condition on the lower half of an argument; the call is fatal where it doesn't hold.
#[derive(Clone, Copy, Debug)]
enum Condition {
    /// The argument with this index is this number.
    Equal(usize, u32),
    /// It has none of these bits.
    Without(usize, u32),
    /// It has one of these bits.
    With(usize, u32),
}

impl Condition {
    /// Loads the argument, tests it, and returns the fatal action if the condition doesn't hold.
    fn steps(self) -> [libc::sock_filter; 3] {
        let (index, test) = match self {
            Self::Equal(index, value) => (index, step(EQUAL, value, 1, 0)),
            Self::Without(index, bits) => (index, step(ANY_BIT, bits, 0, 1)),
            Self::With(index, bits) => (index, step(ANY_BIT, bits, 1, 0)),
        };
        [step(LOAD, argument(index), 0, 0), test, step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0)]
    }
}

/// The filter for the image helper, whose channel is this descriptor and whose process id is this number. Whatever
/// isn't named ends the process.
///
/// It can read and write what is open, receive and send on its channel, map and unmap memory that can't be executed,
/// and end. abort(3) is what it ends by when it is out of memory.
pub(crate) fn image_helper(channel: u32, pid: u32) -> Filter {
    let own = [Condition::Equal(0, channel)];
    let executable = libc::PROT_EXEC.cast_unsigned();
    let anonymous = libc::MAP_ANONYMOUS.cast_unsigned();
    let memory = [Condition::Without(2, executable), Condition::With(3, anonymous)];
    let abort = [Condition::Equal(0, pid), Condition::Equal(2, libc::SIGABRT.cast_unsigned())];
    let calls: &[(libc::c_long, &[Condition])] = &[
        (libc::SYS_read, &[]),
        (libc::SYS_write, &[]),
        (libc::SYS_pread64, &[]),
        (libc::SYS_pwrite64, &[]),
        (libc::SYS_lseek, &[]),
        (libc::SYS_fallocate, &[]),
        (libc::SYS_close, &[]),
        (libc::SYS_recvmsg, &own),
        (libc::SYS_sendmsg, &own),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_poll, &[]),
        (libc::SYS_ppoll, &[]),
        (libc::SYS_mmap, &memory),
        (libc::SYS_munmap, &[]),
        (libc::SYS_mremap, &[]),
        (libc::SYS_madvise, &[]),
        (libc::SYS_brk, &[]),
        (libc::SYS_futex, &[]),
        (libc::SYS_clock_gettime, &[]),
        (libc::SYS_getrandom, &[]),
        (libc::SYS_rt_sigaction, &[]),
        (libc::SYS_rt_sigprocmask, &[]),
        (libc::SYS_rt_sigreturn, &[]),
        (libc::SYS_restart_syscall, &[]),
        (libc::SYS_getpid, &[]),
        (libc::SYS_gettid, &[]),
        (libc::SYS_tgkill, &abort),
        (libc::SYS_exit, &[]),
        (libc::SYS_exit_group, &[]),
    ];
    let mut program = Filter::of_calls(libc::SECCOMP_RET_KILL_PROCESS);
    for (call, conditions) in calls {
        let length = u8::try_from(3 * conditions.len() + 1).unwrap_or(u8::MAX);
        program.push(step(EQUAL, u32::try_from(*call).unwrap_or(u32::MAX), 0, length));
        program.extend(conditions.iter().flat_map(|condition| condition.steps()));
        program.push(step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0));
    }
    program.push(step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0));
    Filter(program)
}
