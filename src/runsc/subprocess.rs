//! Runs an untrusted program with limits of time and output.
//!
//! The exit status may be lost (to a host that ignores SIGCHLD or reaps with `wait(-1)`), so callers go by the output; the
//! status is a hint.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use crate::sys::spawn::Child;
use crate::sys::wait::any_readable;
use crate::sys::{pidfd, session};

/// How long to wait for a killed child.
const KILLED_GRACE: Duration = Duration::from_secs(1);

/// The program's path in the child: descriptor 3 through /proc, so that it is the file that was checked, whatever is at
/// its path by now.
const PROGRAM: &std::ffi::CStr = c"/proc/self/fd/3";

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Everything was read.
    Complete,
    /// More than the limit came.
    TooMuch,
    /// The time ran out.
    TimedOut,
}

/// A program's output on both streams, and why reading ended.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) text: String,
    pub(super) end: End,
    /// The exit code or 128 + signal, unless the host took it.
    pub(super) status: Option<i32>,
}

/// Runs `program` with `arguments` until it ends, prints more than `limit` bytes, or `timeout` has passed;
/// then it is killed, and what it started with it.
pub(super) fn run_limited(
    program: &File,
    arguments: &[&str],
    limit: usize,
    timeout: Duration,
) -> io::Result<Output> {
    let deadline = Instant::now() + timeout;
    let null = File::open("/dev/null")?;
    let (mut output, write_end) = io::pipe()?;
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let argv =
        ["runsc"].iter().chain(arguments).map(|text| CString::new(*text)).collect::<Result<Vec<_>, _>>()?;
    let environment = [CString::from(c"PATH=/usr/local/bin:/usr/bin:/bin"), CString::from(c"LC_ALL=C")];
    let descriptors = [null.as_fd(), write_end.as_fd(), write_end.as_fd(), program.as_fd()];
    let child = session::start(&PROGRAM.into(), &argv, &environment, &descriptors, |time| {
        let has_time = Instant::now() < deadline;
        if has_time {
            std::thread::sleep(time);
        }
        has_time
    })?;
    drop(write_end);

    let mut bytes = Vec::new();
    let read = read_until(&mut output, &child, limit, deadline, &mut bytes);
    if matches!(read, Ok(End::Complete)) {
        // It has closed its output; let it end by itself if it does so in time.
        let _ = any_readable(&[child.pidfd.as_fd()], deadline);
    }
    let status = collect(&child);
    bytes.truncate(limit);
    Ok(Output { text: String::from_utf8_lossy(&bytes).into_owned(), end: read?, status })
}

fn read_until(
    output: &mut io::PipeReader,
    child: &Child,
    limit: usize,
    deadline: Instant,
    bytes: &mut Vec<u8>,
) -> io::Result<End> {
    let mut chunk = [0_u8; 16 * 1024];
    let mut ended = false;
    loop {
        match output.read(&mut chunk) {
            Ok(0) => return Ok(End::Complete),
            Ok(count) => {
                bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
                if bytes.len() > limit {
                    return Ok(End::TooMuch);
                }
            }
            // A process that the program left behind may hold the pipe open forever: the program's own end is enough.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && ended => return Ok(End::Complete),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match any_readable(&[output.as_fd(), child.pidfd.as_fd()], deadline)? {
                    None => return Ok(End::TimedOut),
                    // The child's end is seen before the last read, so that nothing it wrote is missed.
                    Some(ready) => ended = ready.get(1).copied().unwrap_or(false),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Ok(End::TimedOut);
        }
    }
}

/// Takes the child's status if the host has left it to us. Kills what hasn't ended: no zombie and no
/// process stays, except one that even SIGKILL doesn't end (hung in the kernel).
fn collect(child: &Child) -> Option<i32> {
    let now = Instant::now();
    if !matches!(any_readable(&[child.pidfd.as_fd()], now), Ok(Some(_))) {
        pidfd::kill_group(child);
        let _ = any_readable(&[child.pidfd.as_fd()], now + KILLED_GRACE);
    } else {
        // The leader is gone; its group may not be.
        pidfd::kill_group(child);
    }
    match waitid(Id::PIDFd(child.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
        Ok(WaitStatus::Exited(_, code)) => Some(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(128_i32.saturating_add(signal as i32)),
        // ECHILD: the host ignores SIGCHLD or has reaped it.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runsc::fake::Directory;
    use std::process;

    const HOST: &str = "SBX_TEST_HOST";

    /// Runs this one test again in a process of its own, as a host of the kind named; true in that process.
    fn as_host(kind: &str, test: &str) -> bool {
        if std::env::var(HOST).as_deref() == Ok(kind) {
            return true;
        }
        let mut command = process::Command::new("env");
        if kind == "ignores SIGCHLD" {
            command.arg("--ignore-signal=CHLD");
        }
        let name = format!("runsc::subprocess::tests::{test}");
        command.arg(std::env::current_exe().unwrap()).args(["--exact", &name, "--nocapture"]).env(HOST, kind);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        false
    }

    fn run(directory: &Directory, script: &str, timeout: Duration) -> Output {
        let program = File::open(directory.script("program", script)).unwrap();
        run_limited(&program, &["one", "two"], 1000, timeout).unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    /// What holds in every host.
    fn check() {
        let directory = Directory::new();
        for _ in 0..20 {
            let output = run(&directory, "echo $1 $2; echo err >&2; exit 3", LONG);
            assert_eq!((output.text.as_str(), output.end), ("one two\nerr\n", End::Complete));
            assert!(matches!(output.status, None | Some(3)));
        }
        let output = run(&directory, "exec yes", LONG);
        assert_eq!((output.text.len(), output.end), (1000, End::TooMuch));
        let output = run(&directory, "echo first; sleep 86399", Duration::from_millis(300));
        assert_eq!(output.end, End::TimedOut);
        // Something left behind holds the pipe; the program itself has ended.
        let output = run(&directory, "echo done; sleep 86399 & exit 0", LONG);
        assert_eq!((output.text.as_str(), output.end), ("done\n", End::Complete));
        // It closes its output and goes on: ended at the deadline, with what it said.
        let output = run(&directory, "echo said; exec >&- 2>&-; sleep 86399", Duration::from_millis(300));
        assert_eq!((output.text.as_str(), output.end), ("said\n", End::Complete));
    }

    #[test]
    fn in_an_ordinary_host() {
        check();
        let directory = Directory::new();
        assert_eq!(run(&directory, "exit 3", LONG).status, Some(3));
        assert_eq!(run(&directory, "kill -9 $$", LONG).status, Some(137));
    }

    #[test]
    fn in_a_host_that_ignores_sigchld() {
        if as_host("ignores SIGCHLD", "in_a_host_that_ignores_sigchld") {
            check();
            assert_eq!(run(&Directory::new(), "exit 3", LONG).status, None);
        }
    }

    #[test]
    fn in_a_host_that_reaps_everything() {
        if as_host("reaps everything", "in_a_host_that_reaps_everything") {
            std::thread::spawn(|| {
                loop {
                    if nix::sys::wait::waitpid(None, None).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
            check();
        }
    }
}
