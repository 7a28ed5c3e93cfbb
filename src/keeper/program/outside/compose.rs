//! The file systems of a sandbox, put together in a tmpfs that only the keeper's mount namespace has.
//!
//! The keeper's own root becomes that tmpfs (as bubblewrap does it), so runsc and the gofer see the parts of
//! the host that the sandbox was given, and nothing else. The whole is gone with the namespace; nothing of it
//! has ever been on the host's disks.

use std::ffi::CStr;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::ptr;

use super::{Failure, Step};
use crate::system;
use crate::wire::keeper::{Entry, Setup};

/// Any directory will do to mount the new root on, since it is seen by nobody else.
const BASES: [&CStr; 5] = [c"/tmp", c"/run", c"/mnt", c"/var/tmp", c"/home"];
/// What the new root has. `old` is the host's root, until all is in place.
const DIRECTORIES: [&str; 10] =
    ["old", "proc", "dev", "sys", "tmp", "state", "bundle", "files", "rootfs", "rootfs/.sbx"];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Puts everything together.
pub(super) fn compose(setup: &Setup) -> Result<(), Failure> {
    new_root()?;
    bind_host("proc", c"/proc", Access::AsIs).step("/proc")?;
    for device in DEVICES {
        let path = format!("/dev/{device}");
        fs::File::create(&path).step(&path)?;
        let target = system::c_path(path.as_bytes()).step(&path)?;
        bind_host(&path, &target, Access::AsIs).step(&path)?;
    }
    install_runsc(setup)?;
    let init = fs::File::create("/rootfs/.sbx/init").and_then(|mut file| {
        io::copy(&mut fs::File::open("/proc/self/exe")?, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(0o555))
    });
    init.step("the init program")?;
    let mut root = RootFs::open()?;
    for entry in &setup.rootfs {
        root.add(entry)?;
    }
    fs::write("/bundle/config.json", &setup.bundle).step("/bundle/config.json")?;
    fs::set_permissions("/rootfs", fs::Permissions::from_mode(0o755)).step("/rootfs")?;
    // SAFETY: the path is a NUL-terminated literal.
    system::check(unsafe { libc::umount2(c"/old".as_ptr(), libc::MNT_DETACH) }).step("leaving the host's root")?;
    Ok(())
}

fn new_root() -> Result<(), Failure> {
    std::env::set_current_dir("/").step("/")?;
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE).step("making mounts private")?;
    let mut result = Err(io::Error::from_raw_os_error(libc::ENOENT));
    for base in BASES {
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        result = mount(Some(c"tmpfs"), base, Some(c"tmpfs"), flags).map(|()| base);
        if result.is_ok() {
            break;
        }
    }
    let base = result.step("a tmpfs for the sandbox's files")?;
    let path = base.to_string_lossy();
    for directory in DIRECTORIES {
        fs::create_dir(format!("{path}/{directory}")).step(directory)?;
    }
    let old = system::c_path(format!("{path}/old").as_bytes()).step("old root")?;
    // SAFETY: both paths end with NUL.
    let pivoted = unsafe { libc::syscall(libc::SYS_pivot_root, base.as_ptr(), old.as_ptr()) };
    system::check(pivoted).step("pivot_root")?;
    std::env::set_current_dir("/").step("the new root")
}

/// runsc, and the programs that newer releases keep beside it.
fn install_runsc(setup: &Setup) -> Result<(), Failure> {
    let path = String::from_utf8_lossy(&setup.runsc);
        let old = open_in("/old", &setup.runsc, libc::O_PATH).step(format!("{path} (runsc)"))?;
    let now = fs::metadata(descriptor(&old)).step(format!("{path} (runsc)"))?;
    if (now.dev(), now.ino()) != setup.runsc_identity {
        return Err(io::Error::from_raw_os_error(libc::ESTALE)).step(format!("{path} (runsc was replaced)"));
    }
    fs::File::create("/runsc").step("/runsc")?;
    bind(&old, &system::open(c"/runsc", libc::O_PATH).step("/runsc")?, Access::ReadOnly).step(format!("{path} (runsc)"))?;
    if let Some((directory, _)) = path.rsplit_once('/') {
        let beside = format!("{directory}/gvisor-bin");
        if let Ok(beside) = open_in("/old", beside.as_bytes(), libc::O_PATH | libc::O_DIRECTORY) {
            fs::create_dir("/gvisor-bin").step("/gvisor-bin")?;
            let target = system::open(c"/gvisor-bin", libc::O_PATH).step("/gvisor-bin")?;
            bind(&beside, &target, Access::ReadOnly).step("gvisor-bin beside runsc")?;
        }
    }
    Ok(())
}

/// What may be done with a part of the host that is mounted here.
#[derive(Clone, Copy, Debug)]
enum Access {
    /// As on the host (devices).
    AsIs,
    ReadOnly,
    Writable,
}

/// The sandbox's root file system below `/rootfs`.
struct RootFs {
    /// The tmpfs's own device: what is on another belongs to the host.
    device: u64,
    files: u32,
}

impl RootFs {
    fn open() -> Result<Self, Failure> {
        let device = fs::metadata("/rootfs").step("/rootfs")?.dev();
        Ok(Self { device, files: 0 })
    }

    fn add(&mut self, entry: &Entry) -> Result<(), Failure> {
        let (path, result) = match entry {
            Entry::Directory { path, mode } => (path, self.directory(path, *mode)),
            Entry::Symlink { path, target } => (path, self.symlink(path, target)),
            Entry::File { path, mode, content } => (path, self.file(path, *mode, content)),
            Entry::Bind { source, path, writable } => (path, self.bind(source, path, *writable)),
        };
        result.step(format!("{} in the root file system", String::from_utf8_lossy(path)))
    }

    /// The directory in which `path` is, without following a link, and the last part of the name.
    fn parent<'a>(&self, path: &'a [u8]) -> io::Result<(OwnedFd, &'a [u8], bool)> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b"."[..], path),
        };
        if name.is_empty() || name == b"." || name == b".." {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let fd = open_in("/rootfs", parent, libc::O_PATH | libc::O_DIRECTORY)?;
        let ours = fs::metadata(descriptor(&fd))?.dev() == self.device;
        Ok((fd, name, ours))
    }

    fn directory(&self, path: &[u8], mode: u32) -> io::Result<()> {
        let (parent, name, ours) = self.parent(path)?;
        let full = inside(&parent, name);
        match fs::symlink_metadata(&full) {
            Ok(there) if there.is_dir() => return Ok(()),
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::ENOTDIR)),
            Err(_) if !ours => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
            Err(_) => {}
        }
        fs::create_dir(&full)?;
        fs::set_permissions(&full, fs::Permissions::from_mode(mode & 0o7777))
    }

    fn symlink(&self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (parent, name, ours) = self.parent(path)?;
        if !ours {
            return Err(io::Error::from_raw_os_error(libc::EROFS));
        }
        std::os::unix::fs::symlink(text(target)?, inside(&parent, name))
    }

    /// On the host's part of the tree a file is mounted over the one that is there; never written.
    fn file(&mut self, path: &[u8], mode: u32, content: &[u8]) -> io::Result<()> {
        let (parent, name, ours) = self.parent(path)?;
        let target = inside(&parent, name);
        let place = if ours { target.clone() } else { format!("/files/{}", self.files) };
        self.files += 1;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode & 0o7777).open(&place)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode & 0o7777))?;
        if !ours {
            let source = system::open(&system::c_path(place.as_bytes())?, libc::O_PATH)?;
            bind_at(&source, &parent, name, Access::ReadOnly)?;
        }
        Ok(())
    }

    fn bind(&self, source: &[u8], path: &[u8], writable: bool) -> io::Result<()> {
        let source = open_in("/old", source, libc::O_PATH)?;
        let directory = fs::metadata(descriptor(&source))?.is_dir();
        let (parent, name, ours) = self.parent(path)?;
        let target = inside(&parent, name);
        if ours && fs::symlink_metadata(&target).is_err() {
            if directory {
                fs::create_dir(&target)?;
            } else {
                fs::File::create(&target)?;
            }
        }
        let access = if writable { Access::Writable } else { Access::ReadOnly };
        bind_at(&source, &parent, name, access)
    }
}

fn text(bytes: &[u8]) -> io::Result<&std::ffi::OsStr> {
    use std::os::unix::ffi::OsStrExt;
    if bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(std::ffi::OsStr::from_bytes(bytes))
}

fn descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn inside(parent: &OwnedFd, name: &[u8]) -> String {
    format!("{}/{}", descriptor(parent), String::from_utf8_lossy(name))
}

/// Opens below a directory as if that were the root, so that no link in the way leads out of it.
fn open_in(root: &str, path: &[u8], flags: i32) -> io::Result<OwnedFd> {
    let root = system::open(&system::c_path(root.as_bytes())?, libc::O_PATH | libc::O_DIRECTORY)?;
    let path = system::c_path(if path.is_empty() { b"." } else { path })?;
    // SAFETY: open_how is a plain C struct for which all zeroes is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::try_from(flags | libc::O_CLOEXEC).unwrap_or(0);
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    // SAFETY: the path ends with NUL and `how` is as long as said.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    system::owned(i32::try_from(fd).unwrap_or(-1))
}

/// Mounts a copy of the host's tree at `source` onto `target`, which exists.
fn bind_host(source: &str, target: &CStr, access: Access) -> io::Result<()> {
    let source = open_in("/old", source.as_bytes(), libc::O_PATH)?;
    bind(&source, &system::open(target, libc::O_PATH | libc::O_NOFOLLOW)?, access)
}

fn bind_at(source: &OwnedFd, parent: &OwnedFd, name: &[u8], access: Access) -> io::Result<()> {
    let name = system::c_path(name)?;
    let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name ends with NUL.
    let target = system::owned(unsafe { libc::openat(parent.as_raw_fd(), name.as_ptr(), flags) })?;
    bind(source, &target, access)
}

/// Mounts a copy of the tree at `source` onto `target`. The copy has its attributes before anybody can see
/// it. It is always the whole tree with the mounts in it: in a user namespace a part could uncover what a
/// mount hides, and is refused (mount_namespaces(7)).
fn bind(source: &OwnedFd, target: &OwnedFd, access: Access) -> io::Result<()> {
    let recursive = libc::AT_RECURSIVE.cast_unsigned();
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | recursive | libc::AT_EMPTY_PATH.cast_unsigned();
    // SAFETY: the path is a NUL-terminated literal.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, source.as_raw_fd(), c"".as_ptr(), flags) };
    let tree = system::owned(i32::try_from(tree).unwrap_or(-1))?;
    // SAFETY: mount_attr is a plain C struct for which all zeroes is a valid value.
    let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
    attributes.attr_set = match access {
        Access::AsIs => 0,
        Access::Writable => libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        Access::ReadOnly => libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
    };
    // SAFETY: the path ends with NUL and the struct is as long as said.
    system::check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })?;
    // SAFETY: both paths are NUL-terminated literals.
    system::check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH,
        )
    })?;
    Ok(())
}

fn mount(source: Option<&CStr>, target: &CStr, kind: Option<&CStr>, flags: libc::c_ulong) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: every string ends with NUL or is NULL, and no data is given.
    let done = unsafe { libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, ptr::null()) };
    system::check(done).map(|_| ())
}
