//! Limits of a sandbox's traffic to the outside.

use crate::error::{Error, Result};

/// The largest limit of flows: far more than a process has descriptors for.
const MAX_FLOWS: u32 = 1 << 20;

/// Limits of a sandbox's traffic to the outside. `None` is the default, or no limit.
///
/// ```
/// let limits = sbx::EgressLimits::new().bytes_per_second(1 << 20).total_bytes(1 << 30);
/// sbx::Config::new().set_egress_limits(limits)?;
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EgressLimits {
    /// Connections and UDP flows that are open at once; `None` is the default, 16,384.
    pub max_flows: Option<u32>,
    /// Connections and UDP flows that begin within a second; `None` is the default, 200, with bursts of 2,000.
    pub new_flows_per_second: Option<u32>,
    /// Bytes in a second, both directions together.
    pub bytes_per_second: Option<u64>,
    /// Bytes in all, both directions together. The resolver's queries and answers count, as they do in a second; when the
    /// total is used up, no query leaves.
    pub total_bytes: Option<u64>,
}

impl EgressLimits {
    /// The defaults: 16,384 flows, 200 new ones a second, and no limit of bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the connections and UDP flows that are open at once.
    #[must_use]
    pub fn max_flows(mut self, flows: u32) -> Self {
        self.max_flows = Some(flows);
        self
    }

    /// Limits the connections and UDP flows that begin within a second.
    #[must_use]
    pub fn new_flows_per_second(mut self, flows: u32) -> Self {
        self.new_flows_per_second = Some(flows);
        self
    }

    /// Limits the bytes that pass in a second, both directions together.
    #[must_use]
    pub fn bytes_per_second(mut self, bytes: u64) -> Self {
        self.bytes_per_second = Some(bytes);
        self
    }

    /// Limits the bytes that pass in all, both directions together.
    #[must_use]
    pub fn total_bytes(mut self, bytes: u64) -> Self {
        self.total_bytes = Some(bytes);
        self
    }

    /// From numbers, of which 0 means none.
    pub(crate) fn of_numbers(max_flows: u32, new_flows: u32, bytes: u64, total: u64) -> Self {
        Self {
            max_flows: Some(max_flows).filter(|number| *number > 0),
            new_flows_per_second: Some(new_flows).filter(|number| *number > 0),
            bytes_per_second: Some(bytes).filter(|number| *number > 0),
            total_bytes: Some(total).filter(|number| *number > 0),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.max_flows.is_some_and(|flows| flows == 0 || flows > MAX_FLOWS) {
            let flows = self.max_flows.unwrap_or(0);
            return Err(Error::invalid(format!(
                "egress max_flows {flows}: must be from 1 to {MAX_FLOWS}; to let nothing out, set a policy"
            )));
        }
        let nothing = [
            ("new_flows_per_second", self.new_flows_per_second.map(u64::from)),
            ("bytes_per_second", self.bytes_per_second),
            ("total_bytes", self.total_bytes),
        ];
        match nothing.iter().find(|(_, number)| *number == Some(0)) {
            Some((name, _)) => Err(Error::invalid(format!(
                "egress {name} 0: must be at least 1; to let nothing out, set a policy"
            ))),
            None => Ok(()),
        }
    }
}
