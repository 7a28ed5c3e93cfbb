//! Finds runsc: the one that is named, else the first usable one in `PATH` and the well-known places.
//!
//! If the host or `SBX_RUNSC` names one that can't be used, that is an error; no other is tried.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::probe::{self, Candidate, INSTALL, Identity, Runsc};
use crate::error::{Code, Error, Result};

/// Where to look for runsc after `PATH`, which is often short in services.
pub(crate) const WELL_KNOWN: &[&str] = &[
    "/usr/local/bin/runsc",
    "/usr/bin/runsc",
    "/usr/local/sbin/runsc",
    "/usr/sbin/runsc",
    "/opt/gvisor/bin/runsc",
    "/opt/bin/runsc",
];

/// Where to look. The environment is read once, when the runtime is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Search {
    /// The path that the host has set.
    pub(crate) explicit: Option<PathBuf>,
    /// The value of `SBX_RUNSC`; an empty one counts as unset.
    pub(crate) variable: Option<OsString>,
    /// The value of `PATH`; relative entries are left out, as they would depend on the working directory.
    pub(crate) path: Option<OsString>,
}

/// Finds runsc and caches the result of its probe while the file stays the same.
#[derive(Debug)]
pub(crate) struct Locator {
    search: Search,
    /// Empty in tests that must not find an installed runsc.
    well_known: &'static [&'static str],
    last: Mutex<Last>,
}

/// The result of a probe.
#[derive(Debug, Default)]
struct Last {
    good: Option<Arc<Runsc>>,
    bad: Option<Refused>,
}

/// A file that can't be used.
#[derive(Debug)]
struct Refused {
    path: PathBuf,
    identity: Identity,
    error: Error,
    at: Instant,
}

impl Locator {
    pub(crate) fn new(search: Search) -> Self {
        Self { search, well_known: WELL_KNOWN, last: Mutex::default() }
    }

    /// The runsc to use now. Cheap when it has not changed since the last call; a replaced one is probed again.
    pub(crate) fn locate(&self) -> Result<Arc<Runsc>> {
        if let Some((path, source)) = self.named() {
            return self.probe(path, source);
        }
        let mut looked = Vec::new();
        let mut first_failure: Option<Error> = None;
        for path in self.places() {
            match self.probe(&path, "") {
                Ok(runsc) => return Ok(runsc),
                Err(error) if error.code() == Code::RunscMissing => looked.push(path.display().to_string()),
                Err(error) => {
                    first_failure.get_or_insert(error);
                }
            }
        }
        Err(first_failure.unwrap_or_else(|| missing(&looked)))
    }

    fn named(&self) -> Option<(&Path, &'static str)> {
        let explicit =
            self.search.explicit.as_deref().map(|path| (path, "the runsc of the runtime's configuration"));
        let variable = self.search.variable.as_deref().filter(|value| !value.is_empty());
        explicit.or_else(|| variable.map(|value| (Path::new(value), "the runsc that SBX_RUNSC names")))
    }

    fn places(&self) -> Vec<PathBuf> {
        let path = self.search.path.as_deref().unwrap_or(OsStr::new(""));
        let entries = std::env::split_paths(path).filter(|entry| entry.is_absolute());
        let mut places: Vec<PathBuf> = Vec::new();
        for place in entries.map(|entry| entry.join("runsc")).chain(self.well_known.iter().map(PathBuf::from))
        {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }

    fn probe(&self, path: &Path, source: &str) -> Result<Arc<Runsc>> {
        let describe = |error: Error| if source.is_empty() { error } else { error.context(source) };
        let candidate = Candidate::open(path).map_err(describe)?;
        let (asked, identity) = (Instant::now(), candidate.identity());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = last.good.as_ref().filter(|known| known.is(&candidate)) {
            return Ok(Arc::clone(known));
        }
        // After waiting for another thread's probe of the same file, don't probe it again: one that hangs, hangs for long.
        let same = |bad: &&Refused| bad.at >= asked && bad.identity == identity && bad.path == path;
        if let Some(bad) = last.bad.as_ref().filter(same) {
            return Err(describe(bad.error.clone()));
        }
        match probe::probe(candidate) {
            Ok(runsc) => {
                let runsc = Arc::new(runsc);
                last.good = Some(Arc::clone(&runsc));
                Ok(runsc)
            }
            Err(error) => {
                let (path, at) = (path.to_owned(), Instant::now());
                last.bad = Some(Refused { path, identity, error: error.clone(), at });
                Err(describe(error))
            }
        }
    }
}

fn missing(looked: &[String]) -> Error {
    let looked = if looked.is_empty() { "nowhere".to_owned() } else { looked.join(", ") };
    Error::new(
        Code::RunscMissing,
        format!(
            "runsc (gVisor) was not found; looked at: {looked}. Install it ({INSTALL}), or name it in the \
             runtime's configuration or in SBX_RUNSC"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runsc::fake::{Directory, real};

    fn named(path: &Path) -> Locator {
        Locator::new(Search { explicit: Some(path.to_owned()), ..Search::default() })
    }

    fn in_path(directories: &[&Path]) -> Locator {
        let path = std::env::join_paths(directories).unwrap();
        let search = Search { path: Some(path), ..Search::default() };
        Locator { well_known: &[], ..Locator::new(search) }
    }

    #[track_caller]
    fn fails(locator: &Locator, code: Code, with: &str) {
        let error = locator.locate().unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(with), "{error} lacks {with:?}");
    }

    #[test]
    fn missing_says_where_it_looked_and_where_to_get_it() {
        let directory = Directory::new();
        let locator = in_path(&[directory.path(), Path::new("relative/bin")]);
        fails(&locator, Code::RunscMissing, INSTALL);
        fails(&locator, Code::RunscMissing, &directory.path().join("runsc").display().to_string());
        assert!(!locator.locate().unwrap_err().message().contains("relative/bin"));
    }

    #[test]
    fn a_named_one_is_never_skipped() {
        let directory = Directory::new();
        directory.good();
        let absent = directory.path().join("absent");
        let mut search = Search { path: Some(directory.path().into()), ..Search::default() };
        search.explicit = Some(absent.clone());
        fails(&Locator::new(search.clone()), Code::RunscMissing, "runtime's configuration");
        search.explicit = None;
        search.variable = Some(absent.into());
        fails(&Locator::new(search.clone()), Code::RunscMissing, "SBX_RUNSC");
        search.variable = Some(OsString::new());
        Locator::new(search).locate().unwrap();
    }

    #[test]
    fn one_that_works_further_on_in_path_is_taken() {
        let (bad, good) = (Directory::new(), Directory::new());
        bad.script("runsc", "echo something else");
        good.good();
        let runsc = in_path(&[bad.path(), good.path()]).locate().unwrap();
        assert_eq!(runsc.path(), good.path().join("runsc"));
        fails(&in_path(&[bad.path()]), Code::RunscUnusable, "not runsc");
    }

    #[test]
    fn a_directory() {
        let directory = Directory::new();
        fails(&named(directory.path()), Code::RunscUnusable, "directory");
    }

    #[test]
    fn a_relative_path() {
        fails(&named(Path::new("bin/runsc")), Code::Invalid, "absolute");
    }

    #[test]
    fn not_executable() {
        let directory = Directory::new();
        let path = directory.good();
        directory.mode("runsc", 0o644);
        fails(&named(&path), Code::RunscUnusable, "executable");
    }

    #[test]
    fn a_file_the_kernel_cannot_run() {
        let directory = Directory::new();
        let path = directory.file("runsc", b"\x7fELF, but not really", 0o755);
        fails(&named(&path), Code::RunscUnusable, "can't be executed");
    }

    #[test]
    fn a_fifo_does_not_hang_the_search() {
        let directory = Directory::new();
        let path = directory.path().join("runsc");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o755)).unwrap();
        fails(&named(&path), Code::RunscUnusable, "regular file");
    }

    #[test]
    fn another_program_that_fails_or_ends_early() {
        let directory = Directory::new();
        for script in ["exit 0", "exit 1", "echo hello", "kill -9 $$", "echo '  -root x'; exit 0"] {
            let path = directory.script("runsc", script);
            fails(&named(&path), Code::RunscUnusable, "not runsc");
        }
    }

    #[test]
    fn one_that_prints_without_end_is_cut_off() {
        let directory = Directory::new();
        let path = directory.script("runsc", "exec yes");
        fails(&named(&path), Code::RunscUnusable, "printed more than");
    }

    #[test]
    fn a_replaced_one_is_probed_again_and_an_unchanged_one_is_not() {
        let directory = Directory::new();
        let path = directory.good();
        let locator = named(&path);
        let first = locator.locate().unwrap();
        assert!(Arc::ptr_eq(&first, &locator.locate().unwrap()));
        directory.script("new", "exit 1");
        std::fs::rename(directory.path().join("new"), &path).unwrap();
        fails(&locator, Code::RunscUnusable, "not runsc");
        let again = directory.good();
        let second = locator.locate().unwrap();
        assert_eq!(second.path(), again);
        assert!(!Arc::ptr_eq(&first, &second));
        // What was found first still refers to the file it was, not to what the path says now.
        assert_ne!(first.identity(), second.identity());
    }

    #[test]
    fn those_who_wait_for_one_that_fails_do_not_ask_it_again() {
        let directory = Directory::new();
        let note = directory.path().join("note");
        let path = directory.script("runsc", &format!("echo \"$*\" >> {}; sleep 1", note.display()));
        let locator = named(&path);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| fails(&locator, Code::RunscUnusable, "not runsc"));
            }
        });
        assert_eq!(std::fs::read_to_string(&note).unwrap().lines().count(), 2);
        // Who comes later does.
        fails(&locator, Code::RunscUnusable, "not runsc");
        assert_eq!(std::fs::read_to_string(&note).unwrap().lines().count(), 4);
    }

    #[test]
    #[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
    fn the_real_one() {
        let path = real();
        let runsc = named(&path).locate().unwrap();
        assert!(!runsc.version().is_empty());
        assert_eq!(runsc.path(), path);
    }
}
