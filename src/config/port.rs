//! The ports that tunnels lead to, and who may use them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnetwork::IpNetwork;

use super::Config;
use super::rules::refuse;
use crate::error::{Error, Result};
use crate::policy::cidr;
use crate::sticky::Sticky;

/// The most ranges in an inbound allowlist.
const INBOUND_RANGES: usize = 4096;
/// The most ports of one sandbox.
const PORTS: usize = 256;

/// What a tunnel does with the bytes of a port. The numbers are part of the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum PortKind {
    /// TLS ends in the library; the server inside speaks plain TCP.
    Encrypted = 1,
    /// TLS ends in the library, which also offers HTTP/2 by ALPN.
    H2 = 2,
    /// Raw TCP.
    Unencrypted = 3,
}

/// A port of a sandbox that gets a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    container_port: u16,
    kind: PortKind,
    listen: SocketAddr,
}

impl Port {
    /// The port that the server inside listens on.
    pub fn container_port(&self) -> u16 {
        self.container_port
    }

    /// What the tunnel does with the bytes.
    pub fn kind(&self) -> PortKind {
        self.kind
    }

    /// Where the tunnel listens on the host; with port 0 the kernel picks one.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }
}

impl Config {
    /// Adds a tunnel to a port inside. A port is listed once, of whatever kind.
    ///
    /// It listens on 127.0.0.1, on a port that the kernel picks; see [`bind_port`](Self::bind_port). Every user of this
    /// machine can connect to it there: a loopback address has no owner.
    pub fn add_port(&mut self, container_port: u16, kind: PortKind) -> Result<&mut Self> {
        self.add_any_port(u32::from(container_port), kind)
    }

    /// The same for a number that may not be a port at all: C's integers convert silently.
    pub(crate) fn add_any_port(&mut self, number: u32, kind: PortKind) -> Result<&mut Self> {
        self.sticky(|config| {
            let container_port = port_number("port", number)?;
            if let Some(other) = config.ports.iter().find(|port| port.container_port == container_port) {
                return Err(Error::invalid(format!(
                    "port {container_port}: is listed already, as {}; a port may be listed once",
                    other.kind.name()
                )));
            }
            if config.ports.len() >= PORTS {
                return Err(Error::invalid(format!(
                    "port {container_port}: a sandbox takes at most {PORTS} ports"
                )));
            }
            let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
            config.ports.push(Port { container_port, kind, listen });
            Ok(())
        })
    }

    /// Where the tunnel of a listed port listens on the host. Port 0 lets the kernel pick one.
    ///
    /// Any address but a loopback one lets other machines reach the sandbox's server: see
    /// [`set_inbound_cidr_allowlist`](Self::set_inbound_cidr_allowlist).
    pub fn bind_port(&mut self, container_port: u16, listen: SocketAddr) -> Result<&mut Self> {
        self.sticky(|config| {
            let taken = config.ports.iter().find(|port| {
                port.container_port != container_port && port.listen == listen && listen.port() != 0
            });
            if let Some(other) = taken {
                return Err(Error::invalid(format!(
                    "port {container_port}: {listen} is where the tunnel of port {} listens",
                    other.container_port
                )));
            }
            match config.ports.iter_mut().find(|port| port.container_port == container_port) {
                None => Err(Error::invalid(format!(
                    "port {container_port}: is not listed; add it before saying where its tunnel listens"
                ))),
                Some(port) => {
                    port.listen = listen;
                    Ok(())
                }
            }
        })
    }

    /// C's form of [`bind_port`](Self::bind_port): the parts as they come.
    pub(crate) fn bind_any_port(&mut self, number: u32, address: &str, host_port: u32) -> Result<&mut Self> {
        let listen = port_number("port", number).and_then(|container_port| {
            let address: IpAddr = address.parse().map_err(|_| {
                refuse("bind address", address, "must be an IPv4 or IPv6 address; names are not looked up")
            })?;
            let host_port = u16::try_from(host_port)
                .map_err(|_| Error::invalid(format!("host port {host_port}: must be from 0 to 65535")))?;
            Ok((container_port, SocketAddr::new(address, host_port)))
        });
        match listen {
            Ok((container_port, listen)) => self.bind_port(container_port, listen),
            Err(error) => self.sticky(|_| Err(error)),
        }
    }

    /// Who may connect to the tunnels: only peers in one of the ranges. An empty list lets nobody in.
    pub fn set_inbound_cidr_allowlist<I>(&mut self, ranges: I) -> Result<&mut Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        self.sticky(|config| {
            let mut parsed: Vec<IpNetwork> = Vec::new();
            for range in ranges {
                if parsed.len() >= INBOUND_RANGES {
                    return Err(Error::invalid(format!(
                        "inbound_cidr_allowlist: at most {INBOUND_RANGES} ranges"
                    )));
                }
                parsed.push(
                    cidr::parse(range.as_ref()).map_err(|error| error.context("inbound_cidr_allowlist"))?,
                );
            }
            config.inbound = Some(parsed);
            Ok(())
        })
    }
}

impl PortKind {
    fn name(self) -> &'static str {
        match self {
            Self::Encrypted => "an encrypted port",
            Self::H2 => "an h2 port",
            Self::Unencrypted => "an unencrypted port",
        }
    }
}

/// A port number from 1 to 65535.
pub(super) fn port_number(setting: &str, number: u32) -> Result<u16> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Error::invalid(format!("{setting} {number}: must be from 1 to 65535")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_port_is_listed_once_of_whatever_kind() {
        for second in [PortKind::Encrypted, PortKind::H2, PortKind::Unencrypted] {
            let mut config = Config::new();
            config.add_port(8080, PortKind::H2).unwrap().add_port(8081, second).unwrap();
            let error = config.add_port(8080, second).unwrap_err();
            assert_eq!(
                error.message(),
                "port 8080: is listed already, as an h2 port; a port may be listed once"
            );
            assert_eq!(config.check().unwrap_err().message(), error.message());
        }
    }

    #[test]
    fn tunnels_listen_on_loopback_unless_asked_otherwise() {
        let mut config = Config::new();
        config.add_port(80, PortKind::Unencrypted).unwrap();
        assert_eq!(config.ports()[0].listen().to_string(), "127.0.0.1:0");
        config.bind_any_port(80, "::1", 8080).unwrap();
        assert_eq!(config.ports()[0].listen().to_string(), "[::1]:8080");
    }

    #[test]
    fn bindings_are_checked() {
        let mut config = Config::new();
        config.add_port(80, PortKind::Unencrypted).unwrap().add_port(81, PortKind::Unencrypted).unwrap();
        assert!(config.bind_any_port(82, "127.0.0.1", 0).unwrap_err().message().contains("not listed"));
        assert!(config.bind_any_port(80, "localhost", 0).unwrap_err().message().contains("not looked up"));
        assert!(config.bind_any_port(80, "127.0.0.1", 65_536).unwrap_err().message().contains("65536"));
        config.bind_any_port(80, "127.0.0.1", 9000).unwrap();
        assert!(config.bind_any_port(81, "127.0.0.1", 9000).unwrap_err().message().contains("port 80"));
        config.bind_any_port(80, "127.0.0.1", 9000).unwrap();
        config.bind_any_port(81, "0.0.0.0", 0).unwrap();
    }

    #[test]
    fn an_inbound_list_is_strict_and_empty_is_not_absent() {
        let mut config = Config::new();
        assert!(config.inbound_cidr_allowlist().is_none());
        config.set_inbound_cidr_allowlist(Vec::<&str>::new()).unwrap();
        assert_eq!(config.inbound_cidr_allowlist(), Some(&[][..]));
        assert!(config.set_inbound_cidr_allowlist(["10.0.0.0/8", "10.0.0.1/8"]).is_err());
        assert_eq!(config.inbound_cidr_allowlist(), Some(&[][..]), "a refused list changes nothing");
    }

    proptest! {
        #[test]
        fn only_ports_are_ports(number: u32) {
            let mut config = Config::new();
            let accepted = config.add_any_port(number, PortKind::Encrypted).is_ok();
            prop_assert_eq!(accepted, (1..=65_535).contains(&number));
            if !accepted {
                prop_assert!(config.check().unwrap_err().message().contains(&number.to_string()));
            }
        }
    }
}
