//! Mounts by descriptor (open_tree(2), mount_setattr(2), move_mount(2)): no path is resolved twice.

use std::ffi::CStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use crate::system;

/// Access to a part of the host that is mounted here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    /// As on the host (devices, /proc).
    AsIs,
    ReadOnly,
    Writable,
}

/// Opens a path of the host and fails on symbolic links: the plan has none, so one that is there now was put
/// there since.
pub(super) fn open_below(root: &CStr, path: &[u8]) -> io::Result<OwnedFd> {
    let root = system::open(root, libc::O_PATH | libc::O_DIRECTORY)?;
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    open_at(&root, path, libc::O_PATH, resolve)
}

/// openat2(2), close-on-exec.
pub(super) fn open_at(root: &OwnedFd, path: &[u8], flags: i32, resolve: u64) -> io::Result<OwnedFd> {
    // SAFETY: open_how is a plain C struct for which all zeroes is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::try_from(flags | libc::O_CLOEXEC).unwrap_or(0);
    how.resolve = resolve;
    let path = system::c_path(if path.is_empty() { b"." } else { path })?;
    // SAFETY: the path ends with NUL and `how` is as long as said.
    let fd = unsafe {
        let size = size_of::<libc::open_how>();
        libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size)
    };
    system::owned(i32::try_from(fd).unwrap_or(-1))
}

/// Opens a mount point.
pub(super) fn target(path: &CStr) -> io::Result<OwnedFd> {
    system::open(path, libc::O_PATH | libc::O_NOFOLLOW)
}

/// fstat(2).
pub(super) fn status(fd: &OwnedFd) -> io::Result<Metadata> {
    File::from(fd.try_clone()?).metadata()
}

/// Mounts a copy of the tree at `source` onto `target`. The copy gets its attributes before any process can
/// see it. It always includes the mounts below: in a user namespace a part of the tree could uncover what a
/// mount hides, so the kernel refuses it (mount_namespaces(7)).
pub(super) fn bind(source: &OwnedFd, target: &OwnedFd, access: Access) -> io::Result<()> {
    let recursive = libc::AT_RECURSIVE.cast_unsigned();
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | recursive | libc::AT_EMPTY_PATH.cast_unsigned();
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

/// Stops mount propagation between this namespace and the host's.
pub(super) fn make_private() -> io::Result<()> {
    mount(None, c"/", libc::MS_REC | libc::MS_PRIVATE)
}

/// Mounts a tmpfs.
pub(super) fn tmpfs(path: &CStr) -> io::Result<()> {
    mount(Some(c"tmpfs"), path, libc::MS_NOSUID | libc::MS_NODEV)
}

fn mount(kind: Option<&CStr>, target: &CStr, flags: libc::c_ulong) -> io::Result<()> {
    let kind = kind.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: every string ends with NUL or is NULL, and no data is given.
    system::check(unsafe { libc::mount(kind, target.as_ptr(), kind, flags, ptr::null()) }).map(|_| ())
}
