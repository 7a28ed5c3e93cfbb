//! What failed in keeper, runsc and init, in words that say what to do.

use std::io;

use crate::config::Config;
use crate::config::user::User;
use crate::error::{Code, Error};
use crate::keeper::wire::init::Step;
use crate::keeper::wire::keeper::SnapshotEnd;
use crate::runsc::process;

/// A step of the keeper that failed.
pub(super) fn keeper(step: &[u8], errno: i32) -> Error {
    let step = String::from_utf8_lossy(step);
    if errno == libc::ENOEXEC && step.contains("build") {
        let text =
            format!("{step}, not this library's: replace the one that SBX_KEEPER names by this release's");
        return Error::new(Code::Host, text);
    }
    let cause = io::Error::from_raw_os_error(errno);
    if step.starts_with("volume ") {
        return volume(&step, &cause);
    }
    let namespace = matches!(&*step, "user namespace" | "/proc/self/uid_map" | "/proc/self/gid_map");
    let remedy = match (&*step, errno) {
        ("user namespace", libc::ENOSPC) => {
            ": no more user namespaces are allowed: sysctl user.max_user_namespaces=15000"
        }
        ("user namespace", libc::EPERM) if process::is_in_chroot() => {
            ": this process is in a chroot, where there are none (user_namespaces(7)): start it outside, or change its root \
             by pivot_root"
        }
        ("/proc/self/uid_map", libc::EPERM) if nix::unistd::geteuid().is_root() => {
            ": uid 0 needs CAP_SETFCAP to map itself (user_namespaces(7)): run as an ordinary user, or add that \
             capability"
        }
        ("starting runsc", libc::ENOENT) => {
            ": it is started where nothing else of the host is seen, so it must be the static program itself, not \
             a script that calls it"
        }
        _ if namespace => {
            ": user namespaces are disabled or restricted here: see sbx_runtime_check for the setting that \
             blocks them and how to change it"
        }
        ("mount namespace", libc::ENOSPC) => {
            ": no more mount namespaces are allowed: sysctl user.max_mnt_namespaces=15000"
        }
        ("ipc namespace", libc::ENOSPC) => {
            ": no more ipc namespaces are allowed: sysctl user.max_ipc_namespaces=15000"
        }
        ("network namespace G" | "network namespace S", libc::ENOSPC) => {
            ": no more network namespaces are allowed: sysctl user.max_net_namespaces=15000"
        }
        ("NETLINK_NETFILTER in G (nf_tables)", _) => ": the kernel has no nf_tables: modprobe nf_tables",
        (_, libc::ENOSYS) => {
            ": a system call is missing: the kernel is older than Linux 5.12, or a filter refuses it: see sbx_runtime_check"
        }
        _ => "",
    };
    Error::system(format!("the keeper failed at {step}"), &cause).with_code(Code::Host).append(remedy)
}

/// A volume can't be mounted.
fn volume(step: &str, cause: &io::Error) -> Error {
    let (code, text) = match cause.raw_os_error() {
        Some(libc::ENOENT) => {
            (Code::NotFound, ": it isn't there: make it first, or have it made (create_sub_path)")
        }
        Some(libc::ELOOP) => {
            (Code::Invalid, ": a symbolic link is on the way, and links of a volume are not followed")
        }
        Some(libc::ENOTDIR) => (Code::Invalid, ": it must be a directory"),
        Some(libc::ESTALE) => (Code::State, ": it was replaced since the sandbox was planned"),
        _ => (Code::Host, ""),
    };
    Error::system(step, cause).with_code(code).append(text)
}

/// A snapshot has no archive; it was to have at most `limit` bytes.
pub(super) fn snapshot(end: &SnapshotEnd, limit: u64) -> Error {
    match end {
        SnapshotEnd::Complete => Error::new(Code::Internal, "the archive is complete"),
        SnapshotEnd::Cancelled => Error::new(Code::Closed, "it was cancelled"),
        SnapshotEnd::TooLarge => {
            let text = format!("what the sandbox has changed takes more than the limit of {limit} bytes");
            Error::new(Code::Limit, text)
        }
        SnapshotEnd::TimedOut => {
            Error::new(Code::TimedOut, "the sandbox's changes could not be written in the time allowed")
        }
        SnapshotEnd::Runsc { command, status, output } => {
            let command = String::from_utf8_lossy(command);
            let text = last_words(b"", output);
            Error::new(Code::Engine, format!("runsc {command} failed (status {status}): {text}"))
        }
        SnapshotEnd::Failed { step, errno } => {
            let cause = io::Error::from_raw_os_error(*errno);
            Error::system(String::from_utf8_lossy(step), &cause)
        }
    }
}

/// The command, the user or the directory is not as the sandbox needs it.
pub(super) fn program(step: Step, errno: i32, config: &Config) -> Error {
    let command = config.command().first().map_or("", String::as_str);
    let directory = config.workdir();
    let user = config.user().map(User::to_string).unwrap_or_default();
    let cause = io::Error::from_raw_os_error(errno);
    let text = match step {
        Step::Execute => format!("the command {command:?} can't be started in the sandbox"),
        Step::Directory => format!("the working directory {directory:?} can't be entered in the sandbox"),
        Step::MakeDirectory => {
            format!("the working directory {directory:?} isn't there and can't be made in the sandbox")
        }
        Step::User => return unknown(&user),
        Step::Identity => format!("the command can't run as user {user:?}"),
        Step::Terminal => format!("the command {command:?} can't have a terminal in the sandbox"),
        Step::WriteFiles => "/etc/hosts, hostname and resolv.conf can't be written in the sandbox".to_owned(),
        Step::Process | Step::Message => format!("the command {command:?} could not be started"),
    };
    let code = if step == Step::WriteFiles { Code::Image } else { Code::Exec };
    Error::system(text, &cause).with_code(code)
}

/// A program can't be executed in a running sandbox.
pub(super) fn exec(step: Step, errno: i32, what: &str, directory: &str, user: &str) -> Error {
    let cause = io::Error::from_raw_os_error(errno);
    let text = match step {
        Step::Execute => format!("{what} can't be started"),
        Step::Directory => format!("{what}: its working directory {directory:?} can't be entered"),
        Step::MakeDirectory => {
            format!("{what}: its working directory {directory:?} isn't there and can't be made")
        }
        Step::User => return unknown(user).context(what),
        Step::Identity => format!("{what} can't run as user {user:?}"),
        Step::Terminal => format!("{what} can't have a terminal"),
        Step::Process | Step::Message | Step::WriteFiles => format!("{what} could not be started"),
    };
    Error::system(text, &cause).with_code(Code::Exec)
}

fn unknown(user: &str) -> Error {
    let text =
        format!("user {user:?}: the user or group is not known in the sandbox's /etc/passwd or /etc/group");
    Error::new(Code::Exec, text)
}

/// The last that runsc reported: the last message of its log, else the end of its output.
pub(super) fn last_words(log: &[u8], output: &[u8]) -> String {
    let log = String::from_utf8_lossy(log);
    // The log is JSON objects, one after another, the first perhaps cut (runsc's --log-format=json).
    let from = log.rfind("{\"msg\":").unwrap_or(log.len());
    let entry = log.get(from..).and_then(|text| serde_json::from_str::<serde_json::Value>(text.trim()).ok());
    let message = entry.as_ref().and_then(|entry| entry.get("msg")).and_then(serde_json::Value::as_str);
    let text = match message {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(output).lines().last().unwrap_or_default().to_owned(),
    };
    let text: String = text.trim().chars().filter(|character| !character.is_control()).take(400).collect();
    if text.is_empty() { "(no output)".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_a_system_call_is_too_old_or_filtered() {
        let error = keeper(b"/proc", libc::ENOSYS);
        assert_eq!((error.code(), error.os_error()), (Code::Host, Some(libc::ENOSYS)));
        let text = error.to_string();
        assert!(text.contains("older than Linux 5.12") && text.contains("sbx_runtime_check"), "{text}");
        assert!(!keeper(b"/proc", libc::EPERM).to_string().contains("5.12"));
    }

    #[test]
    fn the_last_message_of_the_log_counts() {
        let log = br#"cut":"x"}{"msg":"first","level":"error","time":"t"}{"msg":"the \"last\"","level":"error","time":"t"}"#;
        assert_eq!(last_words(log, b"output"), "the \"last\"");
        assert_eq!(last_words(b"", b"one\ntwo\n"), "two");
        assert_eq!(last_words(b"{\"msg\":\"cut", b""), "(no output)");
    }
}
