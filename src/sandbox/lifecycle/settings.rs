//! What a sandbox's life goes by.

use std::time::Duration;

use super::probe::ProbeSettings;

/// How far a sandbox starts by itself. A member of the pool waits there until a creation takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Up to its program: it is the host's.
    Program,
    /// Up to its init: it is warm.
    Init,
    /// Up to a runsc that is held before it reads its bundle: it is a spare.
    Runsc,
}

/// What the configuration says about a sandbox's life. Open fields: plain data that the driver fills in.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Settings {
    /// How far it starts by itself.
    pub(in crate::sandbox) depth: Depth,
    /// It has a gateway and a way out.
    pub(in crate::sandbox) network: bool,
    /// It has a program of its own.
    pub(in crate::sandbox) has_command: bool,
    /// Init has something to start: a program, or a working directory to make.
    pub(in crate::sandbox) has_start: bool,
    /// The keeper watches its memory. Nothing is started before it has seen that.
    pub(in crate::sandbox) watches_memory: bool,
    /// It has control groups.
    pub(in crate::sandbox) has_groups: bool,
    pub(in crate::sandbox) timeout: Duration,
    pub(in crate::sandbox) idle_timeout: Option<Duration>,
    pub(in crate::sandbox) probe: Option<ProbeSettings>,
    /// A snapshot is taken at the end.
    pub(in crate::sandbox) exit_snapshot: bool,
}
