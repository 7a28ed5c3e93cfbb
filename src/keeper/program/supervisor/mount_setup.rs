//! Sets up the file systems of a sandbox, in a tmpfs that exists only in the keeper's mount namespace.
//!
//! That tmpfs becomes the keeper's root (as in bubblewrap), so runsc and the gofer see the parts of the host
//! that the sandbox was given, and nothing else. It vanishes with the namespace, and none of it is ever on
//! the host's disks.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::mounts::{self, Access};
use super::rootfs::RootFs;
use super::{Failure, Step, volumes};
use crate::prewarmer;
use crate::system;
use crate::wire::keeper::{Bind, Setup};

/// Directories to mount the new root on. Any that exists will do, since no other process sees the mount.
const BASES: [&CStr; 5] = [c"/tmp", c"/run", c"/mnt", c"/var/tmp", c"/home"];
/// The directories of the new root. `old` is the host's root until setup is complete.
const DIRECTORIES: [&str; 10] =
    ["old", "proc", "dev", "sys", "tmp", "state", "bundle", "mounts", "rootfs", "rootfs/.sbx"];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Sets everything up, and returns the locks of the volumes. [`leave_host`] comes after it.
pub(super) fn run(setup: &Setup) -> Result<Vec<OwnedFd>, Failure> {
    new_root()?;
    mount_proc()?;
    for device in DEVICES {
        let path = format!("/dev/{device}");
        let bind = Bind { source: path.clone().into_bytes(), writable: true };
        attach(&bind, &path, Access::AsIs).step(&path)?;
    }
    install_runsc(setup)?;
    if setup.images == 0 {
        install_init().step("the init program")?;
    }
    let root = RootFs::open().step("/rootfs")?;
    for entry in &setup.rootfs {
        root.add(entry)?;
    }
    for (index, bind) in setup.mounts.iter().enumerate() {
        let access = if bind.writable { Access::Writable } else { Access::ReadOnly };
        let shown = String::from_utf8_lossy(&bind.source).into_owned();
        attach(bind, &format!("/mounts/{index}"), access).step(format!("mounting {shown}"))?;
    }
    let mut locks = Vec::new();
    for (index, volume) in setup.volumes.iter().enumerate() {
        locks.push(volumes::mount(volume, index)?);
    }
    fs::write("/bundle/config.json", &setup.bundle).step("/bundle/config.json")?;
    Ok(locks)
}

/// Makes a root as [`run`] does, without a sandbox in it, and leaves the host's (the doctor's trial).
pub(super) fn try_out() -> Result<(), Failure> {
    new_root()?;
    mount_proc()?;
    leave_host()?;
    // gVisor's gofer does that.
    // SAFETY: the path is a NUL-terminated literal.
    system::check(unsafe { libc::chroot(c"/".as_ptr()) }).step("chroot").map(|_| ())
}

fn mount_proc() -> Result<(), Failure> {
    let proc = mounts::open_below(c"/old", b"proc").step("/proc")?;
    mounts::bind(&proc, &mounts::target(c"/proc").step("/proc")?, Access::AsIs).step("/proc")
}

/// Takes the host's root out of the namespace: the last thing before runsc may be started.
pub(super) fn leave_host() -> Result<(), Failure> {
    // SAFETY: the path is a NUL-terminated literal.
    system::check(unsafe { libc::umount2(c"/old".as_ptr(), libc::MNT_DETACH) })
        .step("leaving the host's root")
        .map(|_| ())
}

fn new_root() -> Result<(), Failure> {
    std::env::set_current_dir("/").step("/")?;
    mounts::make_private().step("making mounts private")?;
    let mut result = Err(io::Error::from_raw_os_error(libc::ENOENT));
    for base in BASES {
        result = mounts::tmpfs(base).map(|()| base);
        if result.is_ok() {
            break;
        }
    }
    let base = result.step("a tmpfs for the sandbox's files")?;
    let path = base.to_string_lossy();
    for directory in DIRECTORIES {
        fs::create_dir(format!("{path}/{directory}")).step(directory)?;
    }
    fs::set_permissions(format!("{path}/rootfs"), fs::Permissions::from_mode(0o755)).step("rootfs")?;
    let old = system::c_path(format!("{path}/old").as_bytes()).step("old root")?;
    // SAFETY: both paths end with NUL.
    let pivoted = unsafe { libc::syscall(libc::SYS_pivot_root, base.as_ptr(), old.as_ptr()) };
    system::check(pivoted).step("pivot_root")?;
    std::env::set_current_dir("/").step("the new root")
}

/// Mounts a file or directory of the host at a path of the new root, and creates that path.
fn attach(bind: &Bind, path: &str, access: Access) -> io::Result<()> {
    let source = mounts::open_below(c"/old", &bind.source)?;
    if mounts::status(&source)?.is_dir() {
        fs::create_dir(path)?;
    } else {
        fs::File::create(path)?;
    }
    mounts::bind(&source, &mounts::target(&system::c_path(path.as_bytes())?)?, access)
}

/// Mounts runsc, and the programs that newer releases keep beside it.
fn install_runsc(setup: &Setup) -> Result<(), Failure> {
    let path = String::from_utf8_lossy(&setup.runsc);
    let source = mounts::open_below(c"/old", &setup.runsc).step(format!("{path} (runsc)"))?;
    let now = mounts::status(&source).step(format!("{path} (runsc)"))?;
    if (now.dev(), now.ino()) != setup.runsc_identity {
        return Err(io::Error::from_raw_os_error(libc::ESTALE)).step(format!("{path} (runsc was replaced)"));
    }
    fs::File::create("/runsc").step("/runsc")?;
    let target = mounts::target(c"/runsc").step("/runsc")?;
    mounts::bind(&source, &target, Access::ReadOnly).step(format!("{path} (runsc)"))?;
    install_beside(setup).step("gvisor-bin beside runsc")
}

/// Mounts the directory that the library has found trustworthy, and fails if another one has replaced it. Without one,
/// this program is runsc's prewarmer.
fn install_beside(setup: &Setup) -> io::Result<()> {
    let Some(at) = setup.runsc.iter().rposition(|byte| *byte == b'/').filter(|_| setup.beside != (0, 0))
    else {
        fs::create_dir("/gvisor-bin")?;
        return std::os::unix::fs::symlink(prewarmer::TARGET, prewarmer::PATH);
    };
    let directory = [setup.runsc.get(..at).unwrap_or_default(), b"/gvisor-bin"].concat();
    let source = mounts::open_below(c"/old", &directory)?;
    let now = mounts::status(&source)?;
    if (now.dev(), now.ino()) != setup.beside {
        return Err(io::Error::from_raw_os_error(libc::ESTALE));
    }
    fs::create_dir("/gvisor-bin")?;
    mounts::bind(&source, &mounts::target(c"/gvisor-bin")?, Access::ReadOnly)
}

/// Copies this program, to be the sandbox's process 1, for a runsc that can't mount the image that it comes in.
fn install_init() -> io::Result<()> {
    let mut file = fs::File::create("/rootfs/.sbx/init")?;
    io::copy(&mut fs::File::open("/proc/self/exe")?, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(0o555))
}
