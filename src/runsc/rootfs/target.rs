//! The destinations of the caller's mounts. gVisor creates missing directories, but can't in the host's, which are
//! read-only, and reports only an end-of-file. So the destination is checked before.

use std::fs;
use std::path::{Path, PathBuf};

use super::Entry;
use crate::error::{Error, Result};

/// The most links of the plan in the path of a destination.
const MAX_LINKS: usize = 8;

/// Refuses a destination in a part of the host (or of a given directory) where nothing of its kind exists to mount on.
pub(crate) fn check_mount(entries: &[Entry], source: &Path, destination: &Path) -> Result<()> {
    let mut path = destination.to_owned();
    for _ in 0..MAX_LINKS {
        let Some((entry, rest)) = entries.iter().find_map(|entry| match entry {
            Entry::Bind { path: at, .. } | Entry::Symlink { path: at, .. } => {
                path.strip_prefix(at).ok().map(|rest| (entry, rest.to_owned()))
            }
            Entry::Dir { .. } | Entry::File { .. } | Entry::Cover { .. } => None,
        }) else {
            return Ok(());
        };
        match entry {
            Entry::Symlink { path: at, target } => path = at.parent().unwrap_or(at).join(target).join(rest),
            Entry::Bind { source: bound, path: at, .. } => {
                let there = if rest.as_os_str().is_empty() { bound.clone() } else { bound.join(&rest) };
                return fits(source, &there).ok_or_else(|| refuse(destination, at, source));
            }
            Entry::Dir { .. } | Entry::File { .. } | Entry::Cover { .. } => return Ok(()),
        }
    }
    Ok(())
}

fn fits(source: &Path, there: &PathBuf) -> Option<()> {
    let (source, there) = (fs::metadata(source).ok()?, fs::metadata(there).ok()?);
    (source.is_dir() == there.is_dir()).then_some(())
}

fn refuse(destination: &Path, at: &Path, source: &Path) -> Error {
    let kind = if source.is_dir() { "directory" } else { "file" };
    Error::invalid(format!(
        "mount destination {destination:?}: {at:?} is read-only and has no {kind} of that name to mount on; mount \
         somewhere else, or make it there first",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_must_have_the_place_already() {
        let bind = |path: &str, source: &str| Entry::Bind {
            source: source.into(),
            path: path.into(),
            writable: false,
            recursive: true,
        };
        let link = Entry::Symlink { path: "/bin".into(), target: "usr/bin".into() };
        let entries = [bind("/usr", "/usr"), link, Entry::Dir { path: "/var".into(), mode: 0o755 }];
        let check = |source: &str, to: &str| check_mount(&entries, Path::new(source), Path::new(to));
        for (source, to) in [
            ("/tmp", "/data/new"),
            ("/tmp", "/var/new"),
            ("/tmp", "/usr/bin"),
            ("/etc/passwd", "/bin/env"),
            ("/tmp", "/usr"),
            ("/tmp", "/usrlocal"),
        ] {
            check(source, to).unwrap();
        }
        for (source, to) in [("/tmp", "/usr/no/such"), ("/etc/passwd", "/bin/no-such"), ("/tmp", "/bin/env")]
        {
            let error = check(source, to).unwrap_err();
            assert!(error.message().contains(to), "{error}");
        }
    }
}
