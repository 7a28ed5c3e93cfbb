//! A program to run in a sandbox that runs already.

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

/// What a program in a running sandbox is asked to be. What isn't set is as in the sandbox's own [`super::Config`]:
/// environment, directory and user.
///
/// As there, a setter returns what is wrong at once and keeps it: the first bad value is what
/// [`Exec::check`] and [`crate::Sandbox::exec`] return.
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
    /// No command yet, no time-out, no streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// The program and its arguments: each shorter than 131,072 bytes, and together with the environment, the
    /// sandbox's included, at most 2,097,152, each counted with 9 more, as Linux has it. The first is looked up in the
    /// PATH of the program's environment unless it has a slash.
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

    /// Sets one variable of the environment, over the sandbox's of the same name.
    pub fn set_env(&mut self, name: &str, value: &str) -> Result<&mut Self> {
        self.latch(|exec| exec.env.set(name, value))
    }

    /// The same for a secret: the library's copies of the value are overwritten when they are no longer needed.
    pub fn set_secret(&mut self, name: &str, value: &str) -> Result<&mut Self> {
        self.latch(|exec| exec.env.set_secret(name, value))
    }

    /// The directory the program starts in: an absolute path inside. Made if it isn't there.
    pub fn set_workdir(&mut self, path: &str) -> Result<&mut Self> {
        self.latch(|exec| {
            exec.workdir = Some(absolute_path("workdir", path)?);
            Ok(())
        })
    }

    /// Who the program runs as: `name`, `uid`, `uid:gid` or `name:group`.
    pub fn set_user(&mut self, user: &str) -> Result<&mut Self> {
        self.latch(|exec| {
            exec.user = Some(User::parse(user)?);
            Ok(())
        })
    }

    /// What becomes of a standard stream (default [`Stdio::Null`]).
    pub fn set_stdio(&mut self, stream: Stream, stdio: Stdio) -> Result<&mut Self> {
        self.latch(|exec| {
            stdio::check(stream, stdio)?;
            if let Some(slot) = exec.streams.get_mut(stream.index()) {
                *slot = stdio;
            }
            Ok(())
        })
    }

    /// How long the program may run (default: as long as the sandbox). Then it is killed, with its session and all
    /// that is below it, and its code is 124. A daemon that has begun a session of its own and whose parents have ended
    /// lives on. If the sandbox's init doesn't tell of the program's end within twenty seconds, the sandbox ends too.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<&mut Self> {
        self.latch(|exec| {
            exec.timeout = Some(milliseconds("timeout_ms", timeout)?);
            Ok(())
        })
    }

    /// A terminal of its own, in place of all three streams: [`crate::Process::open_terminal`].
    pub fn set_pty(&mut self, rows: u16, columns: u16) -> Result<&mut Self> {
        self.latch(|exec| {
            exec.terminal = Some(window(rows, columns)?);
            Ok(())
        })
    }

    /// Where the program's events go, and the number they carry.
    pub fn set_queue(&mut self, queue: &Queue, cookie: u64) -> Result<&mut Self> {
        self.queue = Some((queue.clone(), cookie));
        Ok(self)
    }

    /// The first bad value, or the first rule between settings that is broken.
    pub fn check(&self) -> Result<()> {
        if let Some(error) = &self.bad {
            return Err(error.clone());
        }
        if self.command.is_empty() {
            return Err(Error::invalid("command: is not set; there is nothing to run"));
        }
        self.fits(&Environment::default())?;
        if self.terminal.is_some() && self.streams.iter().any(|stream| *stream != Stdio::Null) {
            return Err(Error::invalid(
                "pty: a program on a terminal has no other streams; set a terminal or streams, not both",
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

/// What the rest of the crate reads.
impl Exec {
    pub(crate) fn command(&self) -> &[String] {
        &self.command
    }

    pub(crate) fn env(&self) -> &Environment {
        &self.env
    }

    /// Whether arguments and environment are few enough, with what comes from the sandbox's.
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

/// The size of a terminal; a program that asks for it divides by it.
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
