//! Watches a directory for changes, with inotify(7).
//!
//! gVisor reports changes that are made in the sandbox, but not those that the host makes in a mounted
//! directory. Directories beyond the limits are not watched; the library learns of them as lost changes, and
//! the watch continues, because programs in the sandbox must not be able to end it.

use std::collections::HashMap;
use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::at::{self, In, Names};
use super::helper::{AtStep, Result};
use super::plain;
use super::remove::MAX_DEPTH;
use crate::system::{self, check, owned};
use crate::wire::files::{Change, ChangeKind, MAX_PATH_BYTES, Outcome, Step, Totals};

/// The maximum number of directories that one operation watches.
const MAX_WATCHES: usize = 8192;
const EVENTS: u32 = libc::IN_CREATE
    | libc::IN_MODIFY
    | libc::IN_DELETE
    | libc::IN_MOVED_FROM
    | libc::IN_MOVED_TO
    | libc::IN_ATTRIB
    | libc::IN_DELETE_SELF
    | libc::IN_MOVE_SELF;

struct Watcher {
    inotify: OwnedFd,
    stream: UnixStream,
    top: Vec<u8>,
    recursive: bool,
    /// The path of each watch, relative to the top.
    places: HashMap<i32, Vec<u8>>,
    totals: Totals,
    /// `Ready` was sent.
    ready: bool,
    /// Some directories are not watched, which was reported or will be once `ready`.
    incomplete: bool,
}

/// Watches until the library closes its end or the directory is removed.
pub(super) fn watch(path: &[u8], recursive: bool, stream: UnixStream) -> Result<Outcome> {
    // Fails with the right error if the directory can't be opened.
    drop(plain::open(path, libc::O_RDONLY | libc::O_DIRECTORY, 0)?);
    // SAFETY: inotify_init1 takes a number.
    let inotify = owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) });
    let inotify = inotify.at_step(Step::Start)?;
    let (top, places, totals) = (path.to_vec(), HashMap::new(), Totals::default());
    let (ready, incomplete) = (false, false);
    let mut watcher = Watcher { inotify, stream, top, recursive, places, totals, ready, incomplete };
    watcher.add(Vec::new(), false, 0)?;
    watcher.send_change(ChangeKind::Ready, Vec::new())?;
    watcher.ready = true;
    if watcher.incomplete {
        watcher.send_change(ChangeKind::Overflow, Vec::new())?;
    }
    while watcher.wait()? {
        if !watcher.read()? {
            break;
        }
    }
    Ok(Outcome::Done(watcher.totals))
}

impl Watcher {
    fn send_change(&mut self, kind: ChangeKind, path: Vec<u8>) -> Result<()> {
        // No path that long can be opened.
        let (kind, path) =
            if path.len() > MAX_PATH_BYTES { (ChangeKind::Overflow, Vec::new()) } else { (kind, path) };
        if kind != ChangeKind::Ready {
            self.totals.entries += 1;
        }
        self.stream.write_all(&Change { kind, path }.record()).at_step(Step::Stream)
    }

    /// Watches a directory, and with `recursive` those below it. In a new directory every entry is reported
    /// as new.
    fn add(&mut self, place: Vec<u8>, new: bool, depth: usize) -> Result<()> {
        if depth == MAX_DEPTH || self.places.len() == MAX_WATCHES {
            return self.leave_out();
        }
        let path = if place.is_empty() { self.top.clone() } else { [&self.top[..], b"/", &place].concat() };
        let path = at::name(&path).at_step(Step::Open)?;
        let link = if place.is_empty() { 0 } else { libc::IN_DONT_FOLLOW };
        // SAFETY: the path ends with NUL.
        let watch = check(unsafe {
            libc::inotify_add_watch(self.inotify.as_raw_fd(), path.as_ptr(), EVENTS | libc::IN_ONLYDIR | link)
        });
        match watch {
            // The directory was removed meanwhile, which its parent's watch reports.
            Err(error) if !place.is_empty() && error.raw_os_error() == Some(libc::ENOSPC) => {
                return self.leave_out();
            }
            Err(_) if !place.is_empty() => return Ok(()),
            watch => drop(self.places.insert(watch.at_step(Step::Open)?, place.clone())),
        }
        if !self.recursive {
            return Ok(());
        }
        let Ok(names) = at::open_directory(In::ROOT, &path).and_then(Names::of) else { return Ok(()) };
        let directory = In::from(&names);
        for name in names {
            let Ok(name) = name else { break };
            let below = join(&place, name.to_bytes());
            if new {
                self.send_change(ChangeKind::Created, below.clone())?;
            }
            if is_directory(directory, &name) {
                self.add(below, new, depth + 1)?;
            }
        }
        Ok(())
    }

    /// Records a directory that can't be watched. Reports that once, until watches are free again.
    fn leave_out(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.incomplete, true) || !self.ready {
            return Ok(());
        }
        self.send_change(ChangeKind::Overflow, Vec::new())
    }

    /// Waits for a change. Returns false once the library has closed the stream.
    fn wait(&self) -> Result<bool> {
        let poll = |fd: i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut set = [poll(self.inotify.as_raw_fd()), poll(self.stream.as_raw_fd())];
        loop {
            // SAFETY: the array is live and has two elements.
            match system::check(unsafe { libc::poll(set.as_mut_ptr(), 2, -1) }) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).at_step(Step::Read),
                // The library never writes, so any event is the end of the stream.
                Ok(_) => return Ok(set[1].revents == 0),
            }
        }
    }

    /// Reports the pending changes. Returns false once the directory itself is gone.
    fn read(&mut self) -> Result<bool> {
        // Aligned like inotify_event, and larger than the longest event.
        let mut buffer = [0_u64; 2048];
        loop {
            // SAFETY: the buffer is live and as long as said.
            let read = check(unsafe {
                libc::read(self.inotify.as_raw_fd(), buffer.as_mut_ptr().cast(), size_of_val(&buffer))
            });
            let read = match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                read => usize::try_from(read.at_step(Step::Read)?).unwrap_or(0),
            };
            let bytes: Vec<u8> = buffer.iter().flat_map(|word| word.to_ne_bytes()).take(read).collect();
            let mut rest = &bytes[..];
            while let Some((head, more)) = rest.split_first_chunk::<16>() {
                let word =
                    |at: usize| head.get(at..at + 4).and_then(|word| word.try_into().ok()).unwrap_or([0; 4]);
                let (watch, mask) = (i32::from_ne_bytes(word(0)), u32::from_ne_bytes(word(4)));
                let length = usize::try_from(u32::from_ne_bytes(word(12))).unwrap_or(0);
                let Some((name, after)) = more.split_at_checked(length) else { break };
                rest = after;
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                if !self.happened(watch, mask, name)? {
                    return Ok(false);
                }
            }
        }
    }

    fn happened(&mut self, watch: i32, mask: u32, name: &[u8]) -> Result<bool> {
        if mask & libc::IN_Q_OVERFLOW != 0 {
            self.send_change(ChangeKind::Overflow, Vec::new())?;
            return Ok(true);
        }
        let Some(place) = self.places.get(&watch).cloned() else { return Ok(true) };
        if mask & (libc::IN_DELETE_SELF | libc::IN_MOVE_SELF | libc::IN_IGNORED) != 0 {
            // The rename of a watched directory is handled with its old name, by `forget`.
            if mask & libc::IN_MOVE_SELF == 0 {
                self.places.remove(&watch);
                self.incomplete &= self.places.len() > MAX_WATCHES / 2;
            }
            return Ok(!place.is_empty());
        }
        let path = join(&place, name);
        let kinds = [
            (libc::IN_CREATE, ChangeKind::Created),
            (libc::IN_MOVED_TO, ChangeKind::MovedTo),
            (libc::IN_MODIFY, ChangeKind::Modified),
            (libc::IN_ATTRIB, ChangeKind::Attributes),
            (libc::IN_MOVED_FROM, ChangeKind::MovedFrom),
            (libc::IN_DELETE, ChangeKind::Removed),
        ];
        for (_, kind) in kinds.into_iter().filter(|(bit, _)| mask & bit != 0) {
            self.send_change(kind, path.clone())?;
            if kind == ChangeKind::MovedFrom {
                self.forget(&path);
            }
            let new = matches!(kind, ChangeKind::Created | ChangeKind::MovedTo);
            if self.recursive && new && mask & libc::IN_ISDIR != 0 {
                self.add(path.clone(), true, path.iter().filter(|byte| **byte == b'/').count() + 1)?;
            }
        }
        Ok(true)
    }

    /// Removes the watches of a path and everything below it.
    fn forget(&mut self, place: &[u8]) {
        let below = [place, b"/"].concat();
        let inotify = self.inotify.as_raw_fd();
        self.places.retain(|watch, path| {
            let gone = path == place || path.starts_with(&below);
            if gone {
                // SAFETY: inotify_rm_watch takes numbers.
                unsafe { libc::inotify_rm_watch(inotify, *watch) };
            }
            !gone
        });
    }
}

fn join(place: &[u8], name: &[u8]) -> Vec<u8> {
    if place.is_empty() || name.is_empty() { [place, name].concat() } else { [place, b"/", name].concat() }
}

fn is_directory(at: In, name: &CStr) -> bool {
    at::stat(at, name, false).is_ok_and(|stat| at::is_directory(&stat))
}
