//! Readiness probes.

use std::time::Duration;

use super::Config;
use super::port::port_number;
use super::program::{arguments, milliseconds};
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The default time between two attempts.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_millis(100);

/// How the library finds out that the server inside is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Probe {
    /// A TCP connection to a port inside succeeds.
    Tcp {
        /// The port.
        port: u16,
        /// The time between two attempts.
        interval: Duration,
    },
    /// A program inside ends with code 0.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
        /// The time between two attempts.
        interval: Duration,
    },
}

impl Probe {
    /// A TCP probe of a port, every 100 ms.
    pub fn tcp(port: u16) -> Self {
        Self::Tcp { port, interval: DEFAULT_INTERVAL }
    }

    /// A probe by a program, every 100 ms.
    pub fn exec<I>(command: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Self::Exec { command: command.into_iter().map(Into::into).collect(), interval: DEFAULT_INTERVAL }
    }

    /// The same probe with another time between two attempts.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        match &mut self {
            Self::Tcp { interval, .. } | Self::Exec { interval, .. } => *interval = time,
        }
        self
    }
}

impl Config {
    /// Sets the readiness probe. A sandbox has one at most.
    pub fn set_readiness_probe(&mut self, probe: Probe) -> Result<&mut Self> {
        self.latch(|config| {
            if config.probe.is_some() {
                return Err(Error::invalid(
                    "readiness probe: a sandbox takes exactly one or none; it has one already",
                ));
            }
            match &probe {
                Probe::Tcp { port, interval } => {
                    port_number("readiness probe: port", u32::from(*port))?;
                    milliseconds("readiness probe: interval_ms", *interval)?;
                }
                Probe::Exec { command, interval } => {
                    arguments("readiness probe: command", command)?;
                    milliseconds("readiness probe: interval_ms", *interval)?;
                }
            }
            config.probe = Some(probe);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_checked_and_there_is_one() {
        assert!(Config::new().set_readiness_probe(Probe::tcp(0)).is_err());
        assert!(Config::new().set_readiness_probe(Probe::tcp(80).every(Duration::ZERO)).is_err());
        assert!(Config::new().set_readiness_probe(Probe::exec(Vec::<String>::new())).is_err());
        assert!(Config::new().set_readiness_probe(Probe::exec(["a\0"])).is_err());
        let mut config = Config::new();
        config.set_readiness_probe(Probe::exec(["true"])).unwrap();
        assert!(config.set_readiness_probe(Probe::tcp(80)).unwrap_err().message().contains("exactly one"));
        assert_eq!(config.readiness_probe(), Some(&Probe::exec(["true"]).every(Duration::from_millis(100))));
    }
}
