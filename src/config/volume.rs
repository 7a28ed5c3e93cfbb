//! Volumes: named directories that outlive sandboxes, mounted in any number of them.

use super::Config;
use super::mount::is_inside;
use super::rules::{no_nul, refuse};
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The most volumes of one sandbox. Each takes a descriptor of the library while the sandbox starts.
const MAX_VOLUMES: usize = 16;
/// The longest name of a volume.
const MAX_NAME_BYTES: usize = 64;
/// The longest sub-path, and the most names in it.
const MAX_SUB_PATH_BYTES: usize = 1024;
const MAX_SUB_PATH_NAMES: usize = 64;
/// Linux's NAME_MAX.
const MAX_FILE_NAME_BYTES: usize = 255;

/// How a volume is mounted: [`Config::mount_volume`].
///
/// ```
/// use sbx::{Config, VolumeMount};
///
/// let mut config = Config::new();
/// config.mount_volume(&VolumeMount::new("cache").create(), "/cache")?;
/// config.mount_volume(&VolumeMount::new("models").sub_path("llm/7b").read_only(), "/model")?;
/// config.check()?;
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeMount {
    name: String,
    sub_path: String,
    read_only: bool,
    create: bool,
    create_sub_path: bool,
}

impl VolumeMount {
    /// The whole volume of this name, writable.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The sandbox can't write to it.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Mounts only a directory of the volume: a path relative to its top, without `..`. A symbolic link on the way is an
    /// error.
    #[must_use]
    pub fn sub_path(mut self, path: impl Into<String>) -> Self {
        self.sub_path = path.into();
        self
    }

    /// Makes the volume if there is none of that name.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.create = true;
        self
    }

    /// Makes the directories of the sub-path that are missing.
    #[must_use]
    pub fn create_sub_path(mut self) -> Self {
        self.create_sub_path = true;
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn directory(&self) -> &str {
        &self.sub_path
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn is_created(&self) -> bool {
        self.create
    }

    pub(crate) fn is_sub_path_created(&self) -> bool {
        self.create_sub_path
    }
}

/// A volume and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountedVolume {
    pub(crate) volume: VolumeMount,
    /// Inside; absolute.
    pub(crate) destination: String,
}

impl Config {
    /// Mounts a volume at a path: a named directory that outlives the sandbox and may be mounted in several at once. What
    /// one writes, the others see. Its files belong to the host's user, whoever owns them inside.
    pub fn mount_volume(&mut self, volume: &VolumeMount, destination: &str) -> Result<&mut Self> {
        self.latch(|config| {
            volume_name(&volume.name)?;
            let destination = config.mount_destination(destination)?;
            if config.volumes.len() >= MAX_VOLUMES {
                return Err(Error::invalid(format!(
                    "mount destination {destination:?}: a sandbox takes at most {MAX_VOLUMES} volumes"
                )));
            }
            // While it is mounted, another sandbox could exchange the place of the other mount.
            let others = config.mounts.iter().map(super::Mount::destination);
            let others = others.chain(config.image_mounts.iter().map(|mount| &*mount.destination));
            let mut others = others.chain(config.volumes.iter().map(|volume| &*volume.destination));
            if let Some(inside) = others.find(|other| is_inside(other, &destination)) {
                return Err(refuse(
                    "mount destination",
                    &destination,
                    format_args!("a volume can't be mounted above another mount, which is at {inside:?}"),
                ));
            }
            let sub_path = sub_path(&volume.sub_path)?;
            if sub_path.is_empty() && volume.create_sub_path {
                return Err(Error::invalid(format!(
                    "volume {:?}: there is no sub-path that could be made",
                    volume.name
                )));
            }
            if volume.read_only && volume.create_sub_path {
                return Err(refuse(
                    "sub-path",
                    &sub_path,
                    "can't be made in a volume that is mounted read-only",
                ));
            }
            let volume = VolumeMount { sub_path, ..volume.clone() };
            config.volumes.push(MountedVolume { volume, destination });
            Ok(())
        })
    }
}

/// Checks the name of a volume. It is a directory's name on the host.
pub(crate) fn volume_name(name: &str) -> Result<()> {
    let known = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(known) {
        return Ok(());
    }
    Err(refuse(
        "volume",
        name,
        format_args!("its name must have 1 to {MAX_NAME_BYTES} of a-z 0-9 . _ - and not begin with a dot"),
    ))
}

/// A path below a volume's top in its shortest spelling; empty for the top itself.
fn sub_path(path: &str) -> Result<String> {
    let bad = |rule: String| Err(refuse("sub-path", path, rule));
    no_nul("sub-path", path)?;
    if path.starts_with('/') {
        return bad("must be relative to the volume's top".to_owned());
    }
    if path.len() > MAX_SUB_PATH_BYTES {
        return bad(format!("must have at most {MAX_SUB_PATH_BYTES} bytes"));
    }
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    if names.contains(&"..") {
        return bad("must not contain \"..\"".to_owned());
    }
    if names.len() > MAX_SUB_PATH_NAMES {
        return bad(format!("must have at most {MAX_SUB_PATH_NAMES} names"));
    }
    if names.iter().any(|name| name.len() > MAX_FILE_NAME_BYTES) {
        return bad(format!("a name must have at most {MAX_FILE_NAME_BYTES} bytes"));
    }
    Ok(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_directories() {
        for good in ["a", "data", "0.x_y-z", "-", "_", &"n".repeat(64)] {
            volume_name(good).unwrap();
        }
        for bad in ["", ".", "..", ".data", "Data", "a/b", "a b", "ü", "a\n", "a\0", &"n".repeat(65)] {
            let error = volume_name(bad).unwrap_err();
            assert!(error.message().starts_with("volume "), "{error}");
        }
    }

    #[test]
    fn sub_paths_stay_below_the_top() {
        for (path, short) in [("", ""), (".", ""), ("a", "a"), ("a//b/./c/", "a/b/c"), ("a b/ü", "a b/ü")] {
            assert_eq!(sub_path(path).unwrap(), short);
        }
        let long = [&"n".repeat(256), "x/".repeat(65).as_str(), &"a/".repeat(513)].map(str::to_owned);
        for bad in
            ["/", "/a", "..", "a/..", "a/../b", "a\0"].into_iter().chain(long.iter().map(|path| &path[..]))
        {
            let error = sub_path(bad).unwrap_err();
            assert!(error.message().starts_with("sub-path "), "{error}");
        }
    }

    #[test]
    fn a_config_takes_so_many_and_each_place_once() {
        let mut config = Config::new();
        let volume = VolumeMount::new("data");
        config
            .mount_volume(&volume, "/data/")
            .unwrap()
            .mount_volume(&volume.clone().sub_path("./a/"), "/a")
            .unwrap();
        let mounted: Vec<_> =
            config.volumes().iter().map(|one| (one.volume.directory(), one.destination.as_str())).collect();
        assert_eq!(mounted, [("", "/data"), ("a", "/a")]);
        config.mount_volume(&volume, "/data").unwrap_err();
        config.mount_read_only("/srv", "/data").unwrap_err();
        Config::new().mount_volume(&volume.clone().create_sub_path(), "/d").unwrap_err();
        let unwritable = volume.clone().read_only().sub_path("a").create_sub_path();
        Config::new().mount_volume(&unwritable, "/d").unwrap_err();
        Config::new().mount_volume(&VolumeMount::new(".."), "/d").unwrap_err();
        for (first, second) in [("/v", "/v/in"), ("/v/in", "/v")] {
            let mut config = Config::new();
            config.mount_volume(&volume, first).unwrap();
            assert!(config.mount_volume(&volume, second).unwrap_err().message().contains("/v/in"));
        }
        let mut nested = Config::new();
        nested.mount_volume(&volume, "/v").unwrap().mount_read_only("/srv", "/vv").unwrap();
        nested.mount_writable("/srv", "/v/a/b").unwrap_err();
        let mut nested = Config::new();
        nested.mount_read_only("/srv", "/v/a").unwrap().mount_volume(&volume, "/v/b").unwrap();
        nested.mount_volume(&volume, "/v").unwrap_err();
        let mut full = Config::new();
        for number in 0..MAX_VOLUMES {
            full.mount_volume(&volume, &format!("/v{number}")).unwrap();
        }
        assert!(full.mount_volume(&volume, "/more").unwrap_err().message().contains("at most 16"));
    }
}
