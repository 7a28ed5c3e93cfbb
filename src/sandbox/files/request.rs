//! What can be asked for, and its rules.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::user::User;
use crate::error::{Error, Result};
use crate::keeper::wire::files::{Job, MAX_NAME_BYTES, MAX_PATH_BYTES, NO_MODE, Task};
use crate::keeper::wire::init;

/// How many bytes are read or written whole, unless a limit is given.
pub(super) const WHOLE: u64 = 16 << 20;
/// The most bytes that can be read or written whole.
const MOST_WHOLE: u64 = 1 << 30;
/// How many entries are listed, unless a limit is given.
const ENTRIES: u64 = 100_000;
/// The most entries that can be listed.
const MOST_ENTRIES: u64 = 1_000_000;

/// How an operation is done. The default suits most; what an operation has no use for is refused.
///
/// ```no_run
/// # fn example(sandbox: &sbx::Sandbox) -> sbx::Result<()> {
/// let options = sbx::FileOptions::new().mode(0o600).parents(true);
/// sandbox.write_file("/srv/token", b"...", &options)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileOptions {
    /// Whose rights it has: a name or number, also with a group (`user:group`), as the sandbox knows them.
    /// Root without.
    pub user: Option<String>,
    /// The permissions of a file or directory that is made, exactly (default 0o644 and 0o755). Given, a file
    /// that is there gets them too.
    pub mode: Option<u32>,
    /// Where reading begins.
    pub offset: u64,
    /// The most bytes (16 MiB where they are handed over whole, else any number) or entries (100,000).
    pub limit: Option<u64>,
    /// When to give up. Not for a watch, which has no end of its own.
    pub time_limit: Option<Duration>,
    /// How long nothing may move while it is the sandbox's turn to move it (a minute): code inside can stop the helper
    /// that does the work. `Duration::MAX` is no limit. Not for a watch.
    pub progress_timeout: Option<Duration>,
    /// Remove and watch: everything below, too.
    pub recursive: bool,
    /// Make the directories above that aren't there. Making a directory that is there is no error then.
    pub parents: bool,
    /// Write and rename: fail if something of that name is there.
    pub exclusive: bool,
    /// Write: at the end of what is there.
    pub append: bool,
    /// Stat: a symbolic link itself, not what it leads to.
    pub no_follow: bool,
    /// Copy in: owners as the archive says; else everything belongs to the user.
    pub keep_owner: bool,
    /// Remove: nothing there is no error.
    pub missing_ok: bool,
}

impl FileOptions {
    /// The default for everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Works with the rights of this user of the sandbox: a name or number, also with a group (`user:group`).
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Gives what is made these permissions.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Begins to read here.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Limits the bytes or entries.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Gives up after this time.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Gives up when the sandbox has moved nothing for this time.
    #[must_use]
    pub fn progress_timeout(mut self, timeout: Duration) -> Self {
        self.progress_timeout = Some(timeout);
        self
    }

    /// Removes or watches everything below, too.
    #[must_use]
    pub fn recursive(mut self, recursive: bool) -> Self {
        self.recursive = recursive;
        self
    }

    /// Makes the directories above that are missing.
    #[must_use]
    pub fn parents(mut self, parents: bool) -> Self {
        self.parents = parents;
        self
    }

    /// Fails if something of that name exists.
    #[must_use]
    pub fn exclusive(mut self, exclusive: bool) -> Self {
        self.exclusive = exclusive;
        self
    }

    /// Writes at the end of the file.
    #[must_use]
    pub fn append(mut self, append: bool) -> Self {
        self.append = append;
        self
    }

    /// Describes a symbolic link itself, and not its target.
    #[must_use]
    pub fn no_follow(mut self, no_follow: bool) -> Self {
        self.no_follow = no_follow;
        self
    }

    /// Keeps the owners that an archive names.
    #[must_use]
    pub fn keep_owner(mut self, keep_owner: bool) -> Self {
        self.keep_owner = keep_owner;
        self
    }

    /// Accepts that what is to be removed does not exist.
    #[must_use]
    pub fn missing_ok(mut self, missing_ok: bool) -> Self {
        self.missing_ok = missing_ok;
        self
    }
}

/// What is to be done. Paths are absolute, in the sandbox, and bytes: they need not be UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileRequest {
    /// Read a file whole.
    Read(PathBuf),
    /// Write a file whole.
    Write(PathBuf, Vec<u8>),
    /// Read a file from a stream.
    Download(PathBuf),
    /// Write a file through a stream.
    Upload(PathBuf),
    /// List a directory.
    List(PathBuf),
    /// Say what a path is.
    Stat(PathBuf),
    /// Make a directory.
    MakeDirectory(PathBuf),
    /// Remove a file or a directory.
    Remove(PathBuf),
    /// Give another name, over what is there.
    Rename(PathBuf, PathBuf),
    /// Pack a file or a tree into a tar archive on a stream.
    CopyOut(PathBuf),
    /// Unpack a tar archive from a stream into a directory.
    CopyIn(PathBuf),
    /// Tell what changes in a directory.
    Watch(PathBuf),
}

/// What is done with an operation's stream on this side.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamUse {
    /// There is none.
    None,
    /// Its bytes are kept, that many at most.
    Bytes(usize),
    /// Its entries are kept, that many at most.
    Entries(usize),
    /// These are written to it.
    Write(Vec<u8>),
    /// Its changes are kept for the host to take.
    Changes,
    /// The host reads it, or writes to it.
    Host,
}

impl FileRequest {
    /// What it is called in messages: the doing, and the path.
    pub(super) fn title(&self) -> String {
        let (what, path) = match self {
            Self::Read(path) | Self::Download(path) => ("reading", path),
            Self::Write(path, _) | Self::Upload(path) => ("writing", path),
            Self::List(path) => ("listing", path),
            Self::Stat(path) => ("looking at", path),
            Self::MakeDirectory(path) => ("making directory", path),
            Self::Remove(path) => ("removing", path),
            Self::Rename(from, to) => return format!("renaming {from:?} to {to:?}"),
            Self::CopyOut(path) => ("copying out", path),
            Self::CopyIn(path) => ("copying into", path),
            Self::Watch(path) => ("watching", path),
        };
        format!("{what} {path:?}")
    }

    /// For init, and what its stream is for.
    pub(super) fn task(self, options: &FileOptions) -> Result<(Task, StreamUse)> {
        self.check_options(options)?;
        let user = options.user.as_deref().map(User::parse).transpose()?;
        let user = user.map(|user| init::User {
            user: user.user.to_string(),
            group: user.group.as_ref().map(ToString::to_string).unwrap_or_default(),
            ..init::User::default()
        });
        let mode = options.mode.unwrap_or(NO_MODE);
        let FileOptions { offset, parents, exclusive, append, .. } = *options;
        let endless = options.limit.unwrap_or(u64::MAX);
        let write = |path: &Path| -> Result<Job> {
            Ok(Job::Write { path: bytes(path)?, mode, append, exclusive, parents })
        };
        let (job, purpose) = match self {
            Self::Read(path) => {
                let limit = limit(options, WHOLE, MOST_WHOLE, "bytes that are read whole")?;
                let kept = usize::try_from(limit).unwrap_or(usize::MAX);
                (Job::Read { path: bytes(&path)?, offset, limit }, StreamUse::Bytes(kept))
            }
            Self::Write(path, content) => {
                let limit = limit(options, WHOLE, MOST_WHOLE, "bytes that are written whole")?;
                if content.len() as u64 > limit {
                    return Err(Error::invalid(format!(
                        "{} bytes are over the limit of {limit} for what is written whole: raise the limit, or \
                         use a stream",
                        content.len()
                    )));
                }
                (write(&path)?, StreamUse::Write(content))
            }
            Self::Download(path) => {
                (Job::Read { path: bytes(&path)?, offset, limit: endless }, StreamUse::Host)
            }
            Self::Upload(path) => (write(&path)?, StreamUse::Host),
            Self::List(path) => {
                let limit = limit(options, ENTRIES, MOST_ENTRIES, "entries that are listed")?;
                let kept = usize::try_from(limit).unwrap_or(usize::MAX);
                (Job::List { path: bytes(&path)?, limit }, StreamUse::Entries(kept))
            }
            Self::Stat(path) => {
                (Job::Stat { path: bytes(&path)?, follow: !options.no_follow }, StreamUse::None)
            }
            Self::MakeDirectory(path) => {
                (Job::MakeDirectory { path: bytes(&path)?, mode, parents }, StreamUse::None)
            }
            Self::Remove(path) => {
                let FileOptions { recursive, missing_ok, .. } = *options;
                (Job::Remove { path: bytes(&path)?, recursive, missing_ok }, StreamUse::None)
            }
            Self::Rename(from, to) => {
                (Job::Rename { from: bytes(&from)?, to: bytes(&to)?, exclusive }, StreamUse::None)
            }
            Self::CopyOut(path) => {
                let path = bytes(&path)?;
                (Job::Pack { path, limit: endless, as_layer: false }, StreamUse::Host)
            }
            Self::CopyIn(path) => {
                let (path, keep_owner) = (bytes(&path)?, options.keep_owner);
                let job = Job::Unpack { path, limit: endless, parents, keep_owner, keep_root: false };
                (job, StreamUse::Host)
            }
            Self::Watch(path) => {
                (Job::Watch { path: bytes(&path)?, recursive: options.recursive }, StreamUse::Changes)
            }
        };
        Ok((Task { user: user.unwrap_or_default(), job }, purpose))
    }

    /// What is asked for and would not be done is an error.
    fn check_options(&self, options: &FileOptions) -> Result<()> {
        let writes = matches!(self, Self::Write(..) | Self::Upload(_));
        let makes = matches!(self, Self::MakeDirectory(_));
        let reads = matches!(self, Self::Read(_) | Self::Download(_));
        let copies = matches!(self, Self::CopyOut(_) | Self::CopyIn(_));
        let rules = [
            ("mode", options.mode.is_some(), writes || makes),
            ("offset", options.offset != 0, reads),
            (
                "limit",
                options.limit.is_some(),
                reads || copies || matches!(self, Self::Write(..) | Self::List(_)),
            ),
            ("time_limit", options.time_limit.is_some(), !matches!(self, Self::Watch(_))),
            ("progress_timeout", options.progress_timeout.is_some(), !matches!(self, Self::Watch(_))),
            ("recursive", options.recursive, matches!(self, Self::Remove(_) | Self::Watch(_))),
            ("parents", options.parents, writes || makes || matches!(self, Self::CopyIn(_))),
            ("exclusive", options.exclusive, writes || matches!(self, Self::Rename(..))),
            ("append", options.append, writes),
            ("no_follow", options.no_follow, matches!(self, Self::Stat(_))),
            ("keep_owner", options.keep_owner, matches!(self, Self::CopyIn(_))),
            ("missing_ok", options.missing_ok, matches!(self, Self::Remove(_))),
        ];
        for (name, given, allowed) in rules {
            if given && !allowed {
                return Err(Error::invalid(format!(
                    "{}: the option {name} has no meaning here",
                    self.title()
                )));
            }
        }
        if options.append && options.exclusive {
            return Err(Error::invalid(
                "append and exclusive: nothing can be appended to what must not be there",
            ));
        }
        if let Some(mode) = options.mode.filter(|mode| *mode > 0o7777) {
            return Err(Error::invalid(format!("mode {mode:#o}: must be from 0 to 0o7777")));
        }
        if i64::try_from(options.offset).is_err() {
            return Err(Error::invalid(format!("offset {}: no file is that long", options.offset)));
        }
        Ok(())
    }
}

fn limit(options: &FileOptions, default: u64, most: u64, what: &str) -> Result<u64> {
    match options.limit {
        None => Ok(default),
        Some(limit) if limit <= most => Ok(limit),
        Some(limit) => Err(Error::invalid(format!("limit {limit}: there may be at most {most} {what}"))),
    }
}

/// A path for the sandbox.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let bytes = path.as_os_str().as_bytes();
    let refuse = |rule: &str| Err(Error::invalid(format!("path {path:?}: {rule}")));
    if !bytes.starts_with(b"/") {
        return refuse("must be absolute, in the sandbox");
    }
    if bytes.contains(&0) {
        return refuse("must not contain NUL");
    }
    if bytes.len() > MAX_PATH_BYTES {
        return refuse(&format!("is longer than {MAX_PATH_BYTES} bytes"));
    }
    if bytes.split(|byte| *byte == b'/').any(|name| name.len() > MAX_NAME_BYTES) {
        return refuse(&format!("has a name longer than {MAX_NAME_BYTES} bytes"));
    }
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(request: FileRequest, options: &FileOptions) -> String {
        request.task(options).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_path_is_absolute_and_has_no_nul() {
        let default = FileOptions::default();
        for (path, rule) in [("", "absolute"), ("a/b", "absolute"), ("/a\0b", "NUL")] {
            assert!(refusal(FileRequest::Stat(path.into()), &default).contains(rule), "{path:?}");
        }
        let long = format!("/{}", "a/".repeat(2048));
        assert!(refusal(FileRequest::Stat(long.into()), &default).contains("4095"));
        let long = format!("/{}", "a".repeat(256));
        assert!(refusal(FileRequest::Stat(long.into()), &default).contains("255"));
        assert!(FileRequest::Stat("/a/../b".into()).task(&default).is_ok(), "resolved inside");
    }

    #[test]
    fn an_option_that_would_do_nothing_is_refused() {
        type Set = fn(&mut FileOptions);
        let every: [(&str, Set); 12] = [
            ("mode", |options| options.mode = Some(0o600)),
            ("offset", |options| options.offset = 1),
            ("limit", |options| options.limit = Some(1)),
            ("time_limit", |options| options.time_limit = Some(Duration::from_secs(1))),
            ("progress_timeout", |options| options.progress_timeout = Some(Duration::from_secs(1))),
            ("recursive", |options| options.recursive = true),
            ("parents", |options| options.parents = true),
            ("exclusive", |options| options.exclusive = true),
            ("append", |options| options.append = true),
            ("no_follow", |options| options.no_follow = true),
            ("keep_owner", |options| options.keep_owner = true),
            ("missing_ok", |options| options.missing_ok = true),
        ];
        for (name, set) in every {
            let mut options = FileOptions::default();
            set(&mut options);
            let request = || match name {
                "no_follow" => FileRequest::List("/".into()),
                "time_limit" | "progress_timeout" => FileRequest::Watch("/".into()),
                _ => FileRequest::Stat("/".into()),
            };
            assert!(refusal(request(), &options).contains(name), "{name}");
        }
    }

    #[test]
    fn numbers_have_their_ranges() {
        let with = |set: fn(&mut FileOptions)| {
            let mut options = FileOptions::default();
            set(&mut options);
            options
        };
        let mode = with(|options| options.mode = Some(0o10000));
        assert!(refusal(FileRequest::MakeDirectory("/a".into()), &mode).contains("0o10000"));
        let limit = with(|options| options.limit = Some(u64::MAX));
        assert!(refusal(FileRequest::Read("/a".into()), &limit).contains("at most"));
        assert!(FileRequest::Download("/a".into()).task(&limit).is_ok(), "a stream has no end of its own");
        let small = with(|options| options.limit = Some(2));
        assert!(refusal(FileRequest::Write("/a".into(), vec![0; 3]), &small).contains("3 bytes"));
        let user = with(|options| options.user = Some("a b".to_owned()));
        assert!(refusal(FileRequest::Stat("/a".into()), &user).contains("user"));
        let both = with(|options| (options.append, options.exclusive) = (true, true));
        assert!(refusal(FileRequest::Upload("/a".into()), &both).contains("append"));
    }
}
