//! The files of a build context: which of them a COPY takes, their digest, and the archive that the image is made of.
//!
//! Others may change the directory meanwhile. Everything is opened below it by openat2, so no link that is put into a path
//! leads out of it; a file that isn't what it was when its digest was made is an error.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, major, minor};
use sha2::{Digest as _, Sha256};

use super::dockerfile::Copy;
use super::glob::Pattern;
use super::ignore::{self, Above, Ignore};
use crate::error::{Code, Context as _, Error, Result};
use crate::image::tar::{self, Archive};

/// The longest path in an image.
const MAX_PATH_BYTES: usize = 4095;
/// Bytes of names that are remembered.
const MAX_NAMES_BYTES: usize = 256 * 1024 * 1024;
/// As many links are followed in a path, as in Linux.
const MAX_LINKS: u32 = 40;
const CHUNK_BYTES: usize = 256 * 1024;
/// Where a directory comes from that is made because something is copied into it.
const MADE_DIRECTORY_MODE: u32 = 0o755;

/// What may be copied at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContextLimits {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Default for ContextLimits {
    fn default() -> Self {
        Self { entries: 1_000_000, bytes: 16 << 30 }
    }
}

/// A directory of the host's that files are copied from.
#[derive(Debug)]
pub(crate) struct Context {
    root: OwnedFd,
    path: PathBuf,
    ignore: Ignore,
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
        Ok(Self { root, path: path.to_owned(), ignore: Ignore::default() })
    }

    /// What an instruction copies. `is_directory` says whether a path in the image is a directory, links in it followed.
    ///
    /// Reads every file for its digest. `check` is asked often whether that is to go on.
    pub(crate) fn select(
        &self,
        copy: &Copy,
        is_directory: &dyn Fn(&str) -> Result<bool>,
        limits: ContextLimits,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Selection<'_>> {
        let mut excludes = Ignore::default();
        for pattern in &copy.excludes {
            excludes.add(pattern).map_err(|error| error.context(format!("--exclude={pattern}")))?;
        }
        let mut work = Work {
            context: self,
            excludes,
            is_directory,
            limits,
            check,
            buffer: vec![0; CHUNK_BYTES],
            names_bytes: 0,
            bytes: 0,
            entries: BTreeMap::new(),
        };
        work.run(copy)?;
        Ok(Selection { context: self, entries: work.entries })
    }

    /// A path of the context's, for errors.
    fn shown(&self, path: impl AsRef<Path>) -> String {
        format!("{:?}", self.path.join(path))
    }

    fn changed(&self, path: &Path) -> Error {
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
    fn open_found(&self, path: &Path, flags: OFlag) -> Result<OwnedFd> {
        match self.try_open(path, flags, false) {
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR | Errno::EXDEV) => Err(self.changed(path)),
            other => other.context(format!("opening {}", self.shown(path))),
        }
    }

    /// Where a name in a directory leads, without links. `None` if there is nothing.
    fn follow(&self, directory: &Path, name: &OsStr) -> Result<Option<(PathBuf, FileStat)>> {
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
    fn names(&self, path: &Path) -> Result<Vec<OsString>> {
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

fn too_many_names(shown: &str) -> Error {
    Error::new(Code::Limit, format!("{shown}: its names take more than {MAX_NAMES_BYTES} bytes"))
}

/// What is in the image afterwards, by its path there without the first slash.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    context: &'a Context,
    entries: BTreeMap<Vec<u8>, Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Where it is in the context. A directory that is made comes from nowhere.
    source: PathBuf,
    content: Content,
    mode: u32,
    seconds: i64,
    nanoseconds: u32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Directory,
    /// A directory that is missing in the image.
    MadeDirectory,
    File {
        length: u64,
        digest: [u8; 32],
    },
    Symlink(Vec<u8>),
    Fifo,
    CharacterDevice(u64),
    BlockDevice(u64),
}

impl Selection<'_> {
    /// A digest of everything that is copied: names, kinds, modes and contents. As in docker times make no difference.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"libsbx context 1\n");
        for (path, entry) in &self.entries {
            hash_bytes(&mut hash, path);
            hash.update(entry.mode.to_le_bytes());
            match &entry.content {
                Content::Directory => hash.update(b"d"),
                Content::MadeDirectory => hash.update(b"m"),
                Content::File { length, digest, .. } => {
                    hash.update(b"f");
                    hash.update(length.to_le_bytes());
                    hash.update(digest);
                }
                Content::Symlink(target) => {
                    hash.update(b"l");
                    hash_bytes(&mut hash, target);
                }
                Content::Fifo => hash.update(b"p"),
                Content::CharacterDevice(number) => {
                    hash.update(b"c");
                    hash.update(number.to_le_bytes());
                }
                Content::BlockDevice(number) => {
                    hash.update(b"b");
                    hash.update(number.to_le_bytes());
                }
            }
        }
        hash.finalize().into()
    }

    /// Whether the same files, directories and links are copied, wherever to.
    pub(crate) fn has_files_of(&self, other: &Self) -> bool {
        self.sources() == other.sources()
    }

    /// What is there of the context, each with its mode and content.
    fn sources(&self) -> Vec<(&Path, u32, &Content)> {
        let mut sources: Vec<_> = self
            .entries
            .values()
            .filter(|entry| entry.content != Content::MadeDirectory)
            .map(|entry| (entry.source.as_path(), entry.mode, &entry.content))
            .collect();
        sources.sort_unstable();
        sources
    }

    /// How many files, directories and links there are.
    pub(crate) fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| match entry.content {
                Content::File { length, .. } => length,
                _ => 0,
            })
            .sum()
    }

    /// Writes it as a tar archive. Everything belongs to `owner`, and has the mode `chmod` if there is one.
    pub(crate) fn write_tar(
        &self,
        into: &mut dyn Write,
        owner: (u32, u32),
        chmod: Option<u32>,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        let newest = self
            .entries
            .values()
            .filter(|entry| !matches!(entry.content, Content::MadeDirectory))
            .map(|entry| (entry.seconds, entry.nanoseconds))
            .max();
        let mut archive = Archive::new(into);
        let mut buffer = vec![0; CHUNK_BYTES];
        for (path, entry) in &self.entries {
            check()?;
            let mut name = path.clone();
            let mut length = None;
            let (mut seconds, mut nanoseconds) = (entry.seconds, entry.nanoseconds);
            let mut mode = chmod.unwrap_or(entry.mode);
            let kind = match &entry.content {
                Content::Directory => tar::Kind::Directory,
                Content::MadeDirectory => {
                    mode = entry.mode;
                    (seconds, nanoseconds) = newest.unwrap_or_default();
                    tar::Kind::Directory
                }
                Content::File { length: bytes, .. } => {
                    length = Some(*bytes);
                    tar::Kind::File
                }
                Content::Symlink(target) => tar::Kind::SymbolicLink(target),
                Content::Fifo => tar::Kind::Fifo,
                Content::CharacterDevice(number) => {
                    tar::Kind::CharacterDevice { major: major(*number), minor: minor(*number) }
                }
                Content::BlockDevice(number) => {
                    tar::Kind::BlockDevice { major: major(*number), minor: minor(*number) }
                }
            };
            if kind == tar::Kind::Directory {
                name.push(b'/');
            }
            let header =
                tar::Entry { path: &name, kind, mode, uid: owner.0, gid: owner.1, seconds, nanoseconds };
            match length {
                None => archive.entry(&header),
                Some(length) => archive.file(&header, length),
            }
            .map_err(|cause| sending(&cause))?;
            if let Content::File { length, digest } = &entry.content {
                let source = &entry.source;
                let mut content = |bytes: &[u8]| archive.content(bytes).map_err(|cause| sending(&cause));
                let found = read(self.context, source, *length, &mut buffer, check, &mut content)?;
                if found != *digest {
                    return Err(self.context.changed(source));
                }
                archive.pad(*length).map_err(|cause| sending(&cause))?;
            }
        }
        archive.finish().map_err(|cause| sending(&cause))
    }
}

fn hash_bytes(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// The helper's own error says more, so this one only matters if it has none.
fn sending(cause: &io::Error) -> Error {
    Error::system("passing the files to the image helper", cause)
}

/// Reads a file that has a length, and returns the digest of its content.
fn read(
    context: &Context,
    path: &Path,
    length: u64,
    buffer: &mut [u8],
    check: &dyn Fn() -> Result<()>,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<[u8; 32]> {
    let mut file = File::from(context.open_found(path, OFlag::O_NONBLOCK)?);
    let stat = fstat(&file).context(format!("reading {}", context.shown(path)))?;
    let is_same = stat.st_mode & libc::S_IFMT == libc::S_IFREG && u64::try_from(stat.st_size) == Ok(length);
    if !is_same {
        return Err(context.changed(path));
    }
    let (mut hash, mut left) = (Sha256::new(), length);
    while left > 0 {
        check()?;
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let got = match file.read(buffer.get_mut(..wanted).unwrap_or_default()) {
            Ok(0) => return Err(context.changed(path)),
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            other => other.context(format!("reading {}", context.shown(path)))?,
        };
        let bytes = buffer.get(..got).unwrap_or_default();
        hash.update(bytes);
        each(bytes)?;
        left = left.saturating_sub(got as u64);
    }
    Ok(hash.finalize().into())
}

/// A directory that is walked through.
struct Frame {
    path: PathBuf,
    /// Its path in the image.
    target: Vec<u8>,
    names: std::vec::IntoIter<OsString>,
    /// What the names take.
    bytes: usize,
    above: Above,
    /// The same for the instruction's own patterns, whose paths begin here.
    excluded: Above,
    below_source: PathBuf,
    /// A directory that is left out, but for what a pattern keeps of it. It is made with the first of that.
    waiting: Option<Entry>,
}

struct Work<'a> {
    context: &'a Context,
    excludes: Ignore,
    is_directory: &'a dyn Fn(&str) -> Result<bool>,
    limits: ContextLimits,
    check: &'a dyn Fn() -> Result<()>,
    buffer: Vec<u8>,
    names_bytes: usize,
    bytes: u64,
    entries: BTreeMap<Vec<u8>, Entry>,
}

/// Something that an instruction's source stands for.
struct Found {
    /// As it was named, for the name that it gets.
    written: PathBuf,
    /// Without links.
    path: PathBuf,
    stat: FileStat,
}

impl Work<'_> {
    fn run(&mut self, copy: &Copy) -> Result<()> {
        let mut found = Vec::new();
        let mut left_out = false;
        for source in &copy.sources {
            let matches = self.find(source)?;
            if matches.is_empty() && !has_wildcard(source) {
                return Err(self.missing(source, false));
            }
            for each in matches {
                let (ignored, _) = self.ignored(&each);
                let is_directory = each.stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
                if !ignored || (is_directory && self.context.ignore.may_keep()) {
                    found.push(each);
                } else {
                    left_out = true;
                    if !has_wildcard(source) {
                        return Err(self.missing(source, true));
                    }
                }
            }
        }
        if found.is_empty() {
            return Err(self.missing(&copy.sources.join(" "), left_out));
        }
        let target = copy.destination.trim_matches('/');
        let into_directory = copy.destination.ends_with('/') || (self.is_directory)(&copy.destination)?;
        if found.len() > 1 && !into_directory {
            let text = format!(
                "{}: stands for {} files and directories, so the destination {:?} must end with a /",
                copy.sources.join(" "),
                found.len(),
                copy.destination
            );
            return Err(Error::invalid(text));
        }
        for each in found {
            match each.stat.st_mode & libc::S_IFMT {
                libc::S_IFDIR => self.tree(&each, target.as_bytes())?,
                _ => self.single(copy, &each, target, into_directory)?,
            }
        }
        Ok(())
    }

    fn missing(&self, source: &str, ignored: bool) -> Error {
        let why = match ignored {
            true => format!("is left out of the build context by {}", ignore::FILE_NAME),
            false => "is not in the build context".to_owned(),
        };
        let text = format!("{source:?} {why} ({})", self.context.shown(""));
        Error::new(Code::NotFound, text)
    }

    /// What a pattern stands for, in the order of the names.
    fn find(&mut self, source: &str) -> Result<Vec<Found>> {
        let bad = |why: &str| Error::invalid(format!("the path {source:?} {why}"));
        // `..` doesn't lead out of the context, as in docker.
        let mut parts: Vec<&str> = Vec::new();
        for part in source.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        let root = fstat(&self.context.root).context(format!("reading {}", self.context.shown("")))?;
        let mut found = vec![Found { written: PathBuf::new(), path: PathBuf::new(), stat: root }];
        for part in parts {
            let pattern = Pattern::name(part).map_err(bad)?;
            let mut next = Vec::new();
            for each in found {
                (self.check)()?;
                let names = match pattern.literal() {
                    Some(name) => vec![OsString::from(name)],
                    None if each.stat.st_mode & libc::S_IFMT != libc::S_IFDIR => continue,
                    None => self.context.names(&each.path)?,
                };
                for name in names {
                    if !pattern.matches(&name.to_string_lossy()) {
                        continue;
                    }
                    let Some((path, stat)) = self.context.follow(&each.path, &name)? else { continue };
                    self.remember(path.as_os_str().len() + each.written.as_os_str().len() + name.len())?;
                    next.push(Found { written: each.written.join(&name), path, stat });
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// Whether `.dockerignore` is about it, by the name or by where it leads.
    fn ignored(&self, found: &Found) -> (bool, Above) {
        let (ignored, above) = self.context.ignore.ignores_path(&found.path.to_string_lossy());
        let (by_name, _) = self.context.ignore.ignores_path(&found.written.to_string_lossy());
        (ignored || by_name, above)
    }

    fn remember(&mut self, bytes: usize) -> Result<()> {
        self.names_bytes = self.names_bytes.saturating_add(bytes);
        if self.names_bytes > MAX_NAMES_BYTES {
            return Err(too_many_names(&self.context.shown("")));
        }
        Ok(())
    }

    /// A source that isn't a directory.
    fn single(&mut self, copy: &Copy, found: &Found, target: &str, into_directory: bool) -> Result<()> {
        let name = found.written.file_name().unwrap_or_default();
        if self.excludes.ignores_path(&name.to_string_lossy()).0 {
            return Ok(());
        }
        let mut target = target.as_bytes().to_vec();
        if into_directory {
            join(&mut target, name.as_bytes());
        }
        if copy.is_add {
            self.check_no_archive(found)?;
        }
        self.make_directories(&target)?;
        let directory = found.path.parent().unwrap_or(Path::new(""));
        let name = found.path.file_name().unwrap_or_default();
        self.other(directory, name, &found.stat, target)
    }

    /// ADD would unpack an archive.
    fn check_no_archive(&self, found: &Found) -> Result<()> {
        if found.stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Ok(());
        }
        let mut head = Vec::with_capacity(512);
        let file = File::from(self.context.open_found(&found.path, OFlag::O_NONBLOCK)?);
        file.take(512)
            .read_to_end(&mut head)
            .context(format!("reading {}", self.context.shown(&found.path)))?;
        let magic: [&[u8]; 4] =
            [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
        if magic.iter().any(|magic| head.starts_with(magic)) || head.get(257..262) == Some(b"ustar") {
            let text = format!(
                "ADD {:?}: archives are not unpacked: COPY it, and unpack it in a RUN (tar -xf), or write COPY instead of \
                 ADD if it is to stay as it is",
                found.written
            );
            return Err(Error::new(Code::Unsupported, text));
        }
        Ok(())
    }

    /// Makes the directories above a path that are missing in the image.
    fn make_directories(&mut self, target: &[u8]) -> Result<()> {
        let ends: Vec<usize> =
            target.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).collect();
        for end in ends {
            self.make_directory(target.get(..end).unwrap_or_default())?;
        }
        Ok(())
    }

    fn make_directory(&mut self, path: &[u8]) -> Result<()> {
        if path.is_empty() || self.entries.contains_key(path) {
            return Ok(());
        }
        let is_there = match std::str::from_utf8(path) {
            Ok(path) => (self.is_directory)(&format!("/{path}"))?,
            Err(_) => false,
        };
        if is_there {
            return Ok(());
        }
        let made = Entry {
            source: PathBuf::new(),
            content: Content::MadeDirectory,
            mode: MADE_DIRECTORY_MODE,
            seconds: 0,
            nanoseconds: 0,
        };
        self.insert(path.to_vec(), made)
    }

    /// A directory's entries.
    fn tree(&mut self, found: &Found, target: &[u8]) -> Result<()> {
        self.make_directories(target)?;
        self.make_directory(target)?;
        let (_, above) = self.ignored(found);
        let (names, bytes) = self.names(&found.path)?;
        let mut frames = vec![Frame {
            path: found.path.clone(),
            target: target.to_vec(),
            names: names.into_iter(),
            bytes,
            above,
            excluded: Above::default(),
            below_source: PathBuf::new(),
            waiting: None,
        }];
        while let Some(frame) = frames.last_mut() {
            let Some(name) = frame.names.next() else {
                self.names_bytes = self.names_bytes.saturating_sub(frame.bytes);
                frames.pop();
                continue;
            };
            (self.check)()?;
            let path = frame.path.join(&name);
            let below_source = frame.below_source.join(&name);
            let (ignored, above) = self.context.ignore.ignores(&path.to_string_lossy(), &frame.above);
            let (excluded, inside) = self.excludes.ignores(&below_source.to_string_lossy(), &frame.excluded);
            let may_keep =
                (!ignored || self.context.ignore.may_keep()) && (!excluded || self.excludes.may_keep());
            let left_out = ignored || excluded;
            if left_out && !may_keep {
                continue;
            }
            let mut target = frame.target.clone();
            join(&mut target, name.as_bytes());
            let directory = self.context.open_found(&frame.path, OFlag::O_DIRECTORY | OFlag::O_PATH)?;
            let stat = match fstatat(&directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => return Err(self.context.changed(&path)),
                other => other.context(format!("reading {}", self.context.shown(&path)))?,
            };
            let is_directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
            if left_out && !is_directory {
                continue;
            }
            if !left_out {
                for frame in &mut frames {
                    if let Some(entry) = frame.waiting.take() {
                        self.insert(frame.target.clone(), entry)?;
                    }
                }
            }
            if !is_directory {
                let directory = path.parent().unwrap_or(Path::new("")).to_owned();
                self.other(&directory, &name, &stat, target)?;
                continue;
            }
            let entry = entry(Content::Directory, &stat, path.clone());
            let waiting = if left_out {
                Some(entry)
            } else {
                self.insert(target.clone(), entry)?;
                None
            };
            let (names, bytes) = self.names(&path)?;
            let names = names.into_iter();
            frames.push(Frame { path, target, names, bytes, above, excluded: inside, below_source, waiting });
        }
        Ok(())
    }

    /// The names in a directory, and what they take, which is counted.
    fn names(&mut self, path: &Path) -> Result<(Vec<OsString>, usize)> {
        let names = self.context.names(path)?;
        let bytes = names.iter().map(|name| name.len() + size_of::<OsString>()).sum();
        self.remember(bytes)?;
        Ok((names, bytes))
    }

    /// Anything but a directory.
    fn other(&mut self, directory: &Path, name: &OsStr, stat: &FileStat, target: Vec<u8>) -> Result<()> {
        let path = directory.join(name);
        let content = match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => {
                let length = u64::try_from(stat.st_size).unwrap_or(0);
                self.bytes = self.bytes.saturating_add(length);
                if self.bytes > self.limits.bytes {
                    let text = format!(
                        "{}: more than {} bytes are copied: name what isn't needed in {}",
                        self.context.shown(&path),
                        self.limits.bytes,
                        ignore::FILE_NAME
                    );
                    return Err(Error::new(Code::Limit, text));
                }
                let digest =
                    read(self.context, &path, length, &mut self.buffer, self.check, &mut |_| Ok(()))?;
                Content::File { length, digest }
            }
            libc::S_IFLNK => {
                let parent = self.context.open_found(directory, OFlag::O_DIRECTORY | OFlag::O_PATH)?;
                let target = match readlinkat(parent.as_fd(), name) {
                    Err(Errno::ENOENT | Errno::EINVAL) => return Err(self.context.changed(&path)),
                    other => other.context(format!("reading the link {}", self.context.shown(&path)))?,
                };
                Content::Symlink(target.into_vec())
            }
            libc::S_IFIFO => Content::Fifo,
            libc::S_IFCHR => Content::CharacterDevice(stat.st_rdev),
            libc::S_IFBLK => Content::BlockDevice(stat.st_rdev),
            // Sockets are of no use in an image.
            _ => return Ok(()),
        };
        self.insert(target, entry(content, stat, path))
    }

    fn insert(&mut self, path: Vec<u8>, entry: Entry) -> Result<()> {
        let shown = || format!("{:?}", Path::new("/").join(OsStr::from_bytes(&path)));
        if path.len() > MAX_PATH_BYTES {
            return Err(Error::new(
                Code::Limit,
                format!("{}: is longer than {MAX_PATH_BYTES} bytes", shown()),
            ));
        }
        let is_directory =
            |entry: &Entry| matches!(entry.content, Content::Directory | Content::MadeDirectory);
        let conflict = || {
            let text = format!("{}: is a directory in one source of the COPY, and none in another", shown());
            Error::invalid(text)
        };
        if self.entries.get(&path).is_some_and(|old| is_directory(old) != is_directory(&entry)) {
            return Err(conflict());
        }
        let parent = path.iter().rposition(|byte| *byte == b'/').and_then(|end| path.get(..end));
        if parent.and_then(|parent| self.entries.get(parent)).is_some_and(|parent| !is_directory(parent)) {
            return Err(conflict());
        }
        if self.entries.len() as u64 >= self.limits.entries {
            let text = format!("more than {} files and directories are copied", self.limits.entries);
            return Err(Error::new(Code::Limit, text));
        }
        self.remember(2 * path.len())?;
        self.entries.insert(path, entry);
        Ok(())
    }
}

fn entry(content: Content, stat: &FileStat, source: PathBuf) -> Entry {
    Entry {
        source,
        content,
        mode: stat.st_mode & 0o7777,
        seconds: stat.st_mtime,
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

fn join(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend(name);
}

fn has_wildcard(source: &str) -> bool {
    source.split('/').any(|part| Pattern::name(part).is_ok_and(|pattern| pattern.literal().is_none()))
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
