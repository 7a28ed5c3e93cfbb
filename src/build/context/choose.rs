//! Which files of a context an instruction copies, and to where.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, fstatat};

use super::directory::{Context, MAX_NAMES_BYTES, too_many_names};
use super::selection::{CHUNK_BYTES, Content, Entry, Selection, read};
use crate::build::dockerfile::Copy;
use crate::build::glob::Pattern;
use crate::build::ignore::{Above, Ignore};
use crate::error::{Code, Context as _, Error, Result};

/// The longest path in an image.
const MAX_PATH_BYTES: usize = 4095;

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

impl Context {
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
        Ok(Selection::new(self, work.entries))
    }
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
                if !ignored || (is_directory && self.context.ignore().may_keep()) {
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
            true => format!("is left out of the build context by {}", self.context.ignored_by()),
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
        let root = self.context.stat()?;
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

    /// Whether what leaves files out is about it, by the name or by where it leads.
    fn ignored(&self, found: &Found) -> (bool, Above) {
        let (ignored, above) = self.context.ignore().ignores_path(&found.path.to_string_lossy());
        let (by_name, _) = self.context.ignore().ignores_path(&found.written.to_string_lossy());
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
        self.insert(path.to_vec(), Entry::made_directory())
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
            let (ignored, above) = self.context.ignore().ignores(&path.to_string_lossy(), &frame.above);
            let (excluded, inside) = self.excludes.ignores(&below_source.to_string_lossy(), &frame.excluded);
            let may_keep =
                (!ignored || self.context.ignore().may_keep()) && (!excluded || self.excludes.may_keep());
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
            let entry = Entry::new(Content::Directory, &stat, path.clone());
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
                        self.context.ignored_by()
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
        self.insert(target, Entry::new(content, stat, path))
    }

    fn insert(&mut self, path: Vec<u8>, entry: Entry) -> Result<()> {
        let shown = || format!("{:?}", Path::new("/").join(OsStr::from_bytes(&path)));
        if path.len() > MAX_PATH_BYTES {
            return Err(Error::new(
                Code::Limit,
                format!("{}: is longer than {MAX_PATH_BYTES} bytes", shown()),
            ));
        }
        let conflict = || {
            let text = format!("{}: is a directory in one source of the COPY, and none in another", shown());
            Error::invalid(text)
        };
        if self.entries.get(&path).is_some_and(|old| old.is_directory() != entry.is_directory()) {
            return Err(conflict());
        }
        let parent = path.iter().rposition(|byte| *byte == b'/').and_then(|end| path.get(..end));
        if parent.and_then(|parent| self.entries.get(parent)).is_some_and(|parent| !parent.is_directory()) {
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

fn join(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend(name);
}

fn has_wildcard(source: &str) -> bool {
    source.split('/').any(|part| Pattern::name(part).is_ok_and(|pattern| pattern.literal().is_none()))
}
