//! What of the host the default root file system shows: programs, not data.
//!
//! Listed directories only, and nothing below them that "other" can't read or enter: a file of mode 0600 and a
//! directory of mode 0700 are covered, whoever runs the library. For that the directories are looked through, once a
//! process and again when one of the listed ones has changed; what changes further down in between is not seen.
//! [`Bounds`] holds it: a directory that is too much for them is left out, with all that is below it; where there was no
//! time for it, for a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Links into /usr on most systems, directories on others.
pub(super) const TOP: &[&str] = &["bin", "lib", "lib32", "lib64", "libx32", "sbin"];

/// Of /usr and /usr/local: what programs are made of. Not `src` and `etc`, where applications and settings lie.
const PARTS: &[&str] =
    &["bin", "games", "include", "lib", "lib32", "lib64", "libexec", "libx32", "sbin", "share"];

/// Of /usr/local only: a toolchain that its makers put there.
const LOCAL: &[&str] = &["go"];

/// What of /etc programs need and everybody may know: for the linker, for TLS, for names of ports, for those who draw
/// text, and for who adds users. Fedora keeps its certificates below pki; its private keys in pki/tls/private are not
/// among these.
const ETC: &[&str] = &[
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

/// Where programs are looked for, in their order.
const SEARCHED: &[&str] = &["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"];

/// The most entries of a directory that is put together entry by entry.
const COMPOSED: usize = 64;

/// A directory that changed so shortly before it was looked at may have changed again without another time: what file
/// systems note moves in steps.
const STEP: Duration = Duration::from_millis(50);

/// How long a look is good that ran out of time: the next may find a quicker machine, and takes as long if it doesn't.
const CUT_SHORT: Duration = Duration::from_secs(60);

/// How much may be looked at, and covered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Entries of directories, of all together.
    entries: usize,
    /// How long it may take.
    time: Duration,
    /// What is covered of one listed directory; each is a mount. If there is more, directories are covered whole.
    covers: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { entries: 2_000_000, time: Duration::from_secs(30), covers: 128 }
    }
}

/// One thing that is shown. Paths begin with "/" and are as the sandbox sees them; sources have no links in them.
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
    /// A directory with what is below it, but for what is covered: paths in it.
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

/// What is shown of a host.
#[derive(Debug)]
pub(super) struct View {
    /// What was there when it was looked at.
    stamps: Vec<(PathBuf, Option<Stamp>)>,
    /// Whether the last of their changes was long enough before.
    is_settled: bool,
    pub(super) shown: Vec<Shown>,
    /// Listed directories that are not shown, and why.
    pub(super) left_out: Vec<(PathBuf, String)>,
    /// When it ended, if there was no time for all of it.
    cut_short: Option<Instant>,
}

/// By which a change is noticed.
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

    /// Whether it may have changed in the very step of time that is now. (One of the future has another clock.)
    fn is_fresh(&self, now: Duration) -> bool {
        let (seconds, rest) = self.changed;
        let at = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(rest).unwrap_or(0));
        (now.saturating_sub(STEP)..=now.saturating_add(STEP)).contains(&at)
    }
}

/// The last look at this host, for all runtimes. Who looks holds it, so that there is one look at a time.
static LAST: Mutex<Option<Arc<View>>> = Mutex::new(None);

impl View {
    /// Of this host as it is now. May hang where the host's file systems do, and takes some tenths of a second where
    /// much is installed and it wasn't looked at before.
    pub(super) fn current() -> Arc<Self> {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = last.as_ref().filter(|view| view.is_current()) {
            return Arc::clone(view);
        }
        let begin = Instant::now();
        let view = Arc::new(Self::look(Path::new("/"), Bounds::default()));
        view.log(begin.elapsed());
        *last = Some(Arc::clone(&view));
        view
    }

    /// Whether this host wasn't looked at yet. Waits for nobody.
    pub(super) fn is_first() -> bool {
        LAST.try_lock().is_ok_and(|last| last.is_none())
    }

    /// Of the host that is below `base`.
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
        let mut looking = Looking {
            base: base.canonicalize().unwrap_or_else(|_| base.to_owned()),
            left: bounds.entries,
            until: Instant::now() + bounds.time,
            covers: bounds.covers,
            ran_out: false,
            view: Self { stamps, is_settled, shown: Vec::new(), left_out: Vec::new(), cut_short: None },
        };
        for name in TOP {
            looking.programs(name);
        }
        // What is large comes last: if there is no time left, it is what programs can do without.
        let (last, first): (Vec<&str>, Vec<&str>) =
            PARTS.iter().partition(|part| matches!(**part, "include" | "share"));
        for part in first.into_iter().chain(last) {
            looking.programs(&format!("usr/{part}"));
            looking.programs(&format!("usr/local/{part}"));
        }
        for name in LOCAL {
            looking.programs(&format!("usr/local/{name}"));
        }
        for name in ETC {
            looking.of_etc(name);
        }
        looking.python();
        if looking.ran_out {
            looking.view.cut_short = Some(Instant::now());
        }
        looking.view
    }

    fn is_current(&self) -> bool {
        self.is_current_at(Instant::now())
    }

    fn is_current_at(&self, now: Instant) -> bool {
        self.is_settled
            && self.cut_short.is_none_or(|ended| now.saturating_duration_since(ended) < CUT_SHORT)
            && self.stamps.iter().all(|(path, stamp)| Stamp::of(path) == *stamp)
    }

    fn log(&self, time: Duration) {
        let covered = self.shown.iter().map(|shown| match shown {
            Shown::Tree { covers, .. } => covers.len(),
            _ => 0,
        });
        let covered: usize = covered.sum();
        log::info!(
            "the host's programs were looked through in {time:?}: {covered} private entries are covered"
        );
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
    let usr = below("usr/", PARTS).chain(below("usr/local/", PARTS)).chain(below("usr/local/", LOCAL));
    below("", TOP).chain(usr).chain(below("etc/", ETC))
}

/// Whether everybody may read it, and enter it if it is a directory.
fn is_public(there: &Metadata) -> bool {
    let needed = if there.is_dir() { 0o5 } else { 0o4 };
    there.mode() & needed == needed
}

/// Why a directory isn't looked through to its end.
enum Stop {
    Entries,
    Time,
}

struct Looking {
    base: PathBuf,
    left: usize,
    until: Instant,
    covers: usize,
    /// Whether there was no time for something.
    ran_out: bool,
    view: View,
}

impl Looking {
    /// A directory of programs, or a link in its place.
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

    /// One thing of /etc, if it is there, with the links on the way to it resolved now and not by the keeper.
    fn of_etc(&mut self, name: &str) {
        if let Some(source) = public_etc(&self.base, name) {
            self.show(source, Path::new("/etc").join(name));
        }
    }

    /// A file, or a directory without what is private in it.
    fn show(&mut self, source: PathBuf, path: PathBuf) {
        let Ok(there) = fs::symlink_metadata(&source) else { return };
        let within = source.ancestors().take_while(|above| *above != self.base && above.parent().is_some());
        let enterable =
            |above: &Path| fs::symlink_metadata(above).is_ok_and(|above| above.mode() & 0o1 == 0o1);
        if !is_public(&there) || !within.skip(1).all(enterable) {
            self.view.left_out.push((path, "not everybody may read it".to_owned()));
            return;
        }
        if there.is_file() {
            self.view.shown.push(Shown::File { path, source });
            return;
        }
        let why = match self.look_through(&source) {
            Ok(Some(private)) => match gather(private, self.covers) {
                Some(covers) => {
                    self.view.shown.push(Shown::Tree { path, source, covers });
                    return;
                }
                None => format!("more than {} directories in it have private entries", self.covers),
            },
            Ok(None) => "it can't be read".to_owned(),
            Err(Stop::Entries) => "it has too many entries to be looked through".to_owned(),
            Err(Stop::Time) => {
                self.ran_out = true;
                "it could not be looked through in time".to_owned()
            }
        };
        self.view.left_out.push((path, why));
    }

    /// What is private in a directory and those below it; `None` if itself can't be read.
    fn look_through(&mut self, source: &Path) -> Result<Option<Vec<PathBuf>>, Stop> {
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

    /// The directories in a directory that everybody may enter; `None` if it can't be read.
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
            // A link is text. What is neither file nor directory can't be opened through gVisor.
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

    /// A link `python` on the way of those who look for it, where there is only a `python3`, as on Debian. It takes a
    /// directory of few programs, which is put together anew.
    fn python(&mut self) {
        let find = |name: &str| SEARCHED.iter().find(|place| self.base.join(place).join(name).exists());
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

/// The real path of something in /etc that may be shown: a link to elsewhere than the public parts of the host would
/// show something else.
pub(super) fn public_etc(base: &Path, name: &str) -> Option<PathBuf> {
    let source = base.join("etc").join(name).canonicalize().ok()?;
    let public = ["usr", "etc"]
        .iter()
        .any(|top| base.join(top).canonicalize().is_ok_and(|top| source.starts_with(top)));
    (public && (source.is_dir() || source.is_file())).then_some(source)
}

/// The entries of a directory of few files and links, one by one. One that isn't there has none.
fn compose(here: &Path, path: &Path) -> Option<Vec<Shown>> {
    match fs::symlink_metadata(here) {
        Ok(there) if !there.is_dir() || !is_public(&there) => return None,
        Ok(_) => {}
        Err(_) => return Some(Vec::new()),
    }
    let here = here.canonicalize().ok()?;
    let mut all = Vec::new();
    for entry in fs::read_dir(&here).ok()?.take(COMPOSED + 1) {
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
    (all.len() <= COMPOSED).then_some(all)
}

/// At most so many paths that cover all of these: where there are more, the directories with the most of them are
/// covered whole, then whatever lies deep. `None` if nothing less than all would do.
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

/// Without those that lie in another.
fn outermost(paths: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let inside =
        |path: &Path| path.ancestors().skip(1).any(|above| paths.contains(above) && above != Path::new(""));
    paths.iter().filter(|path| !inside(path)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runsc::fake::Directory;
    use std::os::unix::fs::symlink;

    fn host() -> Directory {
        let host = Directory::new();
        for path in [
            "usr/bin",
            "usr/lib/deep/er",
            "usr/share/doc",
            "usr/src/app",
            "usr/local/bin",
            "usr/local/etc",
            "usr/local/share",
            "etc/pki/tls/certs",
            "etc/ssl/private",
        ] {
            fs::create_dir_all(host.path().join(path)).unwrap();
        }
        host.file("usr/bin/sh", b"", 0o755);
        host.file("usr/share/doc/read", b"", 0o644);
        symlink("usr/bin", host.path().join("bin")).unwrap();
        host
    }

    fn look(host: &Directory) -> View {
        View::look(host.path(), Bounds::default())
    }

    fn covers<'a>(view: &'a View, at: &str) -> Vec<&'a str> {
        let of = |shown: &'a Shown| match shown {
            Shown::Tree { path, covers, .. } if path == Path::new(at) => Some(covers),
            _ => None,
        };
        view.shown.iter().find_map(of).unwrap().iter().map(|path| path.to_str().unwrap()).collect()
    }

    fn shows(view: &View, at: &str) -> bool {
        view.shown.iter().any(|shown| shown.path() == Path::new(at))
    }

    #[test]
    fn listed_directories_only() {
        let view = look(&host());
        for path in ["/usr/bin", "/usr/lib", "/usr/share", "/usr/local/bin", "/etc/pki/tls/certs", "/bin"] {
            assert!(shows(&view, path), "{path} in {view:?}");
        }
        let stranger = |path: &Path| {
            ["/usr/src", "/usr/local/etc", "/etc/ssl"].iter().any(|other| path.starts_with(other))
        };
        assert!(!view.shown.iter().any(|shown| stranger(shown.path())), "{view:?}");
        assert!(view.shown.iter().all(|shown| match shown {
            Shown::Tree { covers, .. } => covers.is_empty(),
            _ => true,
        }));
    }

    #[test]
    fn what_not_everybody_may_read_or_enter_is_covered() {
        let host = host();
        host.file("usr/share/secret", b"", 0o600);
        host.file("usr/share/doc/group", b"", 0o640);
        host.file("etc/pki/tls/certs/key.pem", b"", 0o600);
        host.mode("usr/lib/deep/er", 0o700);
        host.mode("usr/local/share", 0o711);
        let view = look(&host);
        assert_eq!(covers(&view, "/usr/share"), ["doc/group", "secret"]);
        assert_eq!(covers(&view, "/usr/lib"), ["deep/er"]);
        assert_eq!(covers(&view, "/etc/pki/tls/certs"), ["key.pem"]);
        assert!(!shows(&view, "/usr/local/share"));
        assert_eq!(view.left_out.len(), 1, "{view:?}");
        // What nobody else can get to isn't shown either, whatever its own mode.
        host.mode("usr/local", 0o750);
        let view = look(&host);
        assert!(shows(&view, "/usr/share") && !shows(&view, "/usr/local/bin"));
        host.mode("usr/lib/deep/er", 0o755);
    }

    /// Looks until what was changed before is long enough ago.
    fn settled(host: &Directory) -> View {
        loop {
            let view = look(host);
            if view.is_settled {
                return view;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_change_of_a_listed_directory_is_seen() {
        let host = host();
        assert!(!look(&host).is_current(), "it was made just now, and may change again in the same moment");
        let view = settled(&host);
        assert!(view.is_current());
        host.file("usr/share/secret", b"", 0o600);
        assert!(!view.is_current());
        let view = settled(&host);
        host.mode("usr/lib", 0o750);
        assert!(!view.is_current());
        let view = settled(&host);
        fs::create_dir(host.path().join("usr/local/go")).unwrap();
        assert!(!view.is_current());
    }

    #[test]
    fn a_clock_that_was_set_back_is_no_reason_to_look_each_time() {
        let stamp = |seconds| Stamp { file: (0, 0), mode: 0, modified: (0, 0), changed: (seconds, 0) };
        let now = Duration::from_secs(1000);
        assert!(stamp(1000).is_fresh(now));
        assert!(!stamp(999).is_fresh(now) && !stamp(2000).is_fresh(now) && !stamp(-1).is_fresh(now));
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let host = host();
        let few = Bounds { entries: 3, ..Bounds::default() };
        let view = View::look(host.path(), few);
        assert!(shows(&view, "/usr/bin") && !shows(&view, "/usr/share"), "{view:?}");
        assert!(
            view.left_out.iter().any(|(path, why)| path == Path::new("/usr/share") && why.contains("many"))
        );
        assert!(view.cut_short.is_none());
        settled(&host);
        let view = View::look(host.path(), Bounds { time: Duration::ZERO, ..Bounds::default() });
        assert!(!shows(&view, "/usr/bin"), "{view:?}");
        let ended = view.cut_short.unwrap();
        assert!(view.is_current_at(ended) && view.is_current_at(ended + CUT_SHORT - STEP));
        assert!(!view.is_current_at(ended + CUT_SHORT), "it is looked at again in a while");
        host.file("usr/share/other", b"", 0o644);
        assert!(!view.is_current_at(ended), "and after a change");
    }

    #[test]
    fn many_private_entries_are_covered_by_their_directories() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let gathered = |names: &[&str], most| gather(paths(names), most);
        let crowd = ["one/a", "one/b", "one/c", "two/a", "top"];
        assert_eq!(gathered(&crowd, 5), Some(paths(&["one/a", "one/b", "one/c", "top", "two/a"])));
        assert_eq!(gathered(&crowd, 3), Some(paths(&["one", "top", "two/a"])));
        assert_eq!(gathered(&["a/b/1", "a/c/2", "d/e/3"], 2), Some(paths(&["a", "d"])));
        assert_eq!(gathered(&["a", "b", "c"], 2), None);
        assert_eq!(gathered(&[], 2), Some(vec![]));
        let nested = ["a/1", "a/2", "a/b/1", "a/b/2", "a/b/3"];
        assert_eq!(gathered(&nested, 3), Some(paths(&["a/1", "a/2", "a/b"])));
        assert_eq!(gathered(&nested, 1), Some(paths(&["a"])));
    }

    #[test]
    fn python_is_a_link_where_there_is_only_python3() {
        let host = host();
        let link = |view: &View, at: &str| {
            view.shown.iter().find_map(|shown| match shown {
                Shown::Link { path, target } if path == Path::new(at) => Some(target.clone()),
                _ => None,
            })
        };
        assert_eq!(link(&look(&host), "/usr/local/sbin/python"), None);
        host.file("usr/bin/python3", b"", 0o755);
        assert_eq!(link(&look(&host), "/usr/local/sbin/python"), Some("/usr/bin/python3".into()));
        // In a directory that is a link on this host, the next one is put together.
        symlink("bin", host.path().join("usr/local/sbin")).unwrap();
        host.file("usr/local/bin/tool", b"", 0o755);
        host.file("usr/local/bin/private", b"", 0o700);
        symlink("tool", host.path().join("usr/local/bin/other")).unwrap();
        let view = look(&host);
        assert_eq!(link(&view, "/usr/local/bin/python"), Some("/usr/bin/python3".into()));
        assert_eq!(link(&view, "/usr/local/bin/other"), Some("tool".into()));
        assert!(shows(&view, "/usr/local/bin/tool") && !shows(&view, "/usr/local/bin/private"));
        host.file("usr/bin/python", b"", 0o755);
        assert_eq!(link(&look(&host), "/usr/local/bin/python"), None);
    }
}
