//! An image as the root file system, and what its configuration adds to the sandbox's.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::rules::absolute_path;
use super::user::User;
use super::{Config, DEFAULT_HOSTNAME};
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The most images that are mounted at paths of one sandbox. Each is a descriptor of the message to the keeper.
const MAX_IMAGE_MOUNTS: usize = 16;

/// Opens an image's file.
pub(crate) trait OpenImage: fmt::Debug + Send + Sync {
    /// A descriptor of the checked file, for reading only. Called when the sandbox is planned; may hang.
    fn open(&self) -> Result<OwnedFd>;

    /// The image's configuration as it came, which a snapshot of a sandbox on it has too.
    fn config_json(&self) -> &str {
        "{}"
    }
}

/// An image as a sandbox needs it: its file, and what its configuration says about programs. What the configuration leaves
/// out is empty. Open fields: plain data.
#[derive(Clone, Debug)]
pub(crate) struct RootImage {
    /// Its name in messages.
    pub(crate) name: String,
    pub(crate) file: Arc<dyn OpenImage>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    /// `user` or `user:group`.
    pub(crate) user: String,
    /// The signal that asks its program to end: `SIGQUIT`, `QUIT` or `3`.
    pub(crate) stop_signal: String,
}

/// An image that is mounted at a path.
#[derive(Clone, Debug)]
pub(crate) struct ImageMount {
    pub(crate) image: RootImage,
    /// Inside; absolute.
    pub(crate) destination: String,
}

impl Config {
    /// Sets the program that the command's arguments are for, in place of the image's entrypoint, whose default arguments
    /// (`Cmd`) are then not used. With an empty list there is none, and the command, or the image's `Cmd`, is the program.
    /// Without an image it comes before the command.
    pub fn set_entrypoint<I>(&mut self, argv: I) -> Result<&mut Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.latch(|config| {
            let mut argv = argv.into_iter().peekable();
            config.entrypoint = Some(match argv.peek() {
                Some(_) => super::program::arguments("entrypoint", argv)?,
                None => Vec::new(),
            });
            Ok(())
        })
    }

    /// Runs no program of its own, not the image's either: the sandbox lives until its timeout, ready for
    /// [`crate::Sandbox::exec`]. This is the default without an image.
    pub fn set_no_command(&mut self) -> Result<&mut Self> {
        self.has_no_command = true;
        Ok(self)
    }

    /// Takes a snapshot at the end, with this name.
    pub(crate) fn set_exit_snapshot_tag(&mut self, tag: Result<Option<String>>) -> Result<&mut Self> {
        self.latch(|config| {
            config.exit_snapshot = Some(tag?);
            Ok(())
        })
    }

    /// Uses an image as the root file system.
    pub(crate) fn set_root_image(&mut self, image: RootImage) -> &mut Self {
        self.image = Some(image);
        self
    }

    /// Mounts the files of an image read-only at a path.
    pub(crate) fn mount_image_at(&mut self, image: RootImage, destination: &str) -> Result<&mut Self> {
        self.latch(|config| {
            let destination = config.mount_destination(destination)?;
            if config.image_mounts.len() >= MAX_IMAGE_MOUNTS {
                return Err(Error::invalid(format!(
                    "mount destination {destination:?}: a sandbox takes at most {MAX_IMAGE_MOUNTS} images"
                )));
            }
            config.image_mounts.push(ImageMount { image, destination });
            Ok(())
        })
    }

    /// The settings with what the image adds to them, as docker does: what is set here wins.
    pub(crate) fn resolved(&self) -> Result<Self> {
        if let Some(error) = &self.bad {
            return Err(error.clone());
        }
        if self.has_no_command && !self.command.is_empty() {
            return Err(Error::invalid("command: must not be set for a sandbox that is to have none"));
        }
        let mut config = self.clone();
        let entrypoint = config.entrypoint.take();
        let mut arguments = match (&config.image, &entrypoint) {
            (Some(image), None) => image.entrypoint.clone(),
            _ => entrypoint.clone().unwrap_or_default(),
        };
        match &config.image {
            Some(image) if config.command.is_empty() && entrypoint.as_ref().is_none_or(Vec::is_empty) => {
                arguments.extend(image.cmd.iter().cloned());
            }
            _ => arguments.append(&mut config.command),
        }
        if config.has_no_command {
            arguments.clear();
        }
        config.command = match arguments.is_empty() {
            true => arguments,
            false => super::program::arguments("command", arguments)?,
        };
        if let Some(image) = config.image.clone() {
            image.add_to(&mut config).map_err(|error| error.context(format!("image {}", image.name)))?;
            // As docker does, after what the image says.
            let hostname = config.hostname.clone();
            config.env.set_default("HOSTNAME", hostname.as_deref().unwrap_or(DEFAULT_HOSTNAME))?;
        }
        Ok(config)
    }
}

/// The number of a signal, from a name or number as docker takes them.
fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 31] = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("ILL", libc::SIGILL),
        ("TRAP", libc::SIGTRAP),
        ("ABRT", libc::SIGABRT),
        ("BUS", libc::SIGBUS),
        ("FPE", libc::SIGFPE),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("SEGV", libc::SIGSEGV),
        ("USR2", libc::SIGUSR2),
        ("PIPE", libc::SIGPIPE),
        ("ALRM", libc::SIGALRM),
        ("TERM", libc::SIGTERM),
        ("STKFLT", libc::SIGSTKFLT),
        ("CHLD", libc::SIGCHLD),
        ("CONT", libc::SIGCONT),
        ("STOP", libc::SIGSTOP),
        ("TSTP", libc::SIGTSTP),
        ("TTIN", libc::SIGTTIN),
        ("TTOU", libc::SIGTTOU),
        ("URG", libc::SIGURG),
        ("XCPU", libc::SIGXCPU),
        ("XFSZ", libc::SIGXFSZ),
        ("VTALRM", libc::SIGVTALRM),
        ("PROF", libc::SIGPROF),
        ("WINCH", libc::SIGWINCH),
        ("IO", libc::SIGIO),
        ("PWR", libc::SIGPWR),
        ("SYS", libc::SIGSYS),
    ];
    /// The kernel's numbers: glibc's own, which it has two less of, don't hold inside.
    const FIRST_REAL_TIME: i32 = 34;
    const LAST_REAL_TIME: i32 = 64;
    let text = text.trim().to_ascii_uppercase();
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    let distance = |text: &str, sign: char| match text {
        "" => Some(0),
        text => text.strip_prefix(sign)?.parse::<i32>().ok().filter(|n| (0..=30).contains(n)),
    };
    let number = match NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Some(*number),
        None => match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => distance(rest, '+').map(|above| FIRST_REAL_TIME + above),
            (_, Some(rest)) => distance(rest, '-').map(|below| LAST_REAL_TIME - below),
            _ => text.parse().ok(),
        },
    };
    number.filter(|number| (1..=LAST_REAL_TIME).contains(number))
}

impl RootImage {
    /// The signal that asks its program to end, if it names one.
    pub(super) fn stop_signal(&self) -> Option<i32> {
        signal_number(&self.stop_signal)
    }

    /// Adds what a configuration leaves open.
    fn add_to(&self, config: &mut Config) -> Result<()> {
        if config.command.is_empty() && !config.has_no_command {
            return Err(Error::invalid(
                "it has no command of its own: set one, or say that the sandbox has none (set_no_command)",
            ));
        }
        // Of two values of a name the last counts.
        for variable in self.env.iter().rev() {
            // Docker takes a name without a value as a variable that isn't set.
            let Some((name, value)) = variable.split_once('=') else { continue };
            config.env.set_default(name, value)?;
        }
        if config.workdir.is_none() && !self.working_dir.is_empty() {
            config.workdir = Some(absolute_path("workdir", &self.working_dir)?);
        }
        if config.user.is_none() && !self.user.is_empty() {
            config.user = Some(User::parse(&self.user)?);
        }
        Ok(())
    }
}

/// An image's file that tests bring. Not in a release.
#[cfg(feature = "test-hooks")]
#[doc(hidden)]
#[allow(missing_docs, reason = "for tests alone")]
#[derive(Clone, Debug)]
pub struct ImageFile {
    pub file: Arc<std::fs::File>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
}

#[cfg(feature = "test-hooks")]
mod test_hooks {
    use std::fs::File;

    use super::{Arc, Config, ImageFile, OpenImage, OwnedFd, Result, RootImage};
    use crate::error::Context;

    impl OpenImage for File {
        fn open(&self) -> Result<OwnedFd> {
            self.try_clone().map(OwnedFd::from).context("a copy of the image's descriptor")
        }
    }

    #[allow(missing_docs, reason = "for tests alone")]
    impl ImageFile {
        pub fn new(file: File) -> Self {
            Self {
                file: Arc::new(file),
                entrypoint: Vec::new(),
                cmd: Vec::new(),
                env: Vec::new(),
                working_dir: String::new(),
                user: String::new(),
            }
        }

        fn image(&self) -> RootImage {
            let Self { file, entrypoint, cmd, env, working_dir, user } = self.clone();
            let (name, stop_signal) = ("of a test".to_owned(), String::new());
            RootImage { name, file, entrypoint, cmd, env, working_dir, user, stop_signal }
        }
    }

    #[doc(hidden)]
    #[allow(missing_docs, reason = "for tests alone")]
    impl Config {
        pub fn set_image_file(&mut self, image: &ImageFile) -> Result<&mut Self> {
            Ok(self.set_root_image(image.image()))
        }

        pub fn mount_image_file(&mut self, image: &ImageFile, destination: &str) -> Result<&mut Self> {
            self.mount_image_at(image.image(), destination)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[derive(Debug)]
    struct Nowhere;

    impl OpenImage for Nowhere {
        fn open(&self) -> Result<OwnedFd> {
            Err(Error::new(Code::NotFound, "nowhere"))
        }
    }

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn image() -> RootImage {
        RootImage {
            name: "one".to_owned(),
            file: Arc::new(Nowhere),
            entrypoint: list(&["/entry"]),
            cmd: list(&["a", "b"]),
            env: list(&["PATH=/opt/bin", "A=image", "A=later", "with.dot=1", "EMPTY=", "UNSET"]),
            working_dir: "/work//here".to_owned(),
            user: "node:adm".to_owned(),
            stop_signal: "SIGQUIT".to_owned(),
        }
    }

    fn on(image: RootImage) -> Config {
        let mut config = Config::new();
        config.set_root_image(image);
        config
    }

    #[test]
    fn command_and_entrypoint_are_joined_as_docker_does() {
        let command = |change: &dyn Fn(&mut Config)| {
            let mut config = on(image());
            change(&mut config);
            config.resolved().unwrap().command
        };
        let set = |config: &mut Config, words: &[&str]| {
            config.set_command(words).unwrap();
        };
        assert_eq!(command(&|_| ()), ["/entry", "a", "b"]);
        assert_eq!(command(&|config| set(config, &["c"])), ["/entry", "c"]);
        let entry = |config: &mut Config| {
            config.set_entrypoint(["/mine"]).unwrap();
        };
        assert_eq!(command(&entry), ["/mine"]);
        let both = |config: &mut Config| {
            set(config, &["c"]);
            config.set_entrypoint(["/mine"]).unwrap();
        };
        assert_eq!(command(&both), ["/mine", "c"]);
        let plain = |config: &mut Config| {
            set(config, &["c"]);
            config.set_entrypoint(Vec::<&str>::new()).unwrap();
        };
        assert_eq!(command(&plain), ["c"]);
        let only_cmd = |config: &mut Config| {
            config.set_entrypoint(Vec::<&str>::new()).unwrap();
        };
        assert_eq!(command(&only_cmd), ["a", "b"]);
        let none = |config: &mut Config| {
            config.set_no_command().unwrap();
        };
        assert_eq!(command(&none), [""; 0]);
        let mut without = Config::new();
        without.set_entrypoint(["/mine"]).unwrap().set_command(["c"]).unwrap();
        assert_eq!(without.resolved().unwrap().command, ["/mine", "c"]);
    }

    #[test]
    fn without_any_command_it_says_so() {
        let bare = RootImage { entrypoint: Vec::new(), cmd: Vec::new(), ..image() };
        let error = on(bare.clone()).check().unwrap_err();
        assert!(error.message().contains("image one") && error.message().contains("no command"), "{error}");
        on(bare).set_no_command().unwrap().check().unwrap();
        Config::new().check().unwrap();
    }

    #[test]
    fn what_is_set_wins_over_the_image() {
        let resolved = on(image()).resolved().unwrap();
        assert_eq!(resolved.workdir(), "/work/here");
        assert_eq!(resolved.user().unwrap().to_string(), "node:adm");
        let mut all: Vec<_> = resolved.env().iter().collect();
        all.sort_unstable();
        let hostname = ("HOSTNAME", "sandbox");
        assert_eq!(all, [("A", "later"), ("EMPTY", ""), hostname, ("PATH", "/opt/bin"), ("with.dot", "1")]);

        let mut config = on(image());
        config.set_workdir("/").unwrap().set_user("0").unwrap().set_secret("A", "mine").unwrap();
        let resolved = config.resolved().unwrap();
        assert_eq!((resolved.workdir(), resolved.env().get("A")), ("/", Some("mine")));
        assert_eq!(resolved.user().unwrap().to_string(), "0");
    }

    #[test]
    fn the_hostname_is_a_variable_on_an_image_unless_that_has_another() {
        let hostname = |image: RootImage| {
            let resolved = on(image).set_hostname("mine").unwrap().resolved().unwrap();
            resolved.env().get("HOSTNAME").map(str::to_owned)
        };
        assert_eq!(hostname(image()).as_deref(), Some("mine"));
        assert_eq!(hostname(RootImage { env: list(&["HOSTNAME=its"]), ..image() }).as_deref(), Some("its"));
        assert_eq!(Config::new().resolved().unwrap().env().get("HOSTNAME"), None);
    }

    #[test]
    fn the_stop_signal_is_a_name_or_a_number_as_docker_has_it() {
        let signal = |text: &str| {
            on(RootImage { stop_signal: text.to_owned(), ..image() }).resolved().unwrap().stop_signal()
        };
        for (text, number) in [
            ("SIGQUIT", 3),
            ("quit", 3),
            ("9", 9),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-2", 62),
            ("64", 64),
            // What is none is docker's default.
            ("", 15),
            ("0", 15),
            ("65", 15),
            ("SIGNONE", 15),
            ("RTMIN+99", 15),
            ("RTMIN-1", 15),
        ] {
            assert_eq!(signal(text), number, "{text}");
        }
        assert_eq!(Config::new().stop_signal(), 15);
    }

    #[test]
    fn an_exit_snapshot_needs_an_image() {
        on(image()).set_exit_snapshot(None).unwrap().check().unwrap();
        let error = Config::new().set_exit_snapshot(Some("a:1")).unwrap().check().unwrap_err();
        assert!(error.message().contains("exit snapshot"), "{error}");
    }

    #[test]
    fn a_bad_value_of_the_image_is_named_as_its_own() {
        for bad in [
            RootImage { user: "a b".to_owned(), ..image() },
            RootImage { working_dir: "here".to_owned(), ..image() },
            RootImage { env: list(&["=x"]), ..image() },
            RootImage { env: vec![format!("A={}", "x".repeat(200_000))], ..image() },
        ] {
            let error = on(bad).check().unwrap_err();
            assert!(error.message().starts_with("image one: "), "{error}");
        }
    }

    #[test]
    fn an_image_and_a_root_directory_exclude_each_other() {
        let mut both = on(image());
        both.set_rootfs("/srv").unwrap();
        assert!(both.check().unwrap_err().message().contains("rootfs"));
    }

    #[test]
    fn image_mounts_are_bounded_and_have_places_of_their_own() {
        let mut config = Config::new();
        config.mount_read_only("/srv", "/a").unwrap();
        assert!(config.clone().mount_image_at(image(), "/a").is_err());
        assert!(config.clone().mount_image_at(image(), "/proc/a").is_err());
        for number in 0..MAX_IMAGE_MOUNTS {
            config.mount_image_at(image(), &format!("/image{number}")).unwrap();
        }
        assert!(config.clone().mount_read_only("/srv", "/image0").is_err());
        assert!(config.mount_image_at(image(), "/more").is_err());
    }
}
