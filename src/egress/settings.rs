//! The limits and time-outs of a sandbox's flows.

use std::time::Duration;

use crate::config::EgressLimits;

/// Limits and time-outs of a sandbox's flows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The most flows that may be open at once; further ones are reset.
    pub(crate) max_flows: usize,
    /// How many flows may begin within a second; `None` is the default ([`super::quota`]).
    pub(crate) new_flows_per_second: Option<u32>,
    /// How many bytes may pass in a second, both directions together.
    pub(crate) bytes_per_second: Option<u64>,
    /// How many bytes may pass in total.
    pub(crate) total_bytes: Option<u64>,
    /// How long a connect may take. Meanwhile the sandbox believes that it is connected; after that its connection is
    /// reset.
    pub(crate) connect: Duration,
    /// How long a half-closed connection may be silent. One that is open in both directions has no limit: the kernel's
    /// keep-alive finds out whether its peers are still there.
    pub(crate) half_closed: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_flows: 16_384,
            new_flows_per_second: None,
            bytes_per_second: None,
            total_bytes: None,
            connect: Duration::from_secs(30),
            half_closed: Duration::from_secs(3600),
        }
    }
}

impl Settings {
    /// Applies the limits of a sandbox's configuration.
    pub(crate) fn of(limits: EgressLimits) -> Self {
        let default = Self::default();
        let flows = limits.max_flows.and_then(|flows| usize::try_from(flows).ok());
        Self {
            max_flows: flows.unwrap_or(default.max_flows),
            new_flows_per_second: limits.new_flows_per_second,
            bytes_per_second: limits.bytes_per_second,
            total_bytes: limits.total_bytes,
            ..default
        }
    }
}
