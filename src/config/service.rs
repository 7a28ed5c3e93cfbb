//! Services of the host that a sandbox is given on purpose.

use std::net::SocketAddr;

use super::Config;
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The port of the gateway's address that belongs to the resolver.
const DNS_PORT: u16 = 53;
/// The most services: each is a listening socket.
const MAX_HOST_SERVICES: usize = 16;

/// A port of the gateway's address, and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostService {
    /// The port on 192.0.0.1, for the sandbox.
    pub(crate) port: u16,
    /// An address and port as the host reaches it.
    pub(crate) to: SocketAddr,
}

impl Config {
    /// Gives the sandbox one TCP port of the gateway's address, 192.0.0.1, which leads to an address that the host
    /// names (`127.0.0.1:8080`, `[::1]:8080`): say a proxy of the host's for models. Nothing else of that address is
    /// reached by it, and no policy closes it. Port 53 belongs to the sandbox's resolver.
    pub fn add_host_service(&mut self, port: u16, address: &str) -> Result<&mut Self> {
        self.latch(|config| {
            let refuse =
                |why: &str| Err(Error::invalid(format!("host service {port} to {address:?}: {why}")));
            if port == 0 || port == DNS_PORT {
                return refuse("the port must be from 1 to 65535, and not 53, which is the resolver's");
            }
            let Ok(to) = address.parse::<SocketAddr>() else {
                return refuse(
                    "must lead to an IP address and a port, such as 127.0.0.1:8080; names are not looked up",
                );
            };
            if to.port() == 0 {
                return refuse("port 0 can't be connected to");
            }
            if config.host_services.iter().any(|service| service.port == port) {
                return refuse("the port has a service already");
            }
            if config.host_services.len() >= MAX_HOST_SERVICES {
                return refuse("there are 16 of them already, the most there may be");
            }
            config.host_services.push(HostService { port, to });
            Ok(())
        })
    }

    /// In the order in which they were added.
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
