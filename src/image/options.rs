//! How an image is pulled or imported, and from what.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// How an image is pulled or imported. The default suits most.
///
/// ```no_run
/// use sbx::{ImageOptions, Runtime};
///
/// let mut options = ImageOptions::new();
/// options.platform = Some("linux/arm64".to_owned());
/// options.set_login("robot", "token");
/// let image = Runtime::shared()?.pull_image("registry.example/team/app:1", &options)?;
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ImageOptions {
    /// What is imported. For import only.
    pub format: ImageFormat,
    /// The name that the image is stored under. By default a pulled image has its reference's, and an imported one none.
    pub tag: Option<String>,
    /// Which one, where there are several: `os/architecture` or `os/architecture/variant`. By default this machine's.
    pub platform: Option<String>,
    /// Which image of an archive or a layout that has several: one of its names. For import only.
    pub select: Option<String>,
    /// Certificates, in PEM, of authorities that are trusted beside the system's. For pull only, as what follows.
    pub ca_pem: Option<String>,
    /// A program that speaks docker's protocol for credential helpers, by its absolute path. It is asked before
    /// `~/.docker/config.json`.
    pub credential_helper: Option<PathBuf>,
    /// Mirrors that are asked first, in this order: the registry, and the host in its place.
    pub mirrors: Vec<(String, String)>,
    /// Limits of the image.
    pub limits: ImageLimits,
    pub(crate) login: Option<(String, Zeroizing<String>)>,
}

impl ImageOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Logs in at the registry as this user, by a password or token. By default `~/.docker/config.json` decides.
    pub fn set_login(&mut self, username: impl Into<String>, password: impl Into<String>) -> &mut Self {
        self.login = Some((username.into(), Zeroizing::new(password.into())));
        self
    }
}

/// The password is a secret.
impl fmt::Debug for ImageOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageOptions")
            .field("format", &self.format)
            .field("tag", &self.tag)
            .field("platform", &self.platform)
            .field("select", &self.select)
            .field("mirrors", &self.mirrors)
            .field("limits", &self.limits)
            .field("username", &self.login.as_ref().map(|(username, _)| username))
            .finish_non_exhaustive()
    }
}

/// Limits of an image that is pulled or imported; beyond one it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageLimits {
    /// Bytes of its files (default 16 GiB).
    pub bytes: u64,
    /// Files, directories, links and the like (default 1,000,000).
    pub entries: u64,
    /// How many times larger a layer may be than what it is compressed to, beyond its first 16 MiB (default 200).
    pub ratio: u64,
    /// Bytes of memory for names and the like (default 512 MiB).
    pub memory: u64,
    /// How many directories a path may be deep (default 64).
    pub depth: u32,
    /// Layers (default 127).
    pub layers: u32,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { bytes: 16 << 30, entries: 1_000_000, ratio: 200, memory: 512 << 20, depth: 64, layers: 127 }
    }
}

/// What is imported. The numbers are those of the C ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum ImageFormat {
    /// It is found out.
    #[default]
    Auto = 0,
    /// An OCI image layout: a directory, or a tar archive of it.
    Oci = 1,
    /// An archive of `docker save`.
    Docker = 2,
    /// A tar archive of a root file system.
    Tarball = 3,
    /// A directory that is a root file system.
    Directory = 4,
}

/// Where an imported image is.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageSource {
    /// A file or a directory.
    Path(PathBuf),
    /// The file or directory behind a descriptor.
    Descriptor(OwnedFd),
}

impl From<PathBuf> for ImageSource {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for ImageSource {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<&str> for ImageSource {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl From<OwnedFd> for ImageSource {
    fn from(descriptor: OwnedFd) -> Self {
        Self::Descriptor(descriptor)
    }
}

/// What pruning has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrunedImages {
    /// How many images.
    pub images: u64,
    /// How many bytes they took.
    pub bytes: u64,
}
