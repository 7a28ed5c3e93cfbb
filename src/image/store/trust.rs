//! Opens a directory only where no other user can exchange it: the store of images, and that of volumes.
//!
//! What is in the store becomes the programs and files of sandboxes, so that a user who may write there runs code in them. The
//! path is walked from `/` by descriptors, and nothing is looked up twice. The rule:
//!
//! - Every directory belongs to this process's user or to root, and neither its group nor others may write to it.
//! - A sticky directory of root's (`/tmp`) may be writable by all, since they can't rename or remove what is ours there.
//!   But they can be first to take a name, so the next directory has to be this user's, of mode 0700, and not a link.
//! - A symbolic link belongs to this user or to root.
//! - The last directory belongs to this user, and no other user may write to it.
//!
//! Missing directories are made, with mode 0700. An access control list that lets others write shows as the group's write
//! permission. In a user namespace that maps one id only (`unshare -r`), root's directories belong to nobody, and everybody
//! else's do, too: there, no directory can be trusted.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlinkat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::geteuid;

use crate::error::{Code, Context, Error, Result};

/// What a directory is for, in the words of messages.
#[derive(Debug)]
pub(crate) struct Purpose {
    /// What the directory is.
    pub(crate) name: &'static str,
    /// The option of a runtime that names another one.
    pub(crate) option: &'static str,
    /// What another user who can write there could do.
    pub(crate) danger: &'static str,
    /// The code of its errors.
    pub(crate) code: Code,
}

/// The store of images.
pub(super) const IMAGES: &Purpose = &Purpose {
    name: "image directory",
    option: "image_directory",
    danger: "another user could put other programs into sandboxes",
    code: Code::Image,
};

impl Purpose {
    /// A directory that can't be used, and what to do.
    pub(crate) fn error(&self, text: impl Into<String>) -> Error {
        Error::new(self.code, text)
    }
}

/// As many links as the kernel follows.
const MAX_LINKS: u32 = 40;

/// What decides about one component.
#[derive(Clone, Copy, Debug)]
struct Facts {
    uid: u32,
    mode: u32,
}

impl Facts {
    fn is(self, kind: u32) -> bool {
        self.mode & libc::S_IFMT == kind
    }

    fn writable_by_others(self) -> bool {
        self.mode & 0o022 != 0
    }
}

/// Where a component stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On the way, below a directory that only this user and root may write to.
    OnTheWay,
    /// Below a sticky directory that everybody may write to.
    BelowSticky,
    /// The directory itself.
    Last,
}

/// Opens a directory for reading, and makes what is missing on the way. Returns its path without links, too.
pub(crate) fn open_directory(path: &Path, purpose: &Purpose) -> Result<(OwnedFd, PathBuf)> {
    let what = purpose.name;
    if !path.is_absolute() {
        return Err(Error::invalid(format!("{what} {path:?}: must be an absolute path")));
    }
    let user = geteuid().as_raw();
    let mut rest = components(path);
    let (mut shown, mut links, mut below_sticky) = (PathBuf::from("/"), 0, false);
    let mut at = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context(format!("{what}: opening /"))?;
    check(&shown, facts(&at, &shown, purpose)?, user, Place::OnTheWay, purpose)?;
    while let Some(name) = rest.pop_front() {
        let next = shown.join(&name);
        let fd = open_or_make(&at, &name, &next, purpose)?;
        let found = facts(&fd, &next, purpose)?;
        let place = if below_sticky { Place::BelowSticky } else { Place::OnTheWay };
        check(&next, found, user, place, purpose)?;
        if found.is(libc::S_IFLNK) {
            links += 1;
            if links > MAX_LINKS {
                return Err(purpose.error(format!("{what} {path:?}: has too many symbolic links")));
            }
            let target = readlinkat(&fd, "").context(format!("reading the link {next:?}"))?;
            let target = Path::new(&target);
            if target.is_absolute() {
                at = open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                    .context(format!("{what}: opening /"))?;
                shown = PathBuf::from("/");
            }
            for name in components(target).into_iter().rev() {
                rest.push_front(name);
            }
            continue;
        }
        below_sticky = found.writable_by_others();
        shown = if name == OsStr::new("..") {
            shown.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
        } else {
            next
        };
        at = fd;
    }
    check(&shown, facts(&at, &shown, purpose)?, user, Place::Last, purpose)?;
    openat(&at, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .context(format!("opening the {what} {shown:?}"))
        .map(|fd| (fd, shown))
}

/// The names of a path in their order; `..` is one.
fn components(path: &Path) -> VecDeque<OsString> {
    let name = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

fn open_or_make(at: &OwnedFd, name: &OsStr, shown: &Path, purpose: &Purpose) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let what = || format!("opening {shown:?} on the way to the {}", purpose.name);
    match openat(at, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => {}
        other => return other.context(what()),
    }
    match mkdirat(at, name, Mode::S_IRWXU) {
        // Another process made it at the same time.
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(cause) => return Err(cause).context(format!("creating the {} {shown:?}", purpose.name)),
    }
    openat(at, name, flags, Mode::empty()).context(what())
}

fn facts(fd: &OwnedFd, shown: &Path, purpose: &Purpose) -> Result<Facts> {
    let stat = fstat(fd).context(format!("looking at {shown:?} on the way to the {}", purpose.name))?;
    Ok(Facts { uid: stat.st_uid, mode: stat.st_mode })
}

fn check(path: &Path, found: Facts, user: u32, place: Place, purpose: &Purpose) -> Result<()> {
    let Purpose { name, option, danger, .. } = purpose;
    let refuse = |why: String| {
        Err(purpose.error(format!(
            "{name}: {path:?} {why}, so {danger}; mend that, or name another directory (the runtime's {option})"
        )))
    };
    let link = found.is(libc::S_IFLNK);
    if !link && !found.is(libc::S_IFDIR) {
        return Err(purpose.error(format!("{name}: {path:?} is not a directory")));
    }
    if found.uid != user && (found.uid != 0 || place == Place::Last) {
        return refuse(format!(
            "belongs to user {}, not to user {user}{}",
            found.uid,
            match place {
                Place::Last => "",
                Place::OnTheWay | Place::BelowSticky => " or root",
            }
        ));
    }
    match place {
        Place::BelowSticky if link || found.uid != user || found.mode & 0o077 != 0 => refuse(format!(
            "is below a directory that everybody may write to, and is not a directory of user {user} with mode 0700"
        )),
        // A link's mode is always 0777.
        _ if link => Ok(()),
        Place::Last if found.writable_by_others() => {
            refuse(format!("has mode {:04o}, which lets others write (chmod go-w)", found.mode & 0o7777))
        }
        Place::OnTheWay
            if found.writable_by_others() && (found.mode & libc::S_ISVTX == 0 || found.uid != 0) =>
        {
            refuse(format!("has mode {:04o}, which lets others write (chmod go-w)", found.mode & 0o7777))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::Directory;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    const ME: u32 = 1000;
    const OTHER: u32 = 1001;

    fn judge(uid: u32, kind: u32, mode: u32, place: Place) -> bool {
        check(Path::new("/x"), Facts { uid, mode: kind | mode }, ME, place, IMAGES).is_ok()
    }

    #[test]
    fn the_rule_goes_by_owner_mode_and_place() {
        use Place::{BelowSticky, Last, OnTheWay};
        let (directory, link) = (libc::S_IFDIR, libc::S_IFLNK);
        for (uid, kind, mode, place, trusted) in [
            (0, directory, 0o755, OnTheWay, true),
            (ME, directory, 0o755, OnTheWay, true),
            (OTHER, directory, 0o755, OnTheWay, false),
            (ME, directory, 0o775, OnTheWay, false),
            (0, directory, 0o777, OnTheWay, false),
            (0, directory, 0o1777, OnTheWay, true),
            (ME, directory, 0o1777, OnTheWay, false),
            (OTHER, directory, 0o1777, OnTheWay, false),
            (0, link, 0o777, OnTheWay, true),
            (OTHER, link, 0o777, OnTheWay, false),
            (ME, directory, 0o700, BelowSticky, true),
            (ME, directory, 0o750, BelowSticky, false),
            (0, directory, 0o700, BelowSticky, false),
            (OTHER, directory, 0o700, BelowSticky, false),
            (ME, link, 0o777, BelowSticky, false),
            (ME, directory, 0o755, Last, true),
            (ME, directory, 0o775, Last, false),
            (ME, directory, 0o1777, Last, false),
            (0, directory, 0o755, Last, false),
            (ME, libc::S_IFREG, 0o600, OnTheWay, false),
        ] {
            assert_eq!(judge(uid, kind, mode, place), trusted, "{uid} {kind:o} {mode:o} {place:?}");
        }
    }

    #[test]
    fn missing_directories_are_made_for_this_user_alone() {
        let top = Directory::new();
        let path = top.path().join("a/b/../c");
        open_directory(&path, IMAGES).unwrap();
        for made in ["a", "a/b", "a/c"] {
            let mode = fs::metadata(top.path().join(made)).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o700, "{made}");
        }
        open_directory(&path, IMAGES).unwrap();
    }

    #[test]
    fn links_are_followed_by_the_same_rule() {
        let top = Directory::new();
        let at = |name: &str| top.path().join(name);
        fs::create_dir(at("real")).unwrap();
        symlink("real", at("relative")).unwrap();
        symlink(at("relative"), at("absolute")).unwrap();
        open_directory(&at("absolute/store"), IMAGES).unwrap();
        assert!(at("real/store").is_dir());
        symlink("loop", at("loop")).unwrap();
        let error = open_directory(&at("loop"), IMAGES).unwrap_err();
        assert!(error.message().contains("too many symbolic links"), "{error}");
        fs::create_dir(at("open")).unwrap();
        fs::set_permissions(at("open"), fs::Permissions::from_mode(0o777)).unwrap();
        symlink("open/store", at("through")).unwrap();
        for path in ["through", "open/store", "open"] {
            let error = open_directory(&at(path), IMAGES).unwrap_err();
            assert!(error.message().contains("has mode 0777"), "{error}");
            assert!(error.message().contains(&format!("{:?}", at("open"))), "{error}");
        }
        assert!(!at("open/store").exists());
    }

    #[test]
    fn a_file_or_a_relative_path_is_no_place() {
        let top = Directory::new();
        let file = top.file("file", b"");
        assert!(open_directory(&file, IMAGES).unwrap_err().message().contains("is not a directory"));
        let below = open_directory(&file.join("x"), IMAGES).unwrap_err();
        assert!(below.message().contains("is not a directory"), "{below}");
        assert!(
            open_directory(Path::new("cache"), IMAGES)
                .unwrap_err()
                .message()
                .contains("must be an absolute path")
        );
    }
}
