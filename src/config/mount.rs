//! The root file system and bind mounts.

use std::path::{Path, PathBuf};

use super::Config;
use super::rules::{absolute_path, refuse};
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The most mounts of one sandbox.
const MAX_MOUNTS: usize = 128;

/// A file or directory of the host that the sandbox sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    source: PathBuf,
    destination: String,
    writable: bool,
}

impl Mount {
    /// The file or directory on the host.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// The path inside.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// Whether the sandbox may write to it.
    pub fn is_writable(&self) -> bool {
        self.writable
    }
}

impl Config {
    /// Uses a directory of the host as the root file system, under a memory overlay. The default is a curated read-only
    /// view of the host's programs.
    pub fn set_rootfs(&mut self, directory: &str) -> Result<&mut Self> {
        self.latch(|config| {
            let directory = absolute_path("rootfs", directory)?;
            if directory == "/" {
                return Err(refuse(
                    "rootfs",
                    "/",
                    "must not be the host's own root; leave it out for a curated view",
                ));
            }
            config.rootfs = Some(directory.into());
            Ok(())
        })
    }

    /// Mounts a file or directory of the host read-only.
    pub fn mount_read_only(&mut self, source: &str, destination: &str) -> Result<&mut Self> {
        self.latch(|config| config.mount(source, destination, false))
    }

    /// Mounts a file or directory of the host writable: what the sandbox writes is on the host.
    pub fn mount_writable(&mut self, source: &str, destination: &str) -> Result<&mut Self> {
        self.latch(|config| config.mount(source, destination, true))
    }

    fn mount(&mut self, source: &str, destination: &str, writable: bool) -> Result<()> {
        let source = absolute_path("mount source", source)?;
        let destination = self.mount_destination(destination)?;
        if self.mounts.len() >= MAX_MOUNTS {
            return Err(Error::invalid(format!(
                "mount {destination:?}: a sandbox takes at most {MAX_MOUNTS} mounts"
            )));
        }
        self.mounts.push(Mount { source: source.into(), destination, writable });
        Ok(())
    }

    /// Checks where something is to be mounted.
    pub(super) fn mount_destination(&self, destination: &str) -> Result<String> {
        let destination = absolute_path("mount destination", destination)?;
        if destination == "/" {
            return Err(refuse("mount destination", "/", "must not be the root; set rootfs instead"));
        }
        for kept in ["/proc", "/dev", "/sys"] {
            if destination.strip_prefix(kept).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                return Err(refuse(
                    "mount destination",
                    &destination,
                    format_args!("{kept} belongs to the sandbox"),
                ));
            }
        }
        let of_images = self.image_mounts.iter().any(|mount| mount.destination == destination);
        let of_volumes = self.volumes.iter().any(|mount| mount.destination == destination);
        if of_images || of_volumes || self.mounts.iter().any(|mount| mount.destination == destination) {
            return Err(refuse("mount destination", &destination, "is used by another mount already"));
        }
        if let Some(volume) = self.volumes.iter().find(|volume| is_inside(&destination, &volume.destination))
        {
            return Err(refuse(
                "mount destination",
                &destination,
                format_args!(
                    "is inside the volume at {:?}, which other sandboxes may change",
                    volume.destination
                ),
            ));
        }
        Ok(destination)
    }
}

/// Whether a path is below another one.
pub(super) fn is_inside(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_keep_their_order_and_their_mode() {
        let mut config = Config::new();
        config.mount_read_only("/srv/a", "/data//a/").unwrap().mount_writable("/srv/b", "/data/b").unwrap();
        let seen: Vec<_> = config
            .mounts()
            .iter()
            .map(|m| (m.source().to_str().unwrap(), m.destination(), m.is_writable()))
            .collect();
        assert_eq!(seen, [("/srv/a", "/data/a", false), ("/srv/b", "/data/b", true)]);
    }

    #[test]
    fn destinations_that_belong_to_the_sandbox_are_refused() {
        for bad in ["/", "//", "/proc", "/proc/self", "/dev/", "/sys/fs", "relative", "/a/../proc", ""] {
            assert!(Config::new().mount_read_only("/srv", bad).is_err(), "{bad:?}");
        }
        for good in ["/process", "/devices", "/system"] {
            Config::new().mount_read_only("/srv", good).unwrap();
        }
    }

    #[test]
    fn a_destination_is_used_once() {
        let mut config = Config::new();
        config.mount_read_only("/srv/a", "/data").unwrap();
        let error = config.mount_writable("/srv/b", "/data/.").unwrap_err();
        assert!(error.message().contains("\"/data\""), "{error}");
    }

    #[test]
    fn the_number_of_mounts_is_bounded() {
        let mut config = Config::new();
        for number in 0..MAX_MOUNTS {
            config.mount_read_only("/srv", &format!("/m{number}")).unwrap();
        }
        assert!(config.mount_read_only("/srv", "/more").is_err());
    }

    #[test]
    fn the_hosts_own_root_is_no_rootfs() {
        assert!(Config::new().set_rootfs("/").is_err());
        assert!(Config::new().set_rootfs("images/debian").is_err());
        Config::new().set_rootfs("/images/debian").unwrap();
    }
}
