//! The caller's directory as the root file system.
//!
//! The directory is never written, and nothing outside it can be reached: its top-level entries are bound one by one onto
//! a root of the library's, which also holds init, and links are only text. The entries of /etc are bound one by one, too,
//! because three of its files are replaced (as docker does): the directory's own `hosts`, `hostname` and `resolv.conf`
//! are left out, whether links or files, and the sandbox gets its own.
//!
//! A link in the place of /proc, /dev, /sys, /tmp, /etc or /.sbx is refused: mounts would go where it points
//! (like runc's CVE-2026-41579). Sockets, FIFOs and devices at these two levels are left out; further down gVisor refuses
//! them.

use std::fs::{self, DirEntry, FileType};
use std::io;
use std::path::{Path, PathBuf};

use super::host::MOUNTED;
use super::{Entry, MAX_ENTRIES, Names, OURS, Plan, etc};
use crate::error::{Code, Error, Result};

/// The plan for a root file system directory, which must be named by an absolute path.
pub(super) fn user(directory: &Path, names: &Names<'_>) -> Result<Vec<Entry>> {
    if !directory.is_absolute() {
        return Err(Error::invalid(format!(
            "root file system {}: must be an absolute path",
            directory.display()
        )));
    }
    let base = directory.canonicalize().map_err(|cause| unreadable(directory, &cause))?;
    if base == Path::new("/") {
        return Err(Error::invalid(
            "root file system /: this would show the sandbox everything of the host's; without a root file \
             system it gets the host's programs only",
        ));
    }
    let mut plan = Plan::default();
    plan.dir(OURS, 0o755);
    for (path, mode) in MOUNTED {
        check_place(&base, path)?;
        plan.dir(*path, *mode);
    }
    check_place(&base, "/etc")?;
    if fs::symlink_metadata(base.join(&OURS[1..])).is_ok() {
        return Err(Error::invalid(format!(
            "root file system {}: {OURS} is the sandbox's own",
            base.display()
        )));
    }
    for entry in entries(&base)? {
        let path = Path::new("/").join(entry.file_name());
        if !plan.has(&path) && path != Path::new("/etc") {
            take(&entry, path, &mut plan)?;
        }
    }
    plan.dir("/etc", 0o755);
    names.identity(&mut plan);
    let own = base.join("etc");
    if own.is_dir() {
        for entry in entries(&own)? {
            let path = Path::new("/etc").join(entry.file_name());
            if !etc::IDENTITY.iter().any(|name| path == Path::new("/etc").join(name)) {
                take(&entry, path, &mut plan)?;
            }
        }
    } else {
        etc::accounts(&mut plan);
    }
    plan.finish()
}

/// A path for a mount or for files of the library must be a directory, or missing.
fn check_place(base: &Path, place: &str) -> Result<()> {
    let here = base.join(place.trim_start_matches('/'));
    let kind = match fs::symlink_metadata(&here) {
        Ok(metadata) => metadata.file_type(),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(unreadable(&here, &cause)),
    };
    if kind.is_dir() {
        return Ok(());
    }
    let what = if kind.is_symlink() { "a symbolic link" } else { "not a directory" };
    Err(Error::invalid(format!(
        "root file system {}: {place} is {what}; it must be a directory, or absent",
        base.display()
    )))
}

fn take(entry: &DirEntry, path: PathBuf, plan: &mut Plan) -> Result<()> {
    let source = entry.path();
    let kind: FileType = entry.file_type().map_err(|cause| unreadable(&source, &cause))?;
    if kind.is_symlink() {
        plan.symlink(path, fs::read_link(&source).map_err(|cause| unreadable(&source, &cause))?);
    } else if kind.is_dir() || kind.is_file() {
        plan.bind(source, path);
    }
    Ok(())
}

/// Sorted by name, so that a plan depends only on the directory.
fn entries(directory: &Path) -> Result<Vec<DirEntry>> {
    let read = fs::read_dir(directory).map_err(|cause| unreadable(directory, &cause))?;
    let mut entries = Vec::new();
    for entry in read {
        entries.push(entry.map_err(|cause| unreadable(directory, &cause))?);
        if entries.len() > MAX_ENTRIES {
            let shown = directory.display();
            return Err(Error::new(Code::Limit, format!("{shown} has more than {MAX_ENTRIES} entries")));
        }
    }
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}

fn unreadable(path: &Path, cause: &io::Error) -> Error {
    let code = match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Code::Invalid,
        _ => Code::System,
    };
    Error::system(format!("root file system: {}", path.display()), cause).with_code(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runsc::fake::Directory;
    use crate::runsc::rootfs::assert_closed;
    use std::os::unix::fs::symlink;

    const NAMES: Names<'_> = Names { hostname: "box", network: true };

    fn find<'a>(plan: &'a [Entry], path: &str) -> Option<&'a Entry> {
        plan.iter().find(|entry| entry.path() == Path::new(path))
    }

    fn image() -> Directory {
        let directory = Directory::new();
        for path in ["usr/bin", "etc/ssl", "proc", "dev", "var/data"] {
            fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        directory.file("etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644);
        symlink("usr/bin", directory.path().join("bin")).unwrap();
        symlink("../run/resolve/stub.conf", directory.path().join("etc/resolv.conf")).unwrap();
        directory
    }

    #[track_caller]
    fn refused(directory: &Path, with: &str) {
        let error = user(directory, &NAMES).unwrap_err();
        assert_eq!(error.code(), Code::Invalid, "{error}");
        assert!(error.message().contains(with), "{error} lacks {with:?}");
    }

    #[test]
    fn everything_is_bound_read_only_and_links_are_remade() {
        let image = image();
        let plan = user(image.path(), &NAMES).unwrap();
        assert_closed(&plan);
        assert_eq!(
            find(&plan, "/bin"),
            Some(&Entry::Symlink { path: "/bin".into(), target: "usr/bin".into() })
        );
        for path in ["/usr", "/var", "/etc/passwd", "/etc/ssl"] {
            assert!(matches!(find(&plan, path), Some(Entry::Bind { writable: false, .. })), "{path}");
        }
        assert!(matches!(find(&plan, "/proc"), Some(Entry::Dir { .. })));
    }

    #[test]
    fn name_and_resolver_are_the_sandboxes_own_and_links_there_are_not_followed() {
        let image = image();
        let outside = image.file("outside", b"untouched", 0o644);
        symlink(&outside, image.path().join("etc/hosts")).unwrap();
        let plan = user(image.path(), &NAMES).unwrap();
        for path in ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"] {
            assert!(matches!(find(&plan, path), Some(Entry::File { .. })), "{path}");
        }
        assert_closed(&plan);
        assert_eq!(fs::read(outside).unwrap(), b"untouched");
    }

    #[test]
    fn links_where_something_is_mounted_are_refused() {
        for place in ["proc", "dev", "sys", "tmp", "etc"] {
            let image = image();
            let here = image.path().join(place);
            let _ = fs::remove_dir_all(&here);
            symlink("/root", &here).unwrap();
            refused(image.path(), &format!("/{place} is a symbolic link"));
            fs::remove_file(&here).unwrap();
            image.file(place, b"", 0o644);
            refused(image.path(), &format!("/{place} is not a directory"));
        }
    }

    #[test]
    fn our_own_place_is_not_the_callers() {
        let image = image();
        symlink("/", image.path().join(".sbx")).unwrap();
        refused(image.path(), "/.sbx");
    }

    #[test]
    fn an_empty_directory_gets_what_a_program_needs() {
        let image = Directory::new();
        let plan = user(image.path(), &NAMES).unwrap();
        assert_closed(&plan);
        assert!(find(&plan, "/etc/passwd").is_some());
    }

    #[test]
    fn special_files_are_left_out() {
        let image = image();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        nix::unistd::mkfifo(&image.path().join("fifo"), mode).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(image.path().join("socket")).unwrap();
        let plan = user(image.path(), &NAMES).unwrap();
        assert!(find(&plan, "/fifo").is_none() && find(&plan, "/socket").is_none());
    }

    #[test]
    fn impossible_directories() {
        refused(Path::new("image"), "absolute");
        refused(Path::new("/"), "everything");
        let image = image();
        refused(&image.path().join("absent"), "absent");
        refused(&image.path().join("etc/passwd"), "passwd");
    }
}
