//! What a runtime is made with.

use std::path::PathBuf;

/// What a runtime is made with. The default suits nearly everybody.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// The runsc to use; else `SBX_RUNSC`, `PATH`, and the well-known places.
    pub runsc: Option<PathBuf>,
    /// An installed copy of the keeper to use instead of the embedded one; else `SBX_KEEPER`. Needed where
    /// AppArmor lets only named paths make user namespaces (Ubuntu 24.04).
    pub keeper: Option<PathBuf>,
    /// Whether sandboxes get a user namespace of their own (default true). Without, the host needs
    /// CAP_SYS_ADMIN and CAP_NET_ADMIN, and the sandboxes' processes have them too.
    pub user_namespace: bool,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { runsc: None, keeper: None, user_namespace: true }
    }
}
