//! A program that knows logins, in docker's protocol for credential helpers: `PROGRAM get`, the server's name on its
//! standard input, a JSON object on its standard output.
//!
//! It is started only where the settings name it, by its absolute path, as the keeper is: without the host's descriptors,
//! signals and environment.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use zeroize::Zeroizing;

use super::patience::{Patience, Readiness};
use crate::error::{Context, Error, Result};
use crate::image::error;
use crate::sys::spawn::Child;
use crate::sys::{pidfd, session};

const TIMEOUT: Duration = Duration::from_secs(10);
const MAX_OUTPUT: usize = 64 * 1024;
const KILLED_GRACE: Duration = Duration::from_secs(1);

/// What a helper says when it knows no login for a server.
const NO_LOGIN: &[u8] = b"credentials not found";

/// Asks a helper for the login at a server. `None` if it has none. No error has any of its output, which may be secret.
pub(super) fn ask(
    program: &Path,
    server: &str,
    environment: &[CString],
    patience: &Patience<'_>,
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let named = || format!("credential helper {}", program.display());
    let output = run(program, server, environment, patience).map_err(|error| error.context(named()))?;
    if output.is_empty() || output.starts_with(NO_LOGIN) {
        return Ok(None);
    }
    Ok(Some(output))
}

fn run(
    program: &Path,
    server: &str,
    environment: &[CString],
    patience: &Patience<'_>,
) -> Result<Zeroizing<Vec<u8>>> {
    patience.check()?;
    let nul = |_| Error::invalid("must not contain a NUL byte");
    let path = CString::new(program.as_os_str().as_bytes()).map_err(nul)?;
    let arguments = [path, CString::from(c"get")];
    let (input, mut question) = io::pipe().context("make a pipe")?;
    // The reading end is ours until the program has started, so nothing raises SIGPIPE; and a name fits a pipe.
    question.write_all(server.as_bytes()).context("write the server's name")?;
    drop(question);
    let (output, write_end) = io::pipe().context("make a pipe")?;
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("make a pipe non-blocking")?;
    let null = File::options().write(true).open("/dev/null").context("open /dev/null")?;
    let descriptors = [input.as_fd(), write_end.as_fd(), null.as_fd()];
    let [path, _] = &arguments;
    let pause = |time| patience.pause(time).is_ok();
    let child = session::start(path, &arguments, environment, &descriptors, pause);
    if child.is_err() {
        // It may have been given up while its file was busy.
        patience.check()?;
    }
    let child = child.context("start it")?;
    drop((input, write_end));
    let read = read(output, patience);
    end(&child);
    read
}

fn read(mut output: io::PipeReader, patience: &Patience<'_>) -> Result<Zeroizing<Vec<u8>>> {
    let until = patience.at_most(TIMEOUT);
    // As much as can come, so that no part of a secret is left behind in memory that is given back.
    let mut bytes = Zeroizing::new(vec![0; MAX_OUTPUT]);
    let mut length = 0;
    loop {
        let room = bytes.get_mut(length..).unwrap_or_default();
        if room.is_empty() {
            return Err(error(format!("prints {MAX_OUTPUT} bytes or more")));
        }
        match output.read(room) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                if !patience.ready(output.as_fd(), Readiness::Readable, until)? {
                    return Err(error(format!("does not end within {} seconds", TIMEOUT.as_secs())));
                }
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(Error::system("read its output", &cause)),
        }
        if Instant::now() >= until {
            return Err(error(format!("does not end within {} seconds", TIMEOUT.as_secs())));
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Kills it and what it started, if they haven't ended, and reaps it.
fn end(child: &Child) {
    pidfd::kill_group(child);
    if pidfd::has_ended(child.pidfd.as_fd(), KILLED_GRACE) {
        pidfd::reap(child.pidfd.as_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::registry::tests::script;
    use crate::image::testing::Directory;
    use std::sync::atomic::AtomicBool;

    fn ask_script(script_text: &str, time: Duration) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let directory = Directory::new();
        let program = script(&directory, script_text);
        let cancelled = AtomicBool::new(false);
        let patience = Patience::new(&cancelled, Instant::now() + time);
        ask(&program, "registry.example", &[c"HOME=/h".into()], &patience)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn it_gets_the_servers_name_and_little_else() {
        let script = "read server; echo \"$1 $server $HOME $(env | wc -l)\"; echo secret >&2";
        let output = ask_script(script, LONG).unwrap().unwrap();
        let text = String::from_utf8_lossy(&output);
        assert!(text.starts_with("get registry.example /h "), "{text}");
        assert!(!text.contains("secret"));
    }

    #[test]
    fn a_login_that_is_not_there_is_none() {
        let script = "echo 'credentials not found in native keychain'; exit 1";
        assert!(ask_script(script, LONG).unwrap().is_none());
        assert!(ask_script("exit 1", LONG).unwrap().is_none());
    }

    #[test]
    fn one_that_does_not_end_or_stop_is_ended() {
        let error = ask_script("echo secret; exec sleep 86399", Duration::from_millis(300)).unwrap_err();
        assert!(error.message().starts_with("credential helper /"), "{error}");
        let error = ask_script("exec yes secret", LONG).unwrap_err();
        assert!(error.message().ends_with("prints 65536 bytes or more"), "{error}");
        let cancelled = AtomicBool::new(true);
        let patience = Patience::new(&cancelled, Instant::now() + LONG);
        let error = ask(Path::new("/bin/cat"), "x", &[], &patience).unwrap_err();
        assert_eq!(error.code(), crate::error::Code::Closed);
        let cancelled = AtomicBool::new(false);
        let patience = Patience::new(&cancelled, Instant::now() + LONG);
        let error = ask(Path::new("/nowhere/helper"), "x", &[], &patience).unwrap_err();
        assert!(error.message().starts_with("credential helper /nowhere/helper: start it: "), "{error}");
    }
}
