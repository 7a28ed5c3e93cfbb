//! The part of the host that the default root file system shows: programs, not data.
//!
//! Only listed directories are shown, and in them only what every user may read or enter: a file of mode 0600 and a
//! directory of mode 0700 are covered, even if root runs the library. The directories are scanned once per process, and
//! again when one of the listed ones has changed; deeper changes in between are not noticed. [`Bounds`] limits a scan: a
//! directory beyond them is left out whole; if time was the limit, for a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Links into /usr on most systems, directories on others.
pub(super) const TOP: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// The directories of /usr and /usr/local with programs and libraries. Not `src` and `etc`, which hold applications and
/// settings.
const USR_PARTS: &[&str] =
    &["bin", "games", "include", "lib", "lib32", "lib64", "libexec", "libx32", "sbin", "share"];

/// Further directories of /usr/local: a toolchain that is installed there.
const LOCAL_PARTS: &[&str] = &["go"];

/// Public files of /etc that programs need: for the linker, TLS, names of ports, fonts, and adding users. Fedora keeps its
/// certificates below pki; its private keys in pki/tls/private are not listed.
const ETC_PARTS: &[&str] = &[
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "ld-musl-x86_64.path",
    "alternatives",
    "ssl/certs",
    "ssl/cert.pem",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/ca-trust/extracted",
    "ca-certificates/extracted",
    "services",
    "protocols",
    "fonts",
    "adduser.conf",
    "deluser.conf",
    "login.defs",
    "default/useradd",
    "shells",
    "skel",
];

/// Where programs are searched, in this order.
const SEARCH_PATH: &[&str] = &["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"];

/// The most entries of a directory that is composed entry by entry.
const MAX_COMPOSED: usize = 64;

/// A directory that changed this shortly before the scan may have changed again with the same time stamp: file systems
/// update time stamps in steps.
const TIMESTAMP_STEP: Duration = Duration::from_millis(50);

/// How long the result of a scan that ran out of time is used: the next one may be quicker, or take as long again.
const CUT_SHORT_VALID_FOR: Duration = Duration::from_secs(60);

/// The limits of a scan, and of covers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Entries of all directories together.
    entries: usize,
    /// How long the scan may take.
    time: Duration,
    /// Covers in one listed directory; each is a mount. Beyond that, whole directories are covered.
    covers: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 2_000_000, time: Duration::from_secs(30), covers: 128 }
    }
}

/// One thing that is shown. Paths begin with "/" and are those in the sandbox; sources contain no links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Link {
        path: PathBuf,
        target: PathBuf,
    },
    Directory {
        path: PathBuf,
    },
    File {
        path: PathBuf,
        source: PathBuf,
    },
    /// A directory with its contents, except the covered paths in it.
    Tree {
        path: PathBuf,
        source: PathBuf,
        covers: Vec<PathBuf>,
    },
}

impl Shown {
    fn path(&self) -> &Path {
        match self {
            Self::Link { path, .. } | Self::Directory { path } => path,
            Self::File { path, .. } | Self::Tree { path, .. } => path,
        }
    }
}

/// The result of a scan.
#[derive(Debug)]
pub(super) struct View {
    /// The listed directories at the time of the scan.
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    /// Whether their last change was long enough before the scan.
    is_settled: bool,
    pub(super) shown: Vec<Shown>,
    /// Listed directories that are not shown, and why.
    pub(super) left_out: Vec<(PathBuf, String)>,
    /// When the scan ended, if it ran out of time.
    cut_short: Option<Instant>,
}

/// Identifies a state of a directory, to notice changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let there = fs::symlink_metadata(path).ok()?;
        Some(Self {
            file: (there.dev(), there.ino()),
            mode: there.mode(),
            modified: (there.mtime(), there.mtime_nsec()),
            changed: (there.ctime(), there.ctime_nsec()),
        })
    }

    /// Whether it changed within the current time step. (A time in the future comes from another clock.)
    fn is_fresh(&self, now: Duration) -> bool {
        let (seconds, rest) = self.changed;
        let at = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(rest).unwrap_or(0));
        (now.saturating_sub(TIMESTAMP_STEP)..=now.saturating_add(TIMESTAMP_STEP)).contains(&at)
    }
}

/// The last scan of this host, for all runtimes. The lock is held during a scan, so that there is one at a time.
static LAST_SCAN: Mutex<Option<Arc<View>>> = Mutex::new(None);

impl View {
    /// The view of this host now. May hang if the host's file systems hang. The first scan takes some tenths of a second
    /// where much is installed.
    pub(super) fn current() -> Arc<Self> {
        let mut last = LAST_SCAN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = last.as_ref().filter(|view| view.is_current()) {
            return Arc::clone(view);
        }
        let begin = Instant::now();
        let view = Arc::new(Self::look(Path::new("/"), Bounds::default()));
        view.log(begin.elapsed());
        *last = Some(Arc::clone(&view));
        view
    }

    /// Whether this host was not scanned yet. Doesn't wait for a scan.
    pub(super) fn is_first() -> bool {
        LAST_SCAN.try_lock().is_ok_and(|last| last.is_none())
    }

    /// Scans the host below `base`.
    pub(super) fn look(base: &Path, bounds: Bounds) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamps: Vec<_> = listed()
            .map(|name| base.join(name))
            .map(|path| {
                let stamp = Stamp::of(&path);
                (path, stamp)
            })
            .collect();
        let is_settled = !stamps.iter().filter_map(|(_, stamp)| *stamp).any(|stamp| stamp.is_fresh(now));
        let mut scan = Scan {
            base: base.canonicalize().unwrap_or_else(|_| base.to_owned()),
            left: bounds.entries,
            until: Instant::now() + bounds.time,
            covers: bounds.covers,
            ran_out: false,
            view: Self { stamps, is_settled, shown: Vec::new(), left_out: Vec::new(), cut_short: None },
        };
        for name in TOP {
            scan.programs(name);
        }
        // Large directories come last: if time runs out, programs can do without those.
        let (last, first): (Vec<&str>, Vec<&str>) =
            USR_PARTS.iter().partition(|part| matches!(**part, "include" | "share"));
        for part in first.into_iter().chain(last) {
            scan.programs(&format!("usr/{part}"));
            scan.programs(&format!("usr/local/{part}"));
        }
        for name in LOCAL_PARTS {
            scan.programs(&format!("usr/local/{name}"));
        }
        for name in ETC_PARTS {
            scan.of_etc(name);
        }
        scan.python();
        if scan.ran_out {
            scan.view.cut_short = Some(Instant::now());
        }
        scan.view
    }

    fn is_current(&self) -> bool {
        self.is_current_at(Instant::now())
    }

    fn is_current_at(&self, now: Instant) -> bool {
        self.is_settled
            && self.cut_short.is_none_or(|ended| now.saturating_duration_since(ended) < CUT_SHORT_VALID_FOR)
            && self.stamps.iter().all(|(path, stamp)| Stamp::of(path) == *stamp)
    }

    fn log(&self, time: Duration) {
        let covered = self.shown.iter().map(|shown| match shown {
            Shown::Tree { covers, .. } => covers.len(),
            _ => 0,
        });
        let covered: usize = covered.sum();
        log::info!("the host's programs were scanned in {time:?}: {covered} private entries are covered");
        for (path, why) in &self.left_out {
            log::warn!("{} is not shown in sandboxes: {why}", path.display());
        }
    }
}

/// All paths that may be shown.
fn listed() -> impl Iterator<Item = String> {
    let below = |place: &'static str, names: &'static [&'static str]| {
        names.iter().map(move |name| format!("{place}{name}"))
    };
    let usr = below("usr/", USR_PARTS)
        .chain(below("usr/local/", USR_PARTS))
        .chain(below("usr/local/", LOCAL_PARTS));
    below("", TOP).chain(usr).chain(below("etc/", ETC_PARTS))
}

/// Whether every user may read it, and enter it if it is a directory.
fn is_public(there: &Metadata) -> bool {
    let needed = if there.is_dir() { 0o5 } else { 0o4 };
    there.mode() & needed == needed
}

/// Why a scan of a directory stopped early.
enum Stop {
    Entries,
    Time,
}

/// A scan in progress.
struct Scan {
    base: PathBuf,
    left: usize,
    until: Instant,
    covers: usize,
    /// Whether time ran out.
    ran_out: bool,
    view: View,
}

impl Scan {
    /// Adds a directory of programs, or a link in its place.
    fn programs(&mut self, name: &str) {
        let (here, path) = (self.base.join(name), Path::new("/").join(name));
        let Ok(there) = fs::symlink_metadata(&here) else { return };
        if there.is_symlink() {
            if let Ok(target) = fs::read_link(&here) {
                self.view.shown.push(Shown::Link { path, target });
            }
        } else if there.is_dir()
            && let Ok(source) = here.canonicalize()
        {
            self.show(source, path);
        }
    }

    /// Adds a file or directory of /etc, if it exists. Links on its path are resolved now, not by the keeper.
    fn of_etc(&mut self, name: &str) {
        if let Some(source) = public_etc(&self.base, name) {
            self.show(source, Path::new("/etc").join(name));
        }
    }

    /// Adds a file, or a directory without its private entries.
    fn show(&mut self, source: PathBuf, path: PathBuf) {
        let Ok(there) = fs::symlink_metadata(&source) else { return };
        let within = source.ancestors().take_while(|above| *above != self.base && above.parent().is_some());
        let enterable =
            |above: &Path| fs::symlink_metadata(above).is_ok_and(|above| above.mode() & 0o1 == 0o1);
        if !is_public(&there) || !within.skip(1).all(enterable) {
            self.view.left_out.push((path, "not every user may read it".to_owned()));
            return;
        }
        if there.is_file() {
            self.view.shown.push(Shown::File { path, source });
            return;
        }
        let why = match self.private_entries(&source) {
            Ok(Some(private)) => match gather(private, self.covers) {
                Some(covers) => {
                    self.view.shown.push(Shown::Tree { path, source, covers });
                    return;
                }
                None => format!("more than {} directories in it have private entries", self.covers),
            },
            Ok(None) => "it can't be read".to_owned(),
            Err(Stop::Entries) => "it has too many entries to be scanned".to_owned(),
            Err(Stop::Time) => {
                self.ran_out = true;
                "it could not be scanned in time".to_owned()
            }
        };
        self.view.left_out.push((path, why));
    }

    /// The private entries of a directory and those below it; `None` if the directory itself can't be read.
    fn private_entries(&mut self, source: &Path) -> Result<Option<Vec<PathBuf>>, Stop> {
        let mut private = Vec::new();
        let mut waiting = vec![PathBuf::new()];
        while let Some(directory) = waiting.pop() {
            if Instant::now() >= self.until {
                return Err(Stop::Time);
            }
            let Some(below) = self.entries(&source.join(&directory), &directory, &mut private)? else {
                if directory.as_os_str().is_empty() {
                    return Ok(None);
                }
                private.push(directory);
                continue;
            };
            waiting.extend(below);
        }
        Ok(Some(private))
    }

    /// The subdirectories that every user may enter; `None` if the directory can't be read.
    fn entries(
        &mut self,
        here: &Path,
        name: &Path,
        private: &mut Vec<PathBuf>,
    ) -> Result<Option<Vec<PathBuf>>, Stop> {
        let Ok(read) = fs::read_dir(here) else { return Ok(None) };
        let mut below = Vec::new();
        for entry in read {
            self.left = self.left.checked_sub(1).ok_or(Stop::Entries)?;
            let Ok(entry) = entry else { return Ok(None) };
            let Ok(kind) = entry.file_type() else { return Ok(None) };
            // A link is only text. Other kinds of files can't be opened through gVisor.
            if !kind.is_file() && !kind.is_dir() {
                continue;
            }
            match entry.metadata() {
                Ok(there) if !is_public(&there) => private.push(name.join(entry.file_name())),
                Ok(there) if there.is_dir() => below.push(name.join(entry.file_name())),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => private.push(name.join(entry.file_name())),
            }
        }
        Ok(Some(below))
    }

    /// Adds a link `python` on the search path where there is only a `python3`, as on Debian. For that, a directory with few
    /// programs is composed anew.
    fn python(&mut self) {
        let find = |name: &str| SEARCH_PATH.iter().find(|place| self.base.join(place).join(name).exists());
        let (None, Some(python3)) = (find("python"), find("python3")) else { return };
        let target = Path::new("/").join(python3).join("python3");
        for place in ["usr/local/sbin", "usr/local/bin"] {
            let path = Path::new("/").join(place);
            let Some(mut composed) = compose(&self.base.join(place), &path) else { continue };
            self.view.shown.retain(|shown| shown.path() != path);
            self.view.left_out.retain(|(left_out, _)| *left_out != path);
            composed.push(Shown::Link { path: path.join("python"), target });
            self.view.shown.push(Shown::Directory { path });
            self.view.shown.append(&mut composed);
            return;
        }
    }
}

/// The real path of a file or directory of /etc that may be shown. `None` if a link leads out of the host's public
/// directories.
pub(super) fn public_etc(base: &Path, name: &str) -> Option<PathBuf> {
    let source = base.join("etc").join(name).canonicalize().ok()?;
    let public = ["usr", "etc"]
        .iter()
        .any(|top| base.join(top).canonicalize().is_ok_and(|top| source.starts_with(top)));
    (public && (source.is_dir() || source.is_file())).then_some(source)
}

/// The entries of a directory with few files and links. A missing directory has none.
fn compose(here: &Path, path: &Path) -> Option<Vec<Shown>> {
    match fs::symlink_metadata(here) {
        Ok(there) if !there.is_dir() || !is_public(&there) => return None,
        Ok(_) => {}
        Err(_) => return Some(Vec::new()),
    }
    let here = here.canonicalize().ok()?;
    let mut all = Vec::new();
    for entry in fs::read_dir(&here).ok()?.take(MAX_COMPOSED + 1) {
        let entry = entry.ok()?;
        let (source, path) = (entry.path(), path.join(entry.file_name()));
        let there = entry.metadata().ok()?;
        if there.is_symlink() {
            all.push(Shown::Link { path, target: fs::read_link(source).ok()? });
        } else if !there.is_file() {
            return None;
        } else if is_public(&there) {
            all.push(Shown::File { path, source });
        }
    }
    (all.len() <= MAX_COMPOSED).then_some(all)
}

/// At most `most` paths that cover all private entries. If there are more, the directories with the most of them are
/// covered whole, then the deepest ones. `None` if that would cover everything.
fn gather(private: Vec<PathBuf>, most: usize) -> Option<Vec<PathBuf>> {
    let mut covers: BTreeSet<PathBuf> = private.into_iter().collect();
    if covers.len() > most {
        let mut crowds: BTreeMap<&Path, usize> = BTreeMap::new();
        for above in covers.iter().filter_map(|path| path.parent()) {
            if !above.as_os_str().is_empty() {
                *crowds.entry(above).or_default() += 1;
            }
        }
        let mut crowds: Vec<(usize, PathBuf)> =
            crowds.into_iter().map(|(path, count)| (count, path.to_owned())).collect();
        crowds.sort_unstable();
        let mut count = covers.len();
        while let Some((many, directory)) = crowds.pop().filter(|(many, _)| count > most && *many > 1) {
            count = count + 1 - many;
            covers.insert(directory);
        }
        covers = outermost(covers);
    }
    let deepest = covers.iter().map(|path| path.components().count()).max().unwrap_or(0);
    for depth in (1..deepest).rev() {
        if covers.len() <= most {
            break;
        }
        let cut = |path: PathBuf| path.components().take(depth).collect();
        covers = outermost(covers.into_iter().map(cut).collect());
    }
    (covers.len() <= most).then(|| covers.into_iter().collect())
}

/// The paths that are not inside another one.
fn outermost(paths: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let inside =
        |path: &Path| path.ancestors().skip(1).any(|above| paths.contains(above) && above != Path::new(""));
    paths.iter().filter(|path| !inside(path)).cloned().collect()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
