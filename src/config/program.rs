//! The program of a sandbox: command, environment, directory, user, names, lifetime.

use std::time::Duration;

use super::Config;
use super::rules::{MAX_STRING_BYTES, absolute_path, counts, fits, hostname, no_nul, plain_name, refuse};
use super::user::User;
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The most arguments, as for a list of the C interface.
const MAX_ARGUMENTS: usize = 1 << 16;
/// The most tags of one sandbox, and the longest value of one.
const MAX_TAGS: usize = 64;
const MAX_TAG_VALUE_BYTES: usize = 256;

/// Reads and checks the arguments of a command.
pub(super) fn arguments<I>(setting: &str, argv: I) -> Result<Vec<String>>
where
    I: IntoIterator,
    I::Item: AsRef<str>,
{
    let mut arguments: Vec<String> = Vec::new();
    let mut bytes = 0_usize;
    for (index, argument) in argv.into_iter().enumerate() {
        let (argument, name) = (argument.as_ref(), || format!("{setting} argument {index}"));
        no_nul(&name(), argument)?;
        if index >= MAX_ARGUMENTS {
            return Err(Error::invalid(format!("{setting}: more than {MAX_ARGUMENTS} arguments")));
        }
        if argument.len() >= MAX_STRING_BYTES {
            let rule = format!(
                "must be shorter than {MAX_STRING_BYTES} bytes, which is Linux's limit for one argument"
            );
            return Err(refuse(&name(), argument, rule));
        }
        bytes = bytes.saturating_add(counts(argument.len()));
        fits(setting, "the arguments", bytes)?;
        arguments.push(argument.to_owned());
    }
    match arguments.first() {
        None => Err(Error::invalid(format!("{setting}: must name a program; there are no arguments"))),
        Some(program) if program.is_empty() => {
            Err(Error::invalid(format!("{setting}: the program's name must not be empty")))
        }
        Some(_) => Ok(arguments),
    }
}

/// Checks the size of arguments and environment together.
pub(crate) fn fits_with<'a>(
    setting: &str,
    arguments: impl IntoIterator<Item = &'a String>,
    environment_counts: usize,
) -> Result<()> {
    let arguments: usize = arguments.into_iter().map(|argument| counts(argument.len())).sum();
    fits(setting, "the arguments and the environment", arguments.saturating_add(environment_counts))
}

impl Config {
    /// Sets the program and its arguments: each shorter than 131,072 bytes, and together with the environment at most
    /// 2,097,152, each counted with 9 more, as in Linux. A sandbox without a command runs nothing by itself and lives
    /// until its timeout, ready for [`crate::Sandbox::exec`].
    pub fn set_command<I>(&mut self, argv: I) -> Result<&mut Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.latch(|config| {
            config.command = arguments("command", argv)?;
            Ok(())
        })
    }

    /// Sets a variable of the environment of all programs; the same name again replaces it. The value is never logged and
    /// never written to a file.
    pub fn set_env(&mut self, name: &str, value: &str) -> Result<&mut Self> {
        self.latch(|config| config.env.set(name, value))
    }

    /// Sets a secret variable: the library's copies of the value are overwritten when they are no longer needed.
    pub fn set_secret(&mut self, name: &str, value: &str) -> Result<&mut Self> {
        self.latch(|config| config.env.set_secret(name, value))
    }

    /// Sets the working directory: an absolute path inside (default `/`). It is created if missing, with its parents, owned
    /// by the sandbox's root with mode 0755.
    pub fn set_workdir(&mut self, path: &str) -> Result<&mut Self> {
        self.latch(|config| {
            config.workdir = Some(absolute_path("workdir", path)?);
            Ok(())
        })
    }

    /// Sets the user: `name`, `uid`, `uid:gid` or `name:group` (default: the sandbox's root). A uid without an entry in the
    /// sandbox's `/etc/passwd` gets the group of the same number (on an image group 0, as in docker), no further groups,
    /// and the home `/`.
    pub fn set_user(&mut self, user: &str) -> Result<&mut Self> {
        self.latch(|config| {
            config.user = Some(User::parse(user)?);
            Ok(())
        })
    }

    /// Sets the host name (RFC 1123, at most 64 bytes).
    pub fn set_hostname(&mut self, name: &str) -> Result<&mut Self> {
        self.latch(|config| {
            hostname(name)?;
            config.hostname = Some(name.to_owned());
            Ok(())
        })
    }

    /// Sets the name, unique among the runtime's live sandboxes.
    pub fn set_name(&mut self, name: &str) -> Result<&mut Self> {
        self.latch(|config| {
            plain_name("name", name)?;
            config.name = Some(name.to_owned());
            Ok(())
        })
    }

    /// Sets a tag: a key and a text of the host's own. The same key again replaces it.
    pub fn set_tag(&mut self, key: &str, value: &str) -> Result<&mut Self> {
        self.latch(|config| {
            plain_name("tag", key)?;
            no_nul("tag value", value)?;
            if value.len() > MAX_TAG_VALUE_BYTES {
                return Err(refuse(
                    "tag value",
                    value,
                    format_args!("must have at most {MAX_TAG_VALUE_BYTES} bytes"),
                ));
            }
            if config.tags.len() >= MAX_TAGS && !config.tags.contains_key(key) {
                return Err(refuse("tag", key, format_args!("a sandbox takes at most {MAX_TAGS} tags")));
            }
            config.tags.insert(key.to_owned(), value.to_owned());
            Ok(())
        })
    }

    /// Limits how long the sandbox may live (default 300 s); then it ends with code 124.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<&mut Self> {
        self.latch(|config| {
            config.timeout = milliseconds("timeout_ms", timeout)?;
            Ok(())
        })
    }

    /// Limits how long the sandbox may be idle (default: no limit); then it ends with code 124 and
    /// [`crate::ExitReason::Idle`].
    ///
    /// It is idle while no program of [`crate::Sandbox::exec`] runs or is being started, no byte goes through a tunnel or
    /// a connection, and nothing is written to the sandbox's standard input. Its own program's work doesn't count.
    pub fn set_idle_timeout(&mut self, timeout: Duration) -> Result<&mut Self> {
        self.latch(|config| {
            config.idle_timeout = Some(milliseconds("idle_timeout_ms", timeout)?);
            Ok(())
        })
    }
}

/// Checks a time that C must be able to express: from one millisecond to as many as fit in 63 bits.
pub(super) fn milliseconds(setting: &str, time: Duration) -> Result<Duration> {
    if time < Duration::from_millis(1) {
        return Err(Error::invalid(format!("{setting} {}: must be greater than 0", time.as_millis())));
    }
    if i64::try_from(time.as_millis()).is_err() {
        return Err(Error::invalid(format!("{setting} {}: must be at most {}", time.as_millis(), i64::MAX)));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Probe;
    use crate::config::rules::{MAX_PROGRAM_BYTES, STRING_OVERHEAD};
    use crate::error::Code;

    #[test]
    fn a_command_is_bounded_as_in_linux() {
        let mut config = Config::new();
        let longest = "b".repeat(MAX_STRING_BYTES - 1);
        config.set_command(["a", &longest]).unwrap();
        let error = config.set_command(["a", &format!("{longest}b")]).unwrap_err();
        let wanted = ["command argument 1 \"bbb", "(131072 bytes)", "shorter than 131072"];
        assert!(wanted.iter().all(|text| error.message().contains(text)), "{error}");
        assert_eq!(config.command().len(), 2, "a refused value changes nothing");
        assert!(Config::new().set_command(vec![""; MAX_ARGUMENTS + 1]).is_err());
        // 15 whole ones, and one that makes it 2 MiB.
        let most = || {
            let last = MAX_PROGRAM_BYTES - 15 * counts(longest.len()) - STRING_OVERHEAD;
            [vec![longest.clone(); 15], vec!["c".repeat(last)]].concat()
        };
        Config::new().set_command(most()).unwrap().check().unwrap();
        let error = Config::new().set_command([most(), vec![String::new()]].concat()).unwrap_err();
        assert!(error.message().contains("more than 2097152"), "{error}");
    }

    #[test]
    fn arguments_and_environment_count_together() {
        let text = |length| "x".repeat(length);
        let half: Vec<String> = vec![text(MAX_STRING_BYTES - STRING_OVERHEAD); 8];
        let mut config = Config::new();
        config.set_command(&half).unwrap();
        // The name and the equals sign count.
        for name in ["A", "B", "C", "D", "E", "F", "G", "H"] {
            config.set_secret(name, &text(MAX_STRING_BYTES - STRING_OVERHEAD - 2)).unwrap();
        }
        config.check().unwrap();
        let mut more = config.clone();
        more.set_env("I", "").unwrap();
        let error = more.check().unwrap_err();
        assert!(error.message().contains("environment have more than 2097152"), "{error}");
        config.set_env("A", "").unwrap().set_env("I", "").unwrap().check().unwrap();
        config.set_readiness_probe(Probe::exec(vec![text(MAX_STRING_BYTES - 1); 9])).unwrap();
        assert!(config.check().unwrap_err().message().contains("readiness probe"));
    }

    #[test]
    fn a_command_needs_a_program_and_no_nul() {
        assert!(Config::new().set_command(Vec::<&str>::new()).is_err());
        assert!(Config::new().set_command([""]).is_err());
        let error = Config::new().set_command(["sh", "a\0b"]).unwrap_err();
        assert!(error.message().starts_with("command argument 1 "), "{error}");
        Config::new().set_command(["sh", ""]).unwrap();
    }

    #[test]
    fn the_environments_values_stay_out_of_messages() {
        let mut config = Config::new();
        config.set_env("A", "1").unwrap().set_env("A", "2").unwrap();
        assert_eq!(config.env().get("A"), Some("2"));
        let error = config.set_env("TOKEN", "hunter2\0").unwrap_err();
        assert!(!error.message().contains("hunter2"), "{error}");
        assert!(config.set_env("1B", "").is_err());
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let mut config = Config::new();
        config.set_env("TOKEN", "hunter2").unwrap();
        let text = format!("{config:?}");
        assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn lifetimes() {
        let mut config = Config::new();
        assert_eq!(config.timeout(), Duration::from_secs(300));
        config.set_timeout(Duration::from_millis(1)).unwrap();
        assert!(config.set_timeout(Duration::ZERO).is_err());
        let error = config.set_timeout(Duration::MAX).unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
    }

    #[test]
    fn tags_are_bounded() {
        let mut config = Config::new();
        for number in 0..MAX_TAGS {
            config.set_tag(&format!("k{number}"), "v").unwrap();
        }
        config.set_tag("k0", "again").unwrap();
        assert!(config.set_tag("more", "v").is_err());
        assert!(config.set_tag("k0", &"x".repeat(257)).is_err());
        assert_eq!(config.tags().len(), MAX_TAGS);
    }
}
