//! The numbers that C sees: error codes, kinds, reasons, states. They never change their meaning.
//!
//! One file, so that no number is given twice.
#![allow(dead_code, reason = "some are only read by C")]

use crate::sandbox::State;

/// An argument or a setting has a value that is not allowed; the message names it and the rule.
pub const SBX_EINVALID: i32 = -1001;
/// A handle is NULL, freed, of another kind, or of another copy of the library.
pub const SBX_EHANDLE: i32 = -1002;
/// A struct's `size` is impossible, or an unknown part of it is not zero.
pub const SBX_ESIZE: i32 = -1003;
/// The time given ran out. A call that waits has changed nothing and may be made again; a file operation that has
/// reached a limit of its options has ended, and what it did stays done.
pub const SBX_ETIMEDOUT: i32 = -1004;
/// The object was freed, its runtime was shut down, or the operation was cancelled, before it was done; or the queue
/// that was given has been freed.
pub const SBX_ECLOSED: i32 = -1005;
/// Not possible in the state the object is in (for example tunnels of an ended sandbox).
pub const SBX_ESTATE: i32 = -1006;
/// The name, the port or the file is already there.
pub const SBX_EEXISTS: i32 = -1007;
/// There is no such thing.
pub const SBX_ENOTFOUND: i32 = -1008;
/// The combination or the operation is not supported.
pub const SBX_EUNSUPPORTED: i32 = -1009;
/// A limit of the library, of the process, or of an operation's options is reached (descriptors, queue, table, bytes).
pub const SBX_ELIMIT: i32 = -1010;
/// The host lacks something that is needed; the message says what and how to get it.
pub const SBX_EHOST: i32 = -1011;
/// No runsc was found.
pub const SBX_ERUNSC_MISSING: i32 = -1012;
/// The runsc that was found can't be used: not executable, too old, not runsc, no answer.
pub const SBX_ERUNSC_UNUSABLE: i32 = -1013;
/// The engine (keeper or runsc) failed to start or was lost.
pub const SBX_EENGINE: i32 = -1014;
/// The call was made in a child after fork; only the process that first used the library may call it.
pub const SBX_EFORKED: i32 = -1015;
/// The library panicked: a bug. The host goes on; the object concerned can only be freed.
pub const SBX_EPANIC: i32 = -1016;
/// A system call failed; `os_error` has its number.
pub const SBX_ESYSTEM: i32 = -1017;
/// Nothing in the sandbox accepts connections on that port.
pub const SBX_EREFUSED: i32 = -1018;
/// The program could not be started in the sandbox (not found, not executable ...).
pub const SBX_EEXEC: i32 = -1019;
/// An internal inconsistency: a bug in the library.
pub const SBX_EINTERNAL: i32 = -1020;
/// An image can't be used, or made: it is malformed, its registry refused, the process that reads it has ended, or the
/// directory of images isn't safe. The message says which, and what to do.
pub const SBX_EIMAGE: i32 = -1021;

/// Being created: nothing of the program runs yet.
pub const SBX_STATE_STARTING: i32 = 1;
/// The program was started.
pub const SBX_STATE_RUNNING: i32 = 2;
/// The program has ended, or the sandbox is being ended; its processes are going away.
pub const SBX_STATE_ENDING: i32 = 3;
/// Nothing of it is left.
pub const SBX_STATE_ENDED: i32 = 4;

/// The program ended by itself; `code` is its own.
pub const SBX_EXIT_EXITED: i32 = 1;
/// A signal ended the program; `code` is 128 + the signal.
pub const SBX_EXIT_SIGNALLED: i32 = 2;
/// Its timeout expired; `code` is 124.
pub const SBX_EXIT_TIMED_OUT: i32 = 3;
/// It was idle for longer than allowed; `code` is 124.
pub const SBX_EXIT_IDLE: i32 = 4;
/// It was terminated by the host; `code` is 137.
pub const SBX_EXIT_TERMINATED: i32 = 5;
/// It needed more memory than its limit; `code` is 137.
pub const SBX_EXIT_OUT_OF_MEMORY: i32 = 6;
/// The keeper or gVisor died unexpectedly, or the sandbox's init did not answer for half a minute, or did not confirm
/// the end of a timed-out program within twenty seconds; `code` is 137.
pub const SBX_EXIT_ENGINE_LOST: i32 = 7;

/// The sandbox's program was started. Never dropped.
pub const SBX_EVENT_STARTED: u32 = 1;
/// The sandbox could not be created; `code` is the error's number, `detail` its text. Never dropped.
pub const SBX_EVENT_FAILED: u32 = 2;
/// The server inside has answered a probe for the first time. Probing starts with the sandbox if its config has a
/// probe, otherwise with the first sbx_wait_ready, also with a timeout of 0. A sandbox with neither probe nor port
/// has no such event.
pub const SBX_EVENT_READY: u32 = 3;
/// The sandbox has ended and nothing of it is left; `code` and `reason` as in sbx_exit. Never dropped.
pub const SBX_EVENT_EXITED: u32 = 4;
/// A program of sbx_exec_begin or sbx_exec has ended; `code` and `reason` as in sbx_exit. If it could not be started,
/// `reason` is 0, `code` the error's number and `detail` its text. Never dropped.
pub const SBX_EVENT_PROCESS_EXITED: u32 = 5;
/// Something that the sandbox wanted to reach was denied: `address` (an address or a name), `port`, `protocol` (6 is
/// TCP, 17 UDP), `reason` (SBX_REASON_...), `entry` (the policy's entry, or -1), `detail`. The first denial of a
/// destination is reported at once; further ones are counted and reported once a second, in `count`. An event without
/// `address` counts the denials of further destinations, beyond the 64 that are reported separately within a second.
pub const SBX_EVENT_DENIED: u32 = 6;
/// A change of the policy begun by sbx_set_policy_begin has ended; `cookie` is the one given there. `code` is 0 and
/// `value[0]` the policy's generation, or `code` is an error's number and `detail` its text, and the old policy stays.
/// Never dropped.
pub const SBX_EVENT_POLICY_APPLIED: u32 = 7;
/// A limit of the library was reached; `detail` says which.
pub const SBX_EVENT_LIMIT: u32 = 8;
/// A program of sbx_exec_begin or sbx_exec was started. Never dropped.
pub const SBX_EVENT_PROCESS_STARTED: u32 = 9;
/// An operation has ended, except a change of the policy (SBX_EVENT_POLICY_APPLIED) and a check (SBX_EVENT_CHECKED):
/// `cookie` is the one it was begun with. `code` is 0 and `value` the bytes done and the bytes in all, as far as they are
/// known (the same for a file, 0 where no bytes are moved), or `code` is the error's number and `detail` its text. Never
/// dropped.
pub const SBX_EVENT_OPERATION_DONE: u32 = 10;
/// In a directory that is watched there are changes to be taken: sbx_operation_next_change until it has
/// none. `cookie` is the watch's.
pub const SBX_EVENT_FILE_CHANGED: u32 = 11;
/// What the sandbox wanted to reach was allowed, and the far end did not take it: refused, unreachable, silent for
/// too long. `address`, `port` and `protocol` say where, `code` is the errno. Gathered like SBX_EVENT_DENIED.
pub const SBX_EVENT_UNREACHABLE: u32 = 12;
/// A check begun by sbx_runtime_check_begin has ended, and its report can be read: `cookie` is the one given there,
/// `value[0]` 1 if sandboxes can be created, else 0; or `code` is an error's number and `detail` its text. Never
/// dropped.
pub const SBX_EVENT_CHECKED: u32 = 13;
/// An operation on an image goes on: `cookie` is the one it was begun with, `value` the bytes done and the bytes in all, as
/// far as they are known (0: not yet), `detail` what is being done. At most ten a second for an operation.
pub const SBX_EVENT_PROGRESS: u32 = 14;
/// The exit snapshot of a sandbox (sbx_config_set_exit_snapshot) is stored: `code` is 0, `detail` the image's id, value[0] its
/// bytes and value[1] the microseconds in which the sandbox was paused; or there is none, and `code` and `detail` say why.
/// SBX_EVENT_EXITED follows. Never dropped.
pub const SBX_EVENT_EXIT_SNAPSHOT: u32 = 15;

/// The kernel (cgroups) enforces the limits of memory and processor; if it can't, creating the sandbox fails.
pub const SBX_LIMITS_STRICT: i32 = 0;
/// If the kernel can't, the library samples the memory many times a second and ends a sandbox that exceeds its
/// limit as out of memory. Best effort: a quick program can exceed it for a moment, what thousands of processes
/// have of their own is noticed some seconds late, and the kernel's memory for sockets and pipes isn't counted.
pub const SBX_LIMITS_WATCHDOG: i32 = 1;

/// `cpu_us` of sbx_stats is known.
pub const SBX_STATS_CPU: u32 = 1;
/// `memory_bytes` of sbx_stats is known.
pub const SBX_STATS_MEMORY: u32 = 2;
/// `memory_peak_bytes` of sbx_stats is known.
pub const SBX_STATS_MEMORY_PEAK: u32 = 4;
/// `processes` of sbx_stats is known.
pub const SBX_STATS_PROCESSES: u32 = 8;
/// The fields of sbx_stats that begin with `egress_` and `dns_` are known.
pub const SBX_STATS_EGRESS: u32 = 16;

/// For sbx_file_options.flags. Remove, watch: everything below, too.
pub const SBX_FILE_RECURSIVE: u32 = 1;
/// Write, upload, copy in, make directory: make the directories above that aren't there. Making a directory
/// that is there is no error then.
pub const SBX_FILE_PARENTS: u32 = 2;
/// Write, upload, rename: fail with SBX_EEXISTS if something of that name is there.
pub const SBX_FILE_EXCLUSIVE: u32 = 4;
/// Write, upload: at the end of what is there.
pub const SBX_FILE_APPEND: u32 = 8;
/// Stat: a symbolic link itself, not what it leads to.
pub const SBX_FILE_NO_FOLLOW: u32 = 16;
/// Copy in: owners as the archive says; else everything belongs to the user.
pub const SBX_FILE_KEEP_OWNER: u32 = 32;
/// Remove: nothing there is no error.
pub const SBX_FILE_MISSING_OK: u32 = 64;

/// What 0 stands for in sbx_file_options.progress_timeout_ms: a minute.
pub const SBX_FILE_PROGRESS_TIMEOUT_MS: i64 = 60_000;

/// A regular file.
pub const SBX_FILE_KIND_FILE: u32 = 1;
/// A directory.
pub const SBX_FILE_KIND_DIRECTORY: u32 = 2;
/// A symbolic link.
pub const SBX_FILE_KIND_SYMLINK: u32 = 3;
/// A FIFO.
pub const SBX_FILE_KIND_FIFO: u32 = 4;
/// A socket.
pub const SBX_FILE_KIND_SOCKET: u32 = 5;
/// A character or block device.
pub const SBX_FILE_KIND_DEVICE: u32 = 6;
/// Something else.
pub const SBX_FILE_KIND_OTHER: u32 = 7;

/// Watching has begun: every change from now on is reported. The path is empty.
pub const SBX_CHANGE_READY: i32 = 1;
/// It is new.
pub const SBX_CHANGE_CREATED: i32 = 2;
/// Its content has changed.
pub const SBX_CHANGE_MODIFIED: i32 = 3;
/// It is gone.
pub const SBX_CHANGE_REMOVED: i32 = 4;
/// It was renamed, and this was its name.
pub const SBX_CHANGE_MOVED_FROM: i32 = 5;
/// It was renamed, and this is its name now.
pub const SBX_CHANGE_MOVED_TO: i32 = 6;
/// Its permissions, owner or times have changed.
pub const SBX_CHANGE_ATTRIBUTES: i32 = 7;
/// Some changes were lost because there were too many at once, or there are directories that are not watched because
/// they are beyond the limits: look for yourself. The path is empty.
pub const SBX_CHANGE_OVERFLOW: i32 = 8;

/// Everything that the requirement asks for is there.
pub const SBX_FINDING_OK: i32 = 1;
/// It works, but less well; the remedy says how to improve it.
pub const SBX_FINDING_LIMITED: i32 = 2;
/// Sandboxes can't be created until the remedy is applied.
pub const SBX_FINDING_MISSING: i32 = 3;

/// Standard input, where a stream is asked for.
pub const SBX_STDIN: i32 = 0;
/// Standard output.
pub const SBX_STDOUT: i32 = 1;
/// Standard error.
pub const SBX_STDERR: i32 = 2;
/// The terminal of a program that has one: sbx_process_open_fd.
pub const SBX_TERMINAL: i32 = 3;

/// Standard input is empty, output is discarded. The default.
pub const SBX_STREAM_NULL: i32 = 0;
/// The host gets a descriptor for the stream: sbx_sandbox_open_fd, sbx_process_open_fd.
pub const SBX_STREAM_DESCRIPTOR: i32 = 1;
/// Standard error goes where standard output goes. For SBX_STDERR only.
pub const SBX_STREAM_MERGED: i32 = 2;

/// A tunnel on which the library ends TLS; the server inside speaks plain TCP.
pub const SBX_PORT_ENCRYPTED: i32 = 1;
/// As SBX_PORT_ENCRYPTED, and clients are offered HTTP/2 (ALPN "h2").
pub const SBX_PORT_H2: i32 = 2;
/// A tunnel of raw TCP.
pub const SBX_PORT_UNENCRYPTED: i32 = 3;

/// For sbx_config_add_mount: the sandbox can't write to it. The default.
pub const SBX_MOUNT_READ_ONLY: u32 = 0;
/// What the sandbox writes is written on the host.
pub const SBX_MOUNT_WRITABLE: u32 = 1;

/// For sbx_config_add_volume: the sandbox can't write to it.
pub const SBX_VOLUME_READ_ONLY: u32 = 1;
/// The volume is made if there is none of that name.
pub const SBX_VOLUME_CREATE: u32 = 2;
/// The directories of the sub-path that are missing are made.
pub const SBX_VOLUME_CREATE_SUB_PATH: u32 = 4;
/// For sbx_volume_create_begin: fail with SBX_EEXISTS if the volume exists.
pub const SBX_VOLUME_EXCLUSIVE: u32 = 8;

/// For sbx_image_options.format: what is imported is found out. The default.
pub const SBX_IMAGE_FORMAT_AUTO: i32 = 0;
/// An OCI image layout: a directory, or a tar archive of it.
pub const SBX_IMAGE_FORMAT_OCI: i32 = 1;
/// An archive of `docker save`.
pub const SBX_IMAGE_FORMAT_DOCKER: i32 = 2;
/// A tar archive of a root file system.
pub const SBX_IMAGE_FORMAT_TARBALL: i32 = 3;
/// A directory that is a root file system.
pub const SBX_IMAGE_FORMAT_DIRECTORY: i32 = 4;

/// Every public address is allowed, except denied ranges: sbx_policy_new.
pub const SBX_POLICY_OPEN: i32 = 1;
/// Only what an entry allows is allowed.
pub const SBX_POLICY_ALLOWLIST: i32 = 2;
/// No network at all.
pub const SBX_POLICY_BLOCKED: i32 = 3;

/// Allowed: a public address, and the policy is open.
pub const SBX_REASON_OPEN: i32 = 1;

/// Allowed by an entry.
pub const SBX_REASON_LISTED: i32 = 2;

/// Allowed: TLS to a domain that an entry names.
pub const SBX_REASON_DOMAIN: i32 = 3;

/// Denied: the policy is blocked.
pub const SBX_REASON_BLOCKED: i32 = -1;

/// Denied by an entry, which wins over everything.
pub const SBX_REASON_DENIED: i32 = -2;

/// Denied: no entry of the allowlist matches.
pub const SBX_REASON_NOT_LISTED: i32 = -3;

/// Denied: private, link-local or otherwise special, and no entry lies inside that range.
pub const SBX_REASON_PROTECTED: i32 = -4;

/// Denied: a cloud's metadata service, and no entry is for this very address.
pub const SBX_REASON_METADATA: i32 = -5;

/// Denied: an address of the host, and no entry is for this very address.
pub const SBX_REASON_HOST: i32 = -6;

/// Denied whatever the entries say: multicast, reserved, IPv4-embedded (NAT64, 6to4), the sandbox's own network.
pub const SBX_REASON_RESERVED: i32 = -7;

/// Denied: neither TCP nor UDP.
pub const SBX_REASON_PROTOCOL: i32 = -8;

/// Denied: a name that the policy doesn't let be asked for, or another record of it than its addresses. It was not
/// asked for.
pub const SBX_REASON_DNS_NAME: i32 = -9;

/// Denied: an address in an answer to a question for a name, which points at something protected. It was taken
/// out of the answer.
pub const SBX_REASON_REBINDING: i32 = -10;

/// Denied: reached only as a domain, by TLS, and what was sent is not TLS.
pub const SBX_REASON_NOT_TLS: i32 = -11;

/// Denied: reached only as a domain, and the TLS handshake names no server (no SNI).
pub const SBX_REASON_NO_SERVER_NAME: i32 = -12;

/// Denied: reached only as a domain, and the TLS handshake names a server that no entry is for.
pub const SBX_REASON_SERVER_NAME: i32 = -13;

/// Denied: the TLS handshake names an allowed server, but the sandbox's resolver did not answer this address for
/// that name, or too long ago.
pub const SBX_REASON_NOT_RESOLVED: i32 = -14;

/// Denied: reached only as a domain, and the TLS handshake did not begin in time.
pub const SBX_REASON_TLS_TIMEOUT: i32 = -15;

/// Denied: the policy allows it, but the gateway doesn't let it through: IPv6 where the sandbox has none, or a policy
/// that was changed at that very moment.
pub const SBX_REASON_GATEWAY: i32 = -16;

/// Denied: a neighbour on a link of the host's own, at a public address, and no entry is for such:
/// sbx_policy_allow_local_cidr in an open policy, a range inside the link's in an allowlist.
pub const SBX_REASON_ON_LINK: i32 = -17;

/// An open policy answers every name; an allowlist the names of its domains and no other. The default.
pub const SBX_DNS_AUTO: i32 = 0;
/// Every name is answered.
pub const SBX_DNS_ON: i32 = 1;
/// No name is answered.
pub const SBX_DNS_OFF: i32 = 2;
/// The names of SBX_DNS_AUTO, and of each its addresses only: A, AAAA, HTTPS and SVCB records, and no alias.
pub const SBX_DNS_ADDRESSES: i32 = 3;

/// For sbx_runtime_config.flags: sandboxes get no user namespace of their own. Only for a host that has
/// CAP_SYS_ADMIN and CAP_NET_ADMIN where user namespaces are disabled.
pub const SBX_RUNTIME_NO_USER_NAMESPACE: u32 = 1;

/// SBX_STATE_... of a sandbox's state.
pub(super) fn state(state: State) -> i32 {
    match state {
        State::Starting => SBX_STATE_STARTING,
        State::Running => SBX_STATE_RUNNING,
        State::Ending => SBX_STATE_ENDING,
        State::Ended => SBX_STATE_ENDED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LimitMode, PortKind, Stream};
    use crate::error::Code;
    use crate::event::EventKind;
    use crate::image::ImageFormat;
    use crate::policy::{Dns, PolicyMode, Reason};
    use crate::sandbox::ExitReason;
    use crate::sandbox::files::{FileChangeKind, FileKind};

    #[test]
    fn the_numbers_are_those_of_the_rust_types() {
        for (code, number) in [
            (Code::Invalid, SBX_EINVALID),
            (Code::Handle, SBX_EHANDLE),
            (Code::Size, SBX_ESIZE),
            (Code::TimedOut, SBX_ETIMEDOUT),
            (Code::Closed, SBX_ECLOSED),
            (Code::State, SBX_ESTATE),
            (Code::Exists, SBX_EEXISTS),
            (Code::NotFound, SBX_ENOTFOUND),
            (Code::Unsupported, SBX_EUNSUPPORTED),
            (Code::Limit, SBX_ELIMIT),
            (Code::Host, SBX_EHOST),
            (Code::RunscMissing, SBX_ERUNSC_MISSING),
            (Code::RunscUnusable, SBX_ERUNSC_UNUSABLE),
            (Code::Engine, SBX_EENGINE),
            (Code::Forked, SBX_EFORKED),
            (Code::Panic, SBX_EPANIC),
            (Code::System, SBX_ESYSTEM),
            (Code::Refused, SBX_EREFUSED),
            (Code::Exec, SBX_EEXEC),
            (Code::Internal, SBX_EINTERNAL),
            (Code::Image, SBX_EIMAGE),
        ] {
            assert_eq!(code.number(), number, "{code:?}");
        }
        for (kind, number) in [
            (EventKind::Started, SBX_EVENT_STARTED),
            (EventKind::Failed, SBX_EVENT_FAILED),
            (EventKind::Ready, SBX_EVENT_READY),
            (EventKind::Exited, SBX_EVENT_EXITED),
            (EventKind::ProcessExited, SBX_EVENT_PROCESS_EXITED),
            (EventKind::Denied, SBX_EVENT_DENIED),
            (EventKind::PolicyApplied, SBX_EVENT_POLICY_APPLIED),
            (EventKind::Limit, SBX_EVENT_LIMIT),
            (EventKind::ProcessStarted, SBX_EVENT_PROCESS_STARTED),
            (EventKind::OperationDone, SBX_EVENT_OPERATION_DONE),
            (EventKind::FileChanged, SBX_EVENT_FILE_CHANGED),
            (EventKind::Unreachable, SBX_EVENT_UNREACHABLE),
            (EventKind::Checked, SBX_EVENT_CHECKED),
            (EventKind::Progress, SBX_EVENT_PROGRESS),
            (EventKind::ExitSnapshot, SBX_EVENT_EXIT_SNAPSHOT),
        ] {
            assert_eq!(kind as u32, number);
        }
        for (kind, number) in [
            (FileKind::File, SBX_FILE_KIND_FILE),
            (FileKind::Directory, SBX_FILE_KIND_DIRECTORY),
            (FileKind::Symlink, SBX_FILE_KIND_SYMLINK),
            (FileKind::Fifo, SBX_FILE_KIND_FIFO),
            (FileKind::Socket, SBX_FILE_KIND_SOCKET),
            (FileKind::Device, SBX_FILE_KIND_DEVICE),
            (FileKind::Other, SBX_FILE_KIND_OTHER),
        ] {
            assert_eq!(kind as u32, number);
        }
        for (kind, number) in [
            (FileChangeKind::Ready, SBX_CHANGE_READY),
            (FileChangeKind::Created, SBX_CHANGE_CREATED),
            (FileChangeKind::Modified, SBX_CHANGE_MODIFIED),
            (FileChangeKind::Removed, SBX_CHANGE_REMOVED),
            (FileChangeKind::MovedFrom, SBX_CHANGE_MOVED_FROM),
            (FileChangeKind::MovedTo, SBX_CHANGE_MOVED_TO),
            (FileChangeKind::Attributes, SBX_CHANGE_ATTRIBUTES),
            (FileChangeKind::Overflow, SBX_CHANGE_OVERFLOW),
        ] {
            assert_eq!(kind as i32, number);
        }
        for (dns, number) in [
            (Dns::Auto, SBX_DNS_AUTO),
            (Dns::On, SBX_DNS_ON),
            (Dns::Off, SBX_DNS_OFF),
            (Dns::Addresses, SBX_DNS_ADDRESSES),
        ] {
            assert_eq!(dns as i32, number);
        }
        for (reason, number) in [
            (ExitReason::Exited, SBX_EXIT_EXITED),
            (ExitReason::Signalled, SBX_EXIT_SIGNALLED),
            (ExitReason::TimedOut, SBX_EXIT_TIMED_OUT),
            (ExitReason::Idle, SBX_EXIT_IDLE),
            (ExitReason::Terminated, SBX_EXIT_TERMINATED),
            (ExitReason::OutOfMemory, SBX_EXIT_OUT_OF_MEMORY),
            (ExitReason::EngineLost, SBX_EXIT_ENGINE_LOST),
        ] {
            assert_eq!(reason as i32, number);
        }
        for (format, number) in [
            (ImageFormat::Auto, SBX_IMAGE_FORMAT_AUTO),
            (ImageFormat::Oci, SBX_IMAGE_FORMAT_OCI),
            (ImageFormat::Docker, SBX_IMAGE_FORMAT_DOCKER),
            (ImageFormat::Tarball, SBX_IMAGE_FORMAT_TARBALL),
            (ImageFormat::Directory, SBX_IMAGE_FORMAT_DIRECTORY),
        ] {
            assert_eq!(format as i32, number);
        }
        for (mode, number) in [
            (PolicyMode::Open, SBX_POLICY_OPEN),
            (PolicyMode::Allowlist, SBX_POLICY_ALLOWLIST),
            (PolicyMode::Blocked, SBX_POLICY_BLOCKED),
        ] {
            assert_eq!(mode as i32, number);
        }
        for (kind, number) in [
            (PortKind::Encrypted, SBX_PORT_ENCRYPTED),
            (PortKind::H2, SBX_PORT_H2),
            (PortKind::Unencrypted, SBX_PORT_UNENCRYPTED),
        ] {
            assert_eq!(kind as i32, number);
        }
        for (mode, number) in
            [(LimitMode::Strict, SBX_LIMITS_STRICT), (LimitMode::Watchdog, SBX_LIMITS_WATCHDOG)]
        {
            assert_eq!(mode as i32, number);
        }
        for (stream, number) in
            [(Stream::Stdin, SBX_STDIN), (Stream::Stdout, SBX_STDOUT), (Stream::Stderr, SBX_STDERR)]
        {
            assert_eq!(i32::try_from(stream.index()).unwrap(), number);
        }
        for (reason, number) in [
            (Reason::Open, SBX_REASON_OPEN),
            (Reason::Listed, SBX_REASON_LISTED),
            (Reason::Blocked, SBX_REASON_BLOCKED),
            (Reason::Denied, SBX_REASON_DENIED),
            (Reason::NotListed, SBX_REASON_NOT_LISTED),
            (Reason::Protected, SBX_REASON_PROTECTED),
            (Reason::Metadata, SBX_REASON_METADATA),
            (Reason::Host, SBX_REASON_HOST),
            (Reason::Reserved, SBX_REASON_RESERVED),
            (Reason::Protocol, SBX_REASON_PROTOCOL),
            (Reason::Domain, SBX_REASON_DOMAIN),
            (Reason::DnsName, SBX_REASON_DNS_NAME),
            (Reason::Rebinding, SBX_REASON_REBINDING),
            (Reason::NotTls, SBX_REASON_NOT_TLS),
            (Reason::NoServerName, SBX_REASON_NO_SERVER_NAME),
            (Reason::ServerName, SBX_REASON_SERVER_NAME),
            (Reason::NotResolved, SBX_REASON_NOT_RESOLVED),
            (Reason::TlsTimeout, SBX_REASON_TLS_TIMEOUT),
            (Reason::Gateway, SBX_REASON_GATEWAY),
            (Reason::OnLink, SBX_REASON_ON_LINK),
        ] {
            assert_eq!(reason as i32, number);
        }
    }
}
