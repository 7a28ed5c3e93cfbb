//! Packets by hand: what a sandbox whose kernel is lost can put on its wire, and what comes back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};

use crate::net::topology::{GATEWAY_MAC, SANDBOX_MAC};

pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

/// A raw socket on every link of the namespace.
pub(super) struct Wire {
    socket: OwnedFd,
}

/// A packet as it was seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The index of the link.
    pub(super) link: usize,
    /// It was sent from this side.
    pub(super) outgoing: bool,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    /// What follows the IP header.
    pub(super) rest: Vec<u8>,
}

impl Seen {
    pub(super) fn tcp_flags(&self) -> Option<u8> {
        (self.protocol == TCP).then(|| self.rest.get(13).copied()).flatten()
    }

    pub(super) fn ports(&self) -> Option<(u16, u16)> {
        let at =
            |index: usize| Some(u16::from_be_bytes([*self.rest.get(index)?, *self.rest.get(index + 1)?]));
        Some((at(0)?, at(2)?))
    }
}

impl Wire {
    pub(super) fn open() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        Self { socket }
    }

    /// Sends a frame out of a link.
    pub(super) fn send(&self, link: &str, frame: &[u8]) {
        let address: LinkAddr = getifaddrs()
            .unwrap()
            .filter(|one| one.interface_name == link)
            .find_map(|one| one.address?.as_link_addr().copied())
            .unwrap();
        let sent = sendto(self.socket.as_raw_fd(), frame, &address, MsgFlags::empty());
        assert_eq!(sent, Ok(frame.len()));
    }

    /// The next packet of IP that is there already.
    pub(super) fn take(&self) -> Option<Seen> {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer).ok()?;
            let from = from.unwrap();
            // PACKET_OUTGOING
            let outgoing = from.pkttype() == 4;
            if let Some(seen) = parse(from.ifindex(), outgoing, buffer.get(..length).unwrap()) {
                return Some(seen);
            }
        }
    }

    /// The next packet that came in, when it comes.
    pub(super) fn wait(&self) -> Seen {
        loop {
            match self.take() {
                Some(seen) if !seen.outgoing => return seen,
                Some(_) => {}
                None => super::readable(&self.socket),
            }
        }
    }
}

fn parse(link: usize, outgoing: bool, frame: &[u8]) -> Option<Seen> {
    let (kind, packet) = (frame.get(12..14)?, frame.get(14..)?);
    let (source, destination, protocol, rest): (IpAddr, IpAddr, u8, &[u8]) = match kind {
        [0x08, 0x00] => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let four = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok().map(Ipv4Addr::from);
            (four(12)?.into(), four(16)?.into(), *packet.get(9)?, packet.get(header..)?)
        }
        [0x86, 0xdd] => {
            let six = |at: usize| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok().map(Ipv6Addr::from);
            (six(8)?.into(), six(24)?.into(), *packet.get(6)?, packet.get(40..)?)
        }
        _ => return None,
    };
    Some(Seen { link, outgoing, source, destination, protocol, rest: rest.to_vec() })
}

fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A frame from the sandbox to the gateway.
pub(super) fn frame(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let (kind, header) = match source {
        IpAddr::V4(_) => {
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
            header[2..4].copy_from_slice(&(length + 20).to_be_bytes());
            header.extend(octets(source));
            header.extend(octets(destination));
            let sum = sum(&[&header]);
            header[10..12].copy_from_slice(&sum);
            ([0x08, 0x00], header)
        }
        IpAddr::V6(_) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, protocol, 64];
            header[4..6].copy_from_slice(&length.to_be_bytes());
            header.extend(octets(source));
            header.extend(octets(destination));
            ([0x86, 0xdd], header)
        }
    };
    [&GATEWAY_MAC[..], &SANDBOX_MAC, &kind, &header, payload].concat()
}

/// A TCP segment without payload.
pub(super) fn tcp(source: SocketAddr, destination: SocketAddr, flags: u8) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source.port().to_be_bytes());
    segment.extend(destination.port().to_be_bytes());
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x10, 0, 0, 0, 0, 0]);
    let (from, to) = (octets(source.ip()), octets(destination.ip()));
    let sum = sum(&[&from, &to, &[0, TCP, 0, 20], &segment]);
    segment[16..18].copy_from_slice(&sum);
    frame(source.ip(), destination.ip(), TCP, &segment)
}

/// A UDP datagram of four bytes.
pub(super) fn udp(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend([0, 12, 0, 0, b'p', b'i', b'n', b'g']);
    let (from, to) = (octets(source.ip()), octets(destination.ip()));
    let sum = sum(&[&from, &to, &[0, UDP, 0, 12], &datagram]);
    datagram[6..8].copy_from_slice(&sum);
    frame(source.ip(), destination.ip(), UDP, &datagram)
}
