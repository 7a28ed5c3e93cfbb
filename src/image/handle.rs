//! An image as programs have it: opened, so that nothing can replace or remove it under them.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use super::ImageConfig;
use super::service::parse_tag;
use super::store::StoredImage;
use crate::config::Config;
use crate::config::image::{OpenImage, RootImage};
use crate::error::{Context, Result};

/// An image of the store: a file system with the settings that were made for it. Clones are handles to the same one.
///
/// It keeps a descriptor of its file open, so it stays usable when it is removed from the store.
///
/// ```no_run
/// use sbx::{Config, ImageOptions, Runtime};
///
/// let runtime = Runtime::shared()?;
/// let image = runtime.pull_image("python:3.12", &ImageOptions::new())?;
/// let mut config = Config::new();
/// config.set_image(&image)?.set_command(["python3", "-c", "print(6 * 7)"])?;
/// let sandbox = runtime.create(&config)?;
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone)]
pub struct Image(Arc<Opened>);

struct Opened {
    info: ImageInfo,
    stored: StoredImage,
    file: OwnedFd,
}

/// What the store knows of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// Its id: `sha256:` and 64 hexadecimal digits.
    pub id: String,
    /// Its names.
    pub tags: Vec<String>,
    /// Where it came from, for people.
    pub source: String,
    /// How many bytes it takes.
    pub bytes: u64,
    /// When it was stored.
    pub created: SystemTime,
    /// When it was last used.
    pub last_used: SystemTime,
}

impl ImageInfo {
    pub(super) fn new(image: &StoredImage) -> Self {
        Self {
            id: image.id().to_string(),
            tags: image.tags().to_vec(),
            source: image.origin().from.clone(),
            bytes: image.disk_bytes(),
            created: image.created(),
            last_used: image.last_used(),
        }
    }
}

impl Image {
    /// Opens an image's file, which is checked.
    pub(super) fn open(stored: StoredImage) -> Result<Self> {
        let file = stored.open()?;
        Ok(Self(Arc::new(Opened { info: ImageInfo::new(&stored), stored, file })))
    }

    /// Its id: `sha256:` and 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.0.info.id
    }

    /// What the store knew of it when it was opened.
    pub fn info(&self) -> &ImageInfo {
        &self.0.info
    }

    /// What its maker says about running it.
    pub fn config(&self) -> &ImageConfig {
        self.0.stored.config()
    }

    /// The same as it came: the JSON of the OCI image specification.
    pub fn config_json(&self) -> &str {
        self.0.stored.config_json()
    }

    /// A descriptor of its file, for reading only.
    pub(super) fn open_file(&self) -> Result<OwnedFd> {
        self.0.open()
    }

    /// Its files alone, as a sandbox needs them.
    pub(crate) fn files(&self) -> RootImage {
        RootImage {
            name: self.id().to_owned(),
            file: Arc::clone(&self.0) as Arc<dyn OpenImage>,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: Vec::new(),
            working_dir: String::new(),
            user: String::new(),
            stop_signal: String::new(),
        }
    }

    /// What a sandbox needs of it.
    fn root(&self) -> RootImage {
        let config = self.config();
        RootImage {
            name: self.id().to_owned(),
            file: Arc::clone(&self.0) as Arc<dyn OpenImage>,
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            env: config.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            working_dir: config.working_dir.clone().unwrap_or_default(),
            user: config.user.clone().unwrap_or_default(),
            stop_signal: config.stop_signal.clone().unwrap_or_default(),
        }
    }
}

impl OpenImage for Opened {
    fn open(&self) -> Result<OwnedFd> {
        self.stored.touch();
        self.file.try_clone().context("a descriptor of the image")
    }

    fn config_json(&self) -> &str {
        self.stored.config_json()
    }
}

impl Config {
    /// Uses an image as the root file system. What its config says holds where this one says nothing: its entrypoint, its
    /// command, environment, working directory and user, by docker's rules. All of it can be written inside, and nothing
    /// in the image changes.
    pub fn set_image(&mut self, image: &Image) -> Result<&mut Self> {
        Ok(self.set_root_image(image.root()))
    }

    /// Takes a snapshot when the sandbox ends, as [`Sandbox::snapshot`](crate::Sandbox::snapshot) does: when its program has
    /// ended, its time or its idle time is over, or it is terminated or stopped. `tag` is a name for the image.
    ///
    /// The programs are killed and the connections closed before, and then it may take 60 seconds, by which the sandbox ends
    /// later. Four of a runtime are stored at a time; others wait for up to 10 minutes before that. [`ExitSnapshot`](crate::Event::ExitSnapshot) and
    /// [`Sandbox::exit_snapshot`](crate::Sandbox::exit_snapshot) give the image, or say why there is none: the sandbox was
    /// out of memory, its engine was lost, it was terminated again or freed before the snapshot was stored. Where the host
    /// itself is killed nobody is left to be told.
    pub fn set_exit_snapshot(&mut self, tag: Option<&str>) -> Result<&mut Self> {
        self.set_exit_snapshot_tag(tag.map(parse_tag).transpose())
    }

    /// Mounts the files of an image read-only at a path inside. It takes no time and no copy.
    pub fn mount_image(&mut self, image: &Image, destination: &str) -> Result<&mut Self> {
        self.mount_image_at(image.root(), destination)
    }
}

/// The JSON may be long, and a descriptor's number says nothing.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("info", &self.info).finish_non_exhaustive()
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
