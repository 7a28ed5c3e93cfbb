//! Services of the host that a sandbox may use.

use std::net::SocketAddr;

use super::Config;
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The resolver's port on the gateway's address.
const DNS_PORT: u16 = 53;
/// The most services: each is a listening socket.
const MAX_HOST_SERVICES: usize = 16;

/// A port of the gateway's address, and its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostService {
    /// The port on 192.0.0.1, which the sandbox connects to.
    pub(crate) port: u16,
    /// The destination, which the host connects to.
    pub(crate) to: SocketAddr,
}

impl Config {
    /// Forwards one TCP port of the gateway's address, 192.0.0.1, to an address that the host names (`127.0.0.1:8080`,
    /// `[::1]:8080`), for example a model proxy of the host's. The sandbox reaches nothing else at that address. No policy
    /// closes the port. Port 53 belongs to the sandbox's resolver.
    pub fn add_host_service(&mut self, port: u16, address: &str) -> Result<&mut Self> {
        self.latch(|config| {
            let refuse =
                |why: &str| Err(Error::invalid(format!("host service {port} to {address:?}: {why}")));
            if port == 0 || port == DNS_PORT {
                return refuse("the port must be from 1 to 65535, and not 53, which is the resolver's");
            }
            let Ok(to) = address.parse::<SocketAddr>() else {
                return refuse(
                    "must be an IP address and a port, such as 127.0.0.1:8080; names are not looked up",
                );
            };
            if to.port() == 0 {
                return refuse("must not be port 0");
            }
            if config.host_services.iter().any(|service| service.port == port) {
                return refuse("the port must have one service; it has one already");
            }
            if config.host_services.len() >= MAX_HOST_SERVICES {
                return refuse("a sandbox takes at most 16 host services");
            }
            config.host_services.push(HostService { port, to });
            Ok(())
        })
    }

    /// In the order of their addition.
    pub(crate) fn host_services(&self) -> &[HostService] {
        &self.host_services
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_one_port_that_leads_to_one_address() {
        let mut config = Config::new();
        config.add_host_service(8080, "127.0.0.1:80").unwrap().add_host_service(1, "[::1]:443").unwrap();
        let services = [("127.0.0.1:80", 8080), ("[::1]:443", 1)];
        let services = services.map(|(to, port)| HostService { port, to: to.parse().unwrap() });
        assert_eq!(config.host_services(), services);
        for (port, address, why) in [
            (0, "127.0.0.1:80", "from 1 to 65535"),
            (53, "127.0.0.1:53", "resolver"),
            (8080, "127.0.0.1:81", "already"),
            (2, "localhost:80", "not looked up"),
            (2, "127.0.0.1", "a port"),
            (2, "127.0.0.1:0", "port 0"),
            (2, "127.1:80", "IP address"),
        ] {
            let error = Config::new()
                .add_host_service(8080, "127.0.0.1:80")
                .unwrap()
                .add_host_service(port, address)
                .map(drop)
                .unwrap_err();
            assert!(error.message().contains(why), "{port} {address}: {error}");
        }
    }
}
