//! A directory of the host's that files are copied from. Everything below it is opened by openat2, so that no link leads
//! out of it.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};

use crate::build::ignore::{self, Ignore};
use crate::error::{Code, Context as _, Error, Result};

/// Bytes of names that are remembered.
pub(super) const MAX_NAMES_BYTES: usize = 256 * 1024 * 1024;
/// As many links are followed in a path, as in Linux.
const MAX_LINKS: u32 = 40;

/// A directory of the host's that files are copied from.
#[derive(Debug)]
pub(crate) struct Context {
    root: OwnedFd,
    path: PathBuf,
    ignore: Ignore,
    /// What `ignore` was read from, for errors.
    ignored_by: &'static str,
}

impl Context {
    /// Opens the context of a build, with the `.dockerignore` in it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut context = Self::open_named(path)?;
        let flags = OFlag::O_NONBLOCK;
        let file = match context.try_open(Path::new(ignore::FILE_NAME), flags, true) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(context),
            Err(cause) => return Err(cause).context(format!("opening {}", context.shown(ignore::FILE_NAME))),
        };
        let what = context.shown(ignore::FILE_NAME);
        if fstat(&file).context(what.as_str())?.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Error::invalid(format!("{what}: must be a file")));
        }
        let mut text = Vec::new();
        file.take(ignore::MAX_BYTES + 1).read_to_end(&mut text).context(format!("reading {what}"))?;
        if text.len() as u64 > ignore::MAX_BYTES {
            let text = format!("{what}: has more than {} bytes", ignore::MAX_BYTES);
            return Err(Error::new(Code::Limit, text));
        }
        let text = String::from_utf8(text)
            .map_err(|_| Error::invalid(format!("{what}: must be a text in UTF-8")))?;
        context.ignore = Ignore::parse(&text).map_err(|error| error.context(&what))?;
        Ok(context)
    }

    /// Opens the context of a build that has patterns of its own in the place of the `.dockerignore`, which is a file like any
    /// other then.
    pub(crate) fn open_without(path: &Path, patterns: &[String]) -> Result<Self> {
        let ignore = Ignore::of_list(patterns)?;
        Ok(Self { ignore, ignored_by: "the build's ignore patterns", ..Self::open_named(path)? })
    }

    /// Opens another directory that `COPY --from=` names. All of its files can be copied.
    pub(crate) fn open_named(path: &Path) -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(path, flags, Mode::empty()).map_err(|cause| match cause {
            Errno::ENOTDIR => Error::invalid(format!("the build context {path:?}: must be a directory")),
            Errno::ENOENT => {
                Error::new(Code::NotFound, format!("the build context {path:?}: there is no such directory"))
            }
            cause => Error::system(format!("opening the build context {path:?}"), &cause.into()),
        })?;
        Ok(Self { root, path: path.to_owned(), ignore: Ignore::default(), ignored_by: ignore::FILE_NAME })
    }

    /// What its `.dockerignore`, or the build's own patterns, leave out.
    pub(super) fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    /// What leaves that out.
    pub(super) fn ignored_by(&self) -> &'static str {
        self.ignored_by
    }

    /// What the directory itself is.
    pub(super) fn stat(&self) -> Result<FileStat> {
        fstat(&self.root).context(format!("reading {}", self.shown("")))
    }

    /// A path of the context's, for errors.
    pub(super) fn shown(&self, path: impl AsRef<Path>) -> String {
        format!("{:?}", self.path.join(path))
    }

    pub(super) fn changed(&self, path: &Path) -> Error {
        let text = format!("{}: was changed while it was read", self.shown(path));
        Error::new(Code::Image, text)
    }

    /// Opens a path below the root. With `links` those that stay below it are followed.
    fn try_open(&self, path: &Path, flags: OFlag, links: bool) -> nix::Result<OwnedFd> {
        let mut resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let mut flags = flags | OFlag::O_CLOEXEC;
        if !flags.contains(OFlag::O_PATH) {
            flags |= OFlag::O_RDONLY | OFlag::O_NOCTTY;
        }
        if !links {
            resolve |= ResolveFlag::RESOLVE_NO_SYMLINKS;
            flags |= OFlag::O_NOFOLLOW;
        }
        let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        loop {
            match openat2(&self.root, name, OpenHow::new().flags(flags).resolve(resolve)) {
                // A rename at the same time (openat2(2)), or a signal.
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other,
            }
        }
    }

    /// Opens what was found to be there.
    pub(super) fn open_found(&self, path: &Path, flags: OFlag) -> Result<OwnedFd> {
        match self.try_open(path, flags, false) {
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR | Errno::EXDEV) => Err(self.changed(path)),
            other => other.context(format!("opening {}", self.shown(path))),
        }
    }

    /// Where a name in a directory leads, without links. `None` if there is nothing.
    pub(super) fn follow(&self, directory: &Path, name: &OsStr) -> Result<Option<(PathBuf, FileStat)>> {
        let shown = || self.shown(directory.join(name));
        let (mut at, mut links) = (directory.to_owned(), 0);
        let mut left = VecDeque::from([name.to_owned()]);
        let mut found = None;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                if !at.pop() {
                    let text = format!("{}: is a link that leads out of the build context", shown());
                    return Err(Error::invalid(text));
                }
                found = None;
                continue;
            }
            let parent = match self.try_open(&at, OFlag::O_DIRECTORY | OFlag::O_PATH, false) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
                Err(Errno::ELOOP | Errno::EXDEV) => return Err(self.changed(&at)),
                other => other.context(format!("opening {}", self.shown(&at)))?,
            };
            let stat = match fstatat(&parent, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
                other => other.context(format!("reading {}", shown()))?,
            };
            if stat.st_mode & libc::S_IFMT != libc::S_IFLNK {
                at.push(&name);
                found = Some(stat);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Error::invalid(format!(
                    "{}: leads through more than {MAX_LINKS} links",
                    shown()
                )));
            }
            let target = match readlinkat(&parent, name.as_os_str()) {
                Err(Errno::ENOENT | Errno::EINVAL) => return Err(self.changed(&at.join(&name))),
                other => other.context(format!("reading {}", shown()))?,
            };
            let target = Path::new(&target);
            if target.is_absolute() {
                let text = format!(
                    "{}: is a link to {target:?}, which leads out of the build context: make it relative, or copy \
                     what it leads to",
                    shown()
                );
                return Err(Error::invalid(text));
            }
            for part in target.components().rev() {
                match part {
                    Component::ParentDir => left.push_front(OsString::from("..")),
                    Component::Normal(name) => left.push_front(name.to_owned()),
                    Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                }
            }
        }
        match found {
            Some(stat) => Ok(Some((at, stat))),
            // It ended with `..`.
            None => {
                let directory = self.open_found(&at, OFlag::O_DIRECTORY)?;
                let stat = fstat(&directory).context(format!("reading {}", self.shown(&at)))?;
                Ok(Some((at, stat)))
            }
        }
    }

    /// The sorted names in a directory.
    pub(super) fn names(&self, path: &Path) -> Result<Vec<OsString>> {
        let what = || format!("listing {}", self.shown(path));
        let mut listing = Dir::from_fd(self.open_found(path, OFlag::O_DIRECTORY)?).context(what())?;
        let (mut names, mut bytes) = (Vec::new(), 0);
        for entry in listing.iter() {
            let entry = entry.context(what())?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            bytes += name.len() + size_of::<OsString>();
            if bytes > MAX_NAMES_BYTES {
                return Err(too_many_names(&self.shown(path)));
            }
            names.push(OsString::from_vec(name.to_vec()));
        }
        names.sort_unstable();
        Ok(names)
    }
}

pub(super) fn too_many_names(shown: &str) -> Error {
    Error::new(Code::Limit, format!("{shown}: its names take more than {MAX_NAMES_BYTES} bytes"))
}
