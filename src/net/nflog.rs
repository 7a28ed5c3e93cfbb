//! NFLOG (nfnetlink_log): the packets that the rules of G refuse.
//!
//! The `refused` chain copies the beginning of each packet to a group, at a bounded rate; packets beyond that are in the
//! chain's counter only. The packets are the sandbox's: nothing in them is trusted to be complete.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

use super::message::{Message, Received, attribute, messages};
use super::netlink::Netlink;
use crate::error::{Context, Result};
use crate::policy::Protocol;

/// The NFLOG group; G has no other.
pub(super) const GROUP: u16 = 1;
/// How many bytes of a packet are copied: the headers, with room for a few extensions.
pub(super) const SNAPLEN: u32 = 128;
/// How many packets the kernel gathers before it delivers them. None waits: the last ones of a sandbox that ends would be
/// lost.
pub(super) const QTHRESHOLD: u16 = 1;
/// How long the kernel gathers packets, in hundredths of a second.
const GATHER_TIMEOUT: u32 = 1;
/// The size of the kernel's buffer for gathered packets, and so of the longest datagram.
const MAX_DATAGRAM: u32 = 8192;

// linux/netfilter/nfnetlink.h and nfnetlink_log.h
const NFNL_SUBSYS_ULOG: u16 = 4;
const NFULNL_MSG_PACKET: u16 = 0;
const NFULNL_MSG_CONFIG: u16 = 1;
const NFULNL_CFG_CMD_BIND: u8 = 1;
const NFULNL_COPY_PACKET: u8 = 2;
const NFULA_CFG_CMD: u16 = 1;
const NFULA_CFG_MODE: u16 = 2;
const NFULA_CFG_NLBUFSIZ: u16 = 3;
const NFULA_CFG_TIMEOUT: u16 = 4;
const NFULA_CFG_QTHRESH: u16 = 5;
const NFULA_PAYLOAD: u16 = 9;

/// UDP-Lite, SCTP and DCCP have their ports where TCP and UDP have them.
const WITH_PORTS: [u8; 5] = [Protocol::Tcp.number(), Protocol::Udp.number(), 33, 132, 136];
/// IPv6's extension headers that have their length in the second byte, and the fragment header.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
const FRAGMENT: u8 = 44;
/// The most extension headers that are parsed.
const MAX_EXTENSIONS: usize = 6;

/// The destination of a refused packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Refused {
    /// The destination.
    pub(crate) to: IpAddr,
    /// The destination's port, or 0 where none is visible.
    pub(crate) port: u16,
    /// The IP protocol.
    pub(crate) protocol: u8,
}

/// The outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There may be more.
    More,
    /// Nothing is waiting.
    Nothing,
    /// The kernel dropped some for want of buffer space.
    Lost,
}

/// A socket that receives refused packets.
#[derive(Debug)]
pub(crate) struct NflogSocket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl NflogSocket {
    /// Over a NETLINK_NETFILTER socket of G. Fails where the kernel has no nfnetlink_log.
    pub(crate) fn listen(socket: OwnedFd) -> Result<Self> {
        let mut netlink = Netlink::new(socket)?;
        let mode: Vec<u8> = SNAPLEN.to_be_bytes().into_iter().chain([NFULNL_COPY_PACKET, 0]).collect();
        let [high, low] = GROUP.to_be_bytes();
        let kind = NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_CONFIG;
        let request = |what| Message::new(what, kind, 0).fixed(&[0, 0, high, low]);
        let bind = request("to receive refused packets").put(NFULA_CFG_CMD, &[NFULNL_CFG_CMD_BIND]);
        let options = request("to configure the log of refused packets")
            .put(NFULA_CFG_MODE, &mode)
            .put_be32(NFULA_CFG_NLBUFSIZ, MAX_DATAGRAM)
            .put_be32(NFULA_CFG_TIMEOUT, GATHER_TIMEOUT)
            .put_be32(NFULA_CFG_QTHRESH, QTHRESHOLD.into());
        netlink.request(vec![bind, options]).context("the log of refused packets (nfnetlink_log)")?;
        Ok(Self { fd: netlink.into_fd(), buffer: Vec::new() })
    }

    /// Reads one datagram and gives each packet in it to `take`.
    pub(crate) fn read(&mut self, mut take: impl FnMut(Refused)) -> io::Result<Progress> {
        self.buffer.resize(2 * MAX_DATAGRAM as usize, 0);
        match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                let received = self.buffer.get(..length).unwrap_or_default();
                messages(received).filter_map(|message| packet(&message)).for_each(&mut take);
                Ok(Progress::More)
            }
            Err(Errno::EINTR) => Ok(Progress::More),
            Err(Errno::EAGAIN) => Ok(Progress::Nothing),
            Err(Errno::ENOBUFS) => Ok(Progress::Lost),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for NflogSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn packet(message: &Received<'_>) -> Option<Refused> {
    if message.kind != NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET {
        return None;
    }
    destination(attribute(message.payload.get(4..)?, NFULA_PAYLOAD)?)
}

/// The destination, as far as the beginning of the packet shows it.
fn destination(packet: &[u8]) -> Option<Refused> {
    match packet.first()? >> 4 {
        4 => {
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
            let protocol = *packet.get(9)?;
            let first = u16::from_be_bytes([packet.get(6)? & 0x1f, *packet.get(7)?]) == 0;
            let header = usize::from(packet.first()? & 15) * 4;
            let port = if first { port(packet, header, protocol) } else { 0 };
            Some(Refused { to: to.into(), port, protocol })
        }
        6 => {
            let to = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
            let (protocol, header) = behind_extensions(packet, *packet.get(6)?);
            let port = header.map_or(0, |header| port(packet, header, protocol));
            Some(Refused { to: to.into(), port, protocol })
        }
        _ => None,
    }
}

fn port(packet: &[u8], header: usize, protocol: u8) -> u16 {
    let bytes = header.checked_add(2).and_then(|at| packet.get(at..at.checked_add(2)?));
    match bytes {
        Some([high, low]) if WITH_PORTS.contains(&protocol) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

/// The protocol behind an IPv6 packet's extension headers, and the offset of its header, if that is visible.
fn behind_extensions(packet: &[u8], mut protocol: u8) -> (u8, Option<usize>) {
    let mut at = 40;
    for _ in 0..MAX_EXTENSIONS {
        let [next, length, high, low] = match packet.get(at..at + 4) {
            Some([next, length, high, low]) => [*next, *length, *high, *low],
            _ => return (protocol, None),
        };
        match protocol {
            FRAGMENT if u16::from_be_bytes([high, low]) & 0xfff8 != 0 => return (next, None),
            FRAGMENT => at += 8,
            _ if EXTENSIONS.contains(&protocol) => at += (usize::from(length) + 1) * 8,
            _ => return (protocol, Some(at)),
        }
        protocol = next;
    }
    (protocol, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v4(fragment: u16, options: usize, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x40 | u8::try_from(5 + options / 4).unwrap();
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[16..20].copy_from_slice(&[203, 0, 113, 7]);
        packet.extend_from_slice(rest);
        packet
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = next;
        packet[24..40].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend_from_slice(rest);
        packet
    }

    fn seen(packet: &[u8]) -> Option<(String, u16, u8)> {
        destination(packet).map(|found| (found.to.to_string(), found.port, found.protocol))
    }

    #[test]
    fn the_destination_is_found_behind_options_and_extensions() {
        let ports = [0x12, 0x34, 0x01, 0xbb, 0, 0, 0, 0];
        let to4 = |port, protocol| Some(("203.0.113.7".to_owned(), port, protocol));
        assert_eq!(seen(&v4(0, 0, 6, &ports)), to4(443, 6));
        assert_eq!(seen(&v4(0x4000, 8, 17, &ports)), to4(443, 17));
        assert_eq!(seen(&v4(0x2001, 0, 17, &ports)), to4(0, 17), "a later fragment has no ports");
        assert_eq!(seen(&v4(0, 0, 1, &ports)), to4(0, 1), "ICMP has none");
        assert_eq!(seen(&v4(0, 0, 6, &ports[..3])), to4(0, 6), "cut off");
        let to6 = |port, protocol| Some(("2001:db8::7".to_owned(), port, protocol));
        assert_eq!(seen(&v6(6, &ports)), to6(443, 6));
        let behind = |extension: [u8; 8]| [&extension[..], &ports].concat();
        assert_eq!(seen(&v6(0, &behind([17, 0, 0, 0, 0, 0, 0, 0]))), to6(443, 17));
        assert_eq!(seen(&v6(44, &behind([17, 0, 0, 1, 0, 0, 0, 0]))), to6(443, 17));
        assert_eq!(seen(&v6(44, &behind([17, 0, 0, 8, 0, 0, 0, 0]))), to6(0, 17));
        assert_eq!(seen(&v6(0, &[0; 80])), to6(0, 0), "an endless chain is given up");
        assert_eq!(seen(&[]), None);
        assert_eq!(seen(&[0x45; 19]), None);
        assert_eq!(seen(&[0x50; 60]), None);
    }

    proptest! {
        #[test]
        fn whatever_a_sandbox_sends_is_read_within_its_bounds(packet: Vec<u8>, version in 3_u8..8) {
            let _ = destination(&packet);
            let mut packet = packet;
            if let Some(first) = packet.first_mut() {
                *first = *first & 15 | version << 4;
            }
            let _ = destination(&packet);
        }
    }
}
