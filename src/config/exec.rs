//! A program to execute in a running sandbox.

use std::time::Duration;

use super::Stream;
use super::environment::Environment;
use super::program::{arguments, fits_with, milliseconds};
use super::rules::absolute_path;
use super::stdio::{self, Stdio};
use super::user::User;
use crate::error::{Error, Result};
use crate::event::Queue;
use crate::first_error::FirstError;

/// The settings of a program in a running sandbox. Environment, directory and user are the sandbox's unless set.
///
/// As in [`Config`](crate::Config), a setter returns its error at once and keeps it: [`Exec::check`] and
/// [`Sandbox::exec`](crate::Sandbox::exec) return the first one.
///
/// ```
/// use std::time::Duration;
/// use sbx::{Exec, Stdio, Stream};
///
/// let mut exec = Exec::new();
/// exec.set_command(["make", "test"])?
///     .set_env("CI", "1")?
///     .set_stdio(Stream::Stdout, Stdio::capture())?
///     .set_timeout(Duration::from_secs(60))?;
/// exec.check()?;
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Exec {
    command: Vec<String>,
    env: Environment,
    workdir: Option<String>,
    user: Option<User>,
    streams: [Stdio; 3],
    timeout: Option<Duration>,
    terminal: Option<(u16, u16)>,
    queue: Option<(Queue, u64)>,
    bad: Option<Error>,
}

impl Exec {
    /// No command, no timeout, no streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the program and its arguments: each shorter than 131,072 bytes, and together with the environment, the
    /// sandbox's included, at most 2,097,152, each counted with 9 more, as in Linux. A program without a slash is looked
    /// up in the PATH of its environment.
    pub fn set_command<I>(&mut self, argv: I) -> Result<&mut Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.latch(|exec| {
            exec.command = arguments("command", argv)?;
            Ok(())
        })
    }

    /// Sets a variable of the environment, in place of the sandbox's of the same name.
    pub fn set_env(&mut self, name: &str, value: &str) -> Result<&mut Self> {
        self.latch(|exec| exec.env.set(name, value))
    }

    /// Sets a secret variable: the library's copies of the value are overwritten when they are no longer needed.
    pub fn set_secret(&mut self, name: &str, value: &str) -> Result<&mut Self> {
        self.latch(|exec| exec.env.set_secret(name, value))
    }

    /// Sets the working directory: an absolute path inside. It is created if missing.
    pub fn set_workdir(&mut self, path: &str) -> Result<&mut Self> {
        self.latch(|exec| {
            exec.workdir = Some(absolute_path("workdir", path)?);
            Ok(())
        })
    }

    /// Sets the user: `name`, `uid`, `uid:gid` or `name:group`. A uid without an entry in the sandbox's `/etc/passwd` gets
    /// the group of the same number (on an image group 0, as in docker), no further groups, and the home `/`.
    pub fn set_user(&mut self, user: &str) -> Result<&mut Self> {
        self.latch(|exec| {
            exec.user = Some(User::parse(user)?);
            Ok(())
        })
    }

    /// Connects a standard stream (default [`Stdio::Null`]).
    pub fn set_stdio(&mut self, stream: Stream, stdio: Stdio) -> Result<&mut Self> {
        self.latch(|exec| {
            stdio::check(stream, stdio)?;
            if let Some(slot) = exec.streams.get_mut(stream.index()) {
                *slot = stdio;
            }
            Ok(())
        })
    }

    /// Limits how long the program may run (default: as long as the sandbox). Then it is killed, with its session and its
    /// descendants, and its code is 124. A daemon in a session of its own whose parents have ended survives. If the
    /// sandbox's init doesn't report the program's end within twenty seconds, the sandbox ends too.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<&mut Self> {
        self.latch(|exec| {
            exec.timeout = Some(milliseconds("timeout_ms", timeout)?);
            Ok(())
        })
    }

    /// Gives the program a terminal of its own in place of all three streams: [`crate::Process::open_terminal`].
    pub fn set_pty(&mut self, rows: u16, columns: u16) -> Result<&mut Self> {
        self.latch(|exec| {
            exec.terminal = Some(window(rows, columns)?);
            Ok(())
        })
    }

    /// Sends the program's events to a queue, with this number.
    pub fn set_queue(&mut self, queue: &Queue, cookie: u64) -> Result<&mut Self> {
        self.queue = Some((queue.clone(), cookie));
        Ok(self)
    }

    /// Returns the first refused value, or the first broken rule between settings.
    pub fn check(&self) -> Result<()> {
        if let Some(error) = &self.bad {
            return Err(error.clone());
        }
        if self.command.is_empty() {
            return Err(Error::invalid("command: must be set"));
        }
        self.fits(&Environment::default())?;
        if self.terminal.is_some() && self.streams.iter().any(|stream| *stream != Stdio::Null) {
            return Err(Error::invalid(
                "pty: must not be set together with streams; a program on a terminal has no others: set one, not both",
            ));
        }
        Ok(())
    }
}

impl FirstError for Exec {
    fn keep_error(&mut self, error: &Error) {
        self.bad.get_or_insert_with(|| error.clone());
    }
}

/// For the rest of the crate.
impl Exec {
    pub(crate) fn command(&self) -> &[String] {
        &self.command
    }

    pub(crate) fn env(&self) -> &Environment {
        &self.env
    }

    /// Checks the size of arguments and environment, the sandbox's variables included.
    pub(crate) fn fits(&self, base: &Environment) -> Result<()> {
        fits_with("command", &self.command, self.env.bytes_over(base))
    }

    pub(crate) fn workdir(&self) -> Option<&str> {
        self.workdir.as_deref()
    }

    pub(crate) fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    pub(crate) fn streams(&self) -> [Stdio; 3] {
        self.streams
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Rows and columns.
    pub(crate) fn terminal(&self) -> Option<(u16, u16)> {
        self.terminal
    }

    pub(crate) fn queue(&self) -> Option<(&Queue, u64)> {
        self.queue.as_ref().map(|(queue, cookie)| (queue, *cookie))
    }
}

/// Checks the size of a terminal: programs divide by it.
pub(crate) fn window(rows: u16, columns: u16) -> Result<(u16, u16)> {
    for (what, number) in [("rows", rows), ("columns", columns)] {
        if number == 0 {
            return Err(Error::invalid(format!("pty: {what} 0: must be from 1 to 65535")));
        }
    }
    Ok((rows, columns))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec() -> Exec {
        let mut exec = Exec::new();
        exec.set_command(["true"]).unwrap();
        exec
    }

    #[test]
    fn a_command_is_needed_and_the_first_bad_value_is_kept() {
        assert!(Exec::new().check().unwrap_err().message().contains("command"));
        exec().check().unwrap();
        let mut bad = exec();
        bad.set_workdir("here").unwrap_err();
        bad.set_timeout(Duration::ZERO).unwrap_err();
        assert!(bad.check().unwrap_err().message().contains("here"));
    }

    #[test]
    fn a_terminal_takes_the_place_of_all_streams() {
        let mut both = exec();
        both.set_pty(24, 80).unwrap();
        both.check().unwrap();
        both.set_stdio(Stream::Stdout, Stdio::Descriptor).unwrap();
        assert!(both.check().unwrap_err().message().contains("not both"));
        assert!(exec().set_pty(0, 80).is_err());
        assert!(exec().set_pty(24, 0).is_err());
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let mut exec = exec();
        exec.set_secret("TOKEN", "hunter2").unwrap();
        let text = format!("{exec:?}");
        assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
    }
}
