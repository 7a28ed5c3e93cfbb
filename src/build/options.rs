//! What an image is built from, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::dockerfile::is_secret_id;
use super::ignore::{Ignore, MAX_PATTERNS};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::first_error::FirstError;
use crate::policy::Policy;

/// The longest Dockerfile.
const MAX_DOCKERFILE_BYTES: usize = 1 << 20;
/// The most contexts, arguments and secrets, of each.
const MAX_ENTRIES: usize = 256;
/// The longest value of an argument.
const MAX_ARGUMENT_BYTES: usize = 128 * 1024 - 1;
/// The longest secret.
const MAX_SECRET_BYTES: usize = 512 * 1024;
/// The longest name of a context, an argument or a secret.
const MAX_NAME_BYTES: usize = 128;
/// How long a build may take.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
/// The longest time-out: as long as a sandbox may live.
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// The bytes that a build's steps add, together.
const DEFAULT_MAX_BYTES: u64 = 64 << 30;

/// What an image is built from: a Dockerfile, and the directories that it copies from.
///
/// As in [`Config`], a setter returns its error at once and keeps it: [`Build::check`] and
/// [`Runtime::build_image`](crate::Runtime::build_image) return the first one.
///
/// ```no_run
/// use sbx::{Build, Runtime};
///
/// let mut build = Build::new("FROM python:3.12-slim\nCOPY app.py /app/\nCMD [\"python3\", \"/app/app.py\"]\n");
/// build.set_context("/srv/app")?.set_tag("app:1")?;
/// let image = Runtime::shared()?.build_image(&build)?;
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone)]
pub struct Build {
    pub(super) dockerfile: String,
    pub(super) context: Option<PathBuf>,
    /// Patterns in the place of its `.dockerignore`.
    pub(super) ignore: Option<Arc<[String]>>,
    pub(super) contexts: BTreeMap<String, PathBuf>,
    pub(super) args: Vec<(String, String)>,
    pub(super) secrets: BTreeMap<String, Secret>,
    /// For the sandboxes of its steps.
    pub(super) config: Config,
    pub(super) no_cache: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) timeout: Duration,
    /// Of what its steps add, together.
    pub(super) max_bytes: u64,
    pub(super) tag: Option<String>,
    pub(super) output: Option<Arc<OwnedFd>>,
    bad: Option<Error>,
}

/// The bytes of a secret, overwritten when they are no longer needed.
pub(super) type Secret = Arc<Zeroizing<Vec<u8>>>;

impl Default for Build {
    fn default() -> Self {
        let mut config = Config::new();
        let mut bad = None;
        if let Err(error) = config.set_policy(&Policy::blocked()) {
            debug_assert!(false, "a blocked policy is one");
            bad = Some(error);
        }
        Self {
            dockerfile: String::new(),
            context: None,
            ignore: None,
            contexts: BTreeMap::new(),
            args: Vec::new(),
            secrets: BTreeMap::new(),
            config,
            no_cache: false,
            max_age: None,
            timeout: DEFAULT_TIMEOUT,
            max_bytes: DEFAULT_MAX_BYTES,
            tag: None,
            output: None,
            bad,
        }
    }
}

impl Build {
    /// A build by this Dockerfile: its text, not its path.
    pub fn new(dockerfile: &str) -> Self {
        let mut build = Self::default();
        // Kept, and returned when it is checked.
        let _ = build.set_dockerfile(dockerfile);
        build
    }

    /// Sets the text of the Dockerfile, of at most 1 MiB.
    pub fn set_dockerfile(&mut self, text: &str) -> Result<&mut Self> {
        self.latch(|build| {
            if text.len() > MAX_DOCKERFILE_BYTES {
                return Err(Error::invalid(format!(
                    "dockerfile: has {} bytes; it may have {MAX_DOCKERFILE_BYTES}",
                    text.len()
                )));
            }
            build.dockerfile = text.to_owned();
            Ok(())
        })
    }

    /// Sets the directory that COPY and ADD take files from. Its `.dockerignore` holds, unless there are patterns of
    /// the build's own ([`Build::set_ignore`]).
    pub fn set_context(&mut self, directory: impl AsRef<Path>) -> Result<&mut Self> {
        self.latch(|build| {
            build.context = Some(existing_name("context", directory.as_ref())?);
            Ok(())
        })
    }

    /// Sets what of the context is left out, in the place of its `.dockerignore`: patterns as that file has them, at most 10,000
    /// and 1 MiB together; a `#` is no comment. An empty list leaves nothing out. The file is then copied like any other.
    pub fn set_ignore<I>(&mut self, patterns: I) -> Result<&mut Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.latch(|build| {
            let patterns = patterns.into_iter().map(|each| each.as_ref().to_owned());
            let patterns: Vec<String> = patterns.take(MAX_PATTERNS + 1).collect();
            if patterns.len() > MAX_PATTERNS {
                let text = format!("ignore: there are more than {MAX_PATTERNS} patterns");
                return Err(Error::new(Code::Limit, text));
            }
            Ignore::of_list(&patterns).map_err(|error| error.context("ignore"))?;
            build.ignore = Some(patterns.into());
            Ok(())
        })
    }

    /// Adds a directory that `COPY --from=NAME` takes files from.
    pub fn add_context(&mut self, name: &str, directory: impl AsRef<Path>) -> Result<&mut Self> {
        self.latch(|build| {
            let name = plain("context name", name)?;
            let directory = existing_name("context", directory.as_ref())?;
            bounded("contexts", build.contexts.len())?;
            build.contexts.insert(name, directory);
            Ok(())
        })
    }

    /// Sets the value of an ARG of the Dockerfile. It becomes a part of what steps depend on, so a secret is no argument.
    pub fn add_arg(&mut self, name: &str, value: &str) -> Result<&mut Self> {
        self.latch(|build| {
            let name = plain("build argument", name)?;
            if value.len() > MAX_ARGUMENT_BYTES || value.contains('\0') {
                return Err(Error::invalid(format!(
                    "build argument {name}: its value must have at most {MAX_ARGUMENT_BYTES} bytes and no NUL byte"
                )));
            }
            build.args.retain(|(other, _)| *other != name);
            bounded("build arguments", build.args.len())?;
            build.args.push((name, value.to_owned()));
            Ok(())
        })
    }

    /// Sets a secret for steps that ask for it by `RUN --mount=type=secret,id=ID`. They have it as a file in memory, at
    /// /run/secrets/ID unless the step names a target. It is in no image, and steps don't depend on its value.
    pub fn add_secret(&mut self, id: &str, value: &[u8]) -> Result<&mut Self> {
        self.latch(|build| {
            let id = plain("secret id", id)?;
            if value.len() > MAX_SECRET_BYTES {
                return Err(Error::invalid(format!(
                    "secret {id}: has {} bytes; it may have {MAX_SECRET_BYTES}",
                    value.len()
                )));
            }
            bounded("secrets", build.secrets.len())?;
            build.secrets.insert(id, Arc::new(Zeroizing::new(value.to_vec())));
            Ok(())
        })
    }

    /// Sets what the sandboxes of the steps are like: their policy, limits, name servers, host services. Without it their
    /// policy is blocked: nothing can be reached. The policy of a [`Config`] is open unless it is set.
    ///
    /// What says which program runs on what is the Dockerfile's: a config with a command, an image, a root directory,
    /// environment, a working directory, a user, a host name, mounts, volumes, ports, a probe, an exit snapshot or a name is
    /// refused.
    pub fn set_config(&mut self, config: &Config) -> Result<&mut Self> {
        self.latch(|build| {
            check_config(config).map_err(|error| error.context("build: config"))?;
            build.config = config.clone();
            Ok(())
        })
    }

    /// Does every step again, also those whose result is stored.
    pub fn set_no_cache(&mut self) -> Result<&mut Self> {
        self.no_cache = true;
        Ok(self)
    }

    /// Does the steps again that were done longer ago, in whole seconds. By default a result is used whatever its age.
    pub fn set_max_age(&mut self, age: Duration) -> Result<&mut Self> {
        self.max_age = Some(age);
        Ok(self)
    }

    /// Limits how long all of it may take (default one hour, at most a day).
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<&mut Self> {
        self.latch(|build| {
            if timeout < Duration::from_millis(1) || timeout > MAX_TIMEOUT {
                return Err(Error::invalid(format!(
                    "build timeout {} ms: must be from 1 ms to 24 hours",
                    timeout.as_millis()
                )));
            }
            build.timeout = timeout;
            Ok(())
        })
    }

    /// Limits the bytes that its steps add, together (default 64 GiB): what each image that it makes is longer than the one
    /// below it, and no step may change more than what is left. What is found in the cache doesn't count.
    pub fn set_max_bytes(&mut self, bytes: u64) -> Result<&mut Self> {
        self.latch(|build| {
            if bytes == 0 {
                return Err(Error::invalid("build max_bytes: must be at least 1"));
            }
            build.max_bytes = bytes;
            Ok(())
        })
    }

    /// Sets the name that the image is stored under. By default it has none but its id.
    pub fn set_tag(&mut self, tag: &str) -> Result<&mut Self> {
        self.latch(|build| {
            build.tag = Some(crate::image::full_tag(tag)?);
            Ok(())
        })
    }

    /// Writes what is being done, and what the steps' programs say, to a descriptor: a pipe, a socket, a terminal or a file.
    /// A reader that is slow loses lines, and the build goes on.
    pub fn set_output(&mut self, descriptor: OwnedFd) -> Result<&mut Self> {
        self.output = Some(Arc::new(descriptor));
        Ok(self)
    }

    /// Returns the first refused value.
    pub fn check(&self) -> Result<()> {
        if let Some(error) = &self.bad {
            return Err(error.clone());
        }
        if self.dockerfile.trim().is_empty() {
            return Err(Error::invalid("dockerfile: must be set; it is the text, not the path"));
        }
        Ok(())
    }
}

impl FirstError for Build {
    fn keep_error(&mut self, error: &Error) {
        self.bad.get_or_insert_with(|| error.clone());
    }
}

/// Refuses what is the Dockerfile's to say.
fn check_config(config: &Config) -> Result<()> {
    match config.said_of_what_runs() {
        Some(what) => Err(Error::invalid(format!(
            "{what}: must not be set for a build, whose Dockerfile says what runs"
        ))),
        None => config.check(),
    }
}

fn existing_name(what: &str, directory: &Path) -> Result<PathBuf> {
    if directory.as_os_str().is_empty() {
        return Err(Error::invalid(format!("{what}: must be a directory's path")));
    }
    Ok(directory.to_owned())
}

fn plain(what: &str, name: &str) -> Result<String> {
    // The rule of the names in a Dockerfile.
    if !is_secret_id(name) {
        let shown: String = name.chars().take(MAX_NAME_BYTES).collect();
        return Err(Error::invalid(format!(
            "{what} {shown:?}: must have 1 to {MAX_NAME_BYTES} of the characters A-Z a-z 0-9 _ . - and no dot first"
        )));
    }
    Ok(name.to_owned())
}

fn bounded(what: &str, count: usize) -> Result<()> {
    if count >= MAX_ENTRIES {
        return Err(Error::invalid(format!("{what}: a build takes at most {MAX_ENTRIES}")));
    }
    Ok(())
}

/// Secrets and arguments are not shown.
impl fmt::Debug for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Build")
            .field("context", &self.context)
            .field("contexts", &self.contexts)
            .field("secrets", &self.secrets.keys().collect::<Vec<_>>())
            .field("no_cache", &self.no_cache)
            .field("tag", &self.tag)
            .field("bad", &self.bad)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyMode;

    #[test]
    fn the_first_bad_value_is_kept() {
        assert!(Build::new(" \n").check().unwrap_err().message().contains("must be set"));
        let mut build = Build::new("FROM scratch");
        build.check().unwrap();
        build.add_secret("a/b", b"x").unwrap_err();
        build.set_timeout(Duration::ZERO).unwrap_err();
        build.set_max_bytes(0).unwrap_err();
        assert!(build.check().unwrap_err().message().contains("a/b"));
        assert!(Build::new(&"#".repeat(MAX_DOCKERFILE_BYTES + 1)).check().is_err());
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let mut build = Build::new("FROM scratch");
        build.set_ignore([""; 0]).unwrap().set_ignore(["*.key", "!a"]).unwrap();
        // Texts that are no rule count, too: none may be lost behind them.
        let blanks = std::iter::repeat_n("", MAX_PATTERNS).chain(["secret.key"]);
        assert_eq!(Build::new("FROM scratch").set_ignore(blanks).unwrap_err().code(), Code::Limit);
        let error = build.set_ignore(["*.key", "a["]).unwrap_err();
        assert!(error.message().starts_with("ignore: the pattern \"a[\""), "{error}");
        assert_eq!(build.check().unwrap_err().message(), error.message());
        let endless = std::iter::repeat("a");
        assert_eq!(
            Build::new("FROM scratch").set_ignore(endless).unwrap_err().code(),
            crate::error::Code::Limit
        );
    }

    #[test]
    fn nothing_can_be_reached_unless_a_policy_says_so() {
        let mut build = Build::new("FROM scratch");
        assert_eq!(build.config.policy().mode(), PolicyMode::Blocked);
        build.set_config(&Config::new()).unwrap();
        assert_eq!(build.config.policy().mode(), PolicyMode::Open);
    }

    #[test]
    fn a_config_says_nothing_of_what_runs() {
        let set: [fn(&mut Config) -> Result<&mut Config>; 9] = [
            |config| config.set_command(["true"]),
            |config| config.set_entrypoint(["true"]),
            |config| config.set_workdir("/srv"),
            |config| config.set_user("1000"),
            |config| config.set_hostname("it"),
            |config| config.set_env("A", "b"),
            |config| config.mount_read_only("/srv", "/srv"),
            |config| config.set_exit_snapshot(None),
            |config| config.set_name("it"),
        ];
        for set in set {
            let mut config = Config::new();
            set(&mut config).unwrap();
            let error = Build::new("FROM scratch").set_config(&config).unwrap_err();
            assert!(error.message().contains("must not be set for a build"), "{error}");
        }
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let mut build = Build::new("FROM scratch");
        build.add_secret("token", b"hunter2").unwrap().add_arg("A", "hunter3").unwrap();
        let text = format!("{build:?}");
        assert!(text.contains("token") && !text.contains("hunter"), "{text}");
    }
}
