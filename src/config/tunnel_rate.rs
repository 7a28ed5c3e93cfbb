//! How fast a sandbox's tunnels take new connections.

use super::Config;
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The largest rate: more than a machine's loopback device takes.
const MAX_RATE: u32 = 1_000_000;

/// How many new connections a second the tunnels of a sandbox take while another sandbox is served.
///
/// ```
/// use sbx::{Config, TunnelRate};
///
/// let mut config = Config::new();
/// config.set_tunnel_rate(TunnelRate::PerSecond(5_000))?;
/// assert!(config.set_tunnel_rate(TunnelRate::PerSecond(0)).is_err());
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelRate {
    /// 250 for each processor that this process may use.
    #[default]
    Default,
    /// So many, from 1 to 1,000,000.
    PerSecond(u32),
    /// No limit.
    Unlimited,
}

impl TunnelRate {
    /// From a number: 0 is the default, and a negative one is no limit.
    pub(crate) fn of_number(number: i32) -> Self {
        match u32::try_from(number) {
            Ok(0) => Self::Default,
            Ok(rate) => Self::PerSecond(rate),
            Err(_) => Self::Unlimited,
        }
    }
}

impl Config {
    /// Sets how many new connections a second the sandbox's tunnels take together, while the runtime serves another
    /// sandbox and until ten seconds after.
    ///
    /// Those of two seconds may come at once. Further ones wait in the listeners' queues, but a port that others leave no room
    /// takes one every 10 ms, or as often as the rate if that is lower. While no other sandbox is served there is no limit.
    pub fn set_tunnel_rate(&mut self, rate: TunnelRate) -> Result<&mut Self> {
        self.latch(|config| {
            if let TunnelRate::PerSecond(number) = rate
                && !(1..=MAX_RATE).contains(&number)
            {
                return Err(Error::invalid(format!(
                    "tunnel rate {number}: must be from 1 to {MAX_RATE} new connections a second"
                )));
            }
            config.tunnel_rate = rate;
            Ok(())
        })
    }

    pub(crate) fn tunnel_rate(&self) -> TunnelRate {
        self.tunnel_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_within_its_bounds_or_the_default_or_none() {
        for bad in [0, MAX_RATE + 1, u32::MAX] {
            let error = Config::new().set_tunnel_rate(TunnelRate::PerSecond(bad)).map(drop).unwrap_err();
            assert!(error.message().starts_with(&format!("tunnel rate {bad}: must be from 1 to 1000000")));
        }
        let mut config = Config::new();
        assert_eq!(config.tunnel_rate(), TunnelRate::Default);
        for good in [TunnelRate::PerSecond(1), TunnelRate::PerSecond(MAX_RATE), TunnelRate::Unlimited] {
            assert_eq!(config.set_tunnel_rate(good).unwrap().tunnel_rate(), good);
        }
        config.check().unwrap();
    }

    #[test]
    fn numbers_of_c() {
        let of = [i32::MIN, -1, 0, 1, i32::MAX].map(TunnelRate::of_number);
        let most = TunnelRate::PerSecond(i32::MAX.unsigned_abs());
        let (none, default) = (TunnelRate::Unlimited, TunnelRate::Default);
        assert_eq!(of, [none, none, default, TunnelRate::PerSecond(1), most]);
    }
}
