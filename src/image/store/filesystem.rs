//! Which file systems can hold the store.
//!
//! A sandbox's engine maps the image and executes from the mapping, for as long as the sandbox runs:
//!
//! - A noexec mount is refused, since the engine couldn't map programs.
//! - A file system of the network or of a cluster is refused: another machine can change the file, where neither owners nor
//!   locks of this one count, and a lost connection ends or hangs every sandbox with a page of it.
//! - FUSE works, whatever is behind it: it can't be told, and rootless containers have nothing else (fuse-overlayfs).

use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::statfs::fstatfs;
use nix::sys::statvfs::FsFlags;

use super::trust::Purpose;
use crate::error::{Context, Result};
use crate::image::error;

/// Those that are refused (linux/magic.h, and each one's own header).
const NETWORK: &[(i64, &str)] = &[
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x564c, "ncpfs"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x1983_0326, "beegfs"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x786f_4256, "vboxsf"),
    (0xbacb_acbc, "vmhgfs"),
];

/// Fails if images can't be used from the file system of a directory.
pub(super) fn check(directory: impl AsFd, path: &Path) -> Result<()> {
    let found = fstatfs(directory).context(format!("the file system of the image directory {path:?}"))?;
    judge(path, found.filesystem_type().0, found.flags().contains(FsFlags::ST_NOEXEC))
}

/// The name of a file system of the network or of a cluster; `None` for another one.
pub(crate) fn network(directory: impl AsFd, path: &Path, purpose: &Purpose) -> Result<Option<&'static str>> {
    let found = fstatfs(directory).context(format!("the file system of the {} {path:?}", purpose.name))?;
    Ok(network_name(found.filesystem_type().0))
}

fn network_name(kind: i64) -> Option<&'static str> {
    // The kernel's field is signed on some machines.
    let found = NETWORK.iter().find(|(magic, _)| magic & 0xffff_ffff == kind & 0xffff_ffff);
    found.map(|(_, name)| *name)
}

fn judge(path: &Path, kind: i64, noexec: bool) -> Result<()> {
    const REMEDY: &str = "name a directory elsewhere (the runtime's image_directory)";
    if let Some(name) = network_name(kind) {
        return Err(error(format!(
            "image directory {path:?}: is on {name}, a network file system: another machine can change an image, and a \
             lost connection ends the sandboxes that use it; {REMEDY}"
        )));
    }
    if noexec {
        return Err(error(format!(
            "image directory {path:?}: is on a file system that is mounted noexec, so no program of an image could be \
             executed; mount it without noexec, or {REMEDY}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_and_noexec_are_refused_by_name() {
        let text =
            |kind, noexec| judge(Path::new("/x"), kind, noexec).map_err(|error| error.message().to_owned());
        for (kind, name) in
            [(0x6969, "nfs"), (0xff53_4d42, "cifs"), (i64::from(0xff53_4d42_u32.cast_signed()), "cifs")]
        {
            assert!(text(kind, false).unwrap_err().contains(&format!("is on {name}, a network file system")));
        }
        assert!(text(0xef53, true).unwrap_err().contains("mounted noexec"));
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs, FUSE.
        for kind in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1, 0x6573_5546] {
            assert_eq!(text(kind, false), Ok(()));
        }
    }

    #[test]
    fn the_directory_of_the_tests_will_do() {
        let directory = crate::image::testing::Directory::new();
        check(std::fs::File::open(directory.path()).unwrap(), directory.path()).unwrap();
    }
}
