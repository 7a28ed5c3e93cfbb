//! The DNS servers that the sandbox's resolver asks.

use std::net::{IpAddr, SocketAddr};

use super::Config;
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The port of servers that are given without one.
const DNS_PORT: u16 = 53;
/// The most servers: each takes a share of the time that a query may take.
const MAX_NAMESERVERS: usize = 8;

impl Config {
    /// Adds an upstream DNS server for the sandbox, instead of the host's `/etc/resolv.conf`: an address (`192.0.2.53`,
    /// `2001:db8::53`), or an address and a port (`127.0.0.1:5353`, `[2001:db8::53]:5353`). Later servers are used when
    /// earlier ones don't answer.
    ///
    /// Queries are sent from the host: the server may be at any address that the host reaches, even if the sandbox
    /// can't reach it.
    pub fn add_nameserver(&mut self, address: &str) -> Result<&mut Self> {
        self.latch(|config| {
            let refuse = |why: &str| Error::invalid(format!("name server {address:?}: {why}"));
            let parsed = match address.parse::<IpAddr>() {
                Ok(address) => Ok(SocketAddr::new(address, DNS_PORT)),
                Err(_) => address.parse::<SocketAddr>(),
            };
            let server =
                parsed.map_err(|_| refuse("must be an IP address, or one and a port (127.0.0.1:5353)"))?;
            if server.port() == 0 {
                return Err(refuse("must not be port 0"));
            }
            if config.nameservers.len() >= MAX_NAMESERVERS {
                return Err(refuse("a sandbox takes at most 8 name servers"));
            }
            config.nameservers.push(server);
            Ok(())
        })
    }

    /// Empty: the host's.
    pub(crate) fn nameservers(&self) -> &[SocketAddr] {
        &self.nameservers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_a_port() {
        let mut config = Config::new();
        for text in ["192.0.2.53", "127.0.0.1:5353", "2001:db8::53", "[2001:db8::53]:5353"] {
            config.add_nameserver(text).unwrap();
        }
        let texts: Vec<String> = config.nameservers().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.53:53", "127.0.0.1:5353", "[2001:db8::53]:53", "[2001:db8::53]:5353"]);
        for bad in
            ["", "localhost", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:65536", "192.0.2.053", " 192.0.2.53"]
        {
            let error = config.clone().add_nameserver(bad).map(drop).expect_err(bad);
            assert!(error.message().contains("name server"), "{error}");
        }
        for _ in 0..4 {
            config.add_nameserver("192.0.2.53").unwrap();
        }
        assert!(config.add_nameserver("192.0.2.53").unwrap_err().message().contains('8'));
    }
}
