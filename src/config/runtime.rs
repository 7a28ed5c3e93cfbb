//! The settings of a runtime.

use std::path::PathBuf;

/// The settings of a runtime. The default suits most programs.
///
/// ```no_run
/// let config = sbx::RuntimeConfig::new().runsc("/opt/gvisor/runsc");
/// let runtime = sbx::Runtime::new(&config)?;
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeConfig {
    /// The runsc to use. By default `SBX_RUNSC`, `PATH` and the well-known places are searched.
    pub runsc: Option<PathBuf>,
    /// An installed copy of the keeper to use instead of the embedded one. By default that of `SBX_KEEPER`, if set. Needed
    /// where AppArmor lets only named paths make user namespaces (Ubuntu 24.04).
    pub keeper: Option<PathBuf>,
    /// Whether sandboxes get a user namespace of their own (default true). Without one, the host needs CAP_SYS_ADMIN and
    /// CAP_NET_ADMIN, and the sandboxes' processes have them too.
    pub user_namespace: bool,
    /// Where images are kept. By default `libsbx/images` in `XDG_CACHE_HOME`, or in `.cache` of `HOME`.
    pub image_directory: Option<PathBuf>,
    /// Where volumes are kept. By default `libsbx/volumes` in `XDG_DATA_HOME`, or in `.local/share` of `HOME`.
    pub volume_directory: Option<PathBuf>,
    /// How many bytes must be free where volumes are kept for a new sandbox with a writable volume (default 1 GiB).
    pub volume_min_free_bytes: u64,
}

/// The default of [`RuntimeConfig::volume_min_free_bytes`].
pub(crate) const VOLUME_MIN_FREE_BYTES: u64 = 1 << 30;

impl RuntimeConfig {
    /// The default: finds runsc by itself and gives sandboxes a user namespace.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this runsc.
    #[must_use]
    pub fn runsc(mut self, path: impl Into<PathBuf>) -> Self {
        self.runsc = Some(path.into());
        self
    }

    /// Uses this installed copy of the keeper.
    #[must_use]
    pub fn keeper(mut self, path: impl Into<PathBuf>) -> Self {
        self.keeper = Some(path.into());
        self
    }

    /// Says whether sandboxes get a user namespace of their own.
    #[must_use]
    pub fn user_namespace(mut self, own: bool) -> Self {
        self.user_namespace = own;
        self
    }

    /// Keeps images in this directory. It is made if it isn't there; it and the directories above must be writable
    /// only by this user and root.
    #[must_use]
    pub fn image_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.image_directory = Some(path.into());
        self
    }

    /// Keeps volumes in this directory. It is made if it isn't there; it and the directories above must be writable
    /// only by this user and root.
    #[must_use]
    pub fn volume_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.volume_directory = Some(path.into());
        self
    }

    /// Refuses new sandboxes with a writable volume if fewer bytes are free where volumes are kept.
    #[must_use]
    pub fn volume_min_free_bytes(mut self, bytes: u64) -> Self {
        self.volume_min_free_bytes = bytes;
        self
    }
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            runsc: None,
            keeper: None,
            user_namespace: true,
            image_directory: None,
            volume_directory: None,
            volume_min_free_bytes: VOLUME_MIN_FREE_BYTES,
        }
    }
}
