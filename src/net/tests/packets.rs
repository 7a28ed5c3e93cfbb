//! Packets put together byte by byte and sent past the kernel's stack, as gVisor's are, or a hostile sender's.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockaddrLike, bind, recv, recvfrom, send, setsockopt, sockopt,
};
use nix::sys::time::TimeVal;

use super::space::{Side, Space};
use crate::topology::{GATEWAY_MAC, SANDBOX_MAC};

/// ETH_P_ALL, in network order as the kernel wants it.
const ALL: u16 = 0x0003_u16.to_be();
/// PACKET_OUTGOING
const OUTGOING: u8 = 4;

/// A raw end of an interface.
pub(super) struct Wire {
    fd: OwnedFd,
}

/// A packet to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) from: (Ipv4Addr, u16),
    pub(super) to: (Ipv4Addr, u16),
    pub(super) what: What,
}

/// What is in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// The first packet of a TCP connection.
    Syn,
    /// A UDP datagram of one byte.
    Datagram(u8),
}

/// What is looked at of a packet that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) protocol: u8,
    /// The destination port and the flags, of TCP.
    pub(super) port: u16,
    pub(super) flags: u8,
}

impl Wire {
    /// On one interface, or all.
    pub(super) fn open(space: &mut Space, side: Side, index: Option<i32>) -> Self {
        let fd = space.socket(side, libc::AF_PACKET, libc::SOCK_RAW, i32::from(ALL));
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(10, 0)).unwrap();
        if let Some(index) = index {
            bind(fd.as_raw_fd(), &link(index)).unwrap();
        }
        Self { fd }
    }

    pub(super) fn send(&self, packet: &Packet) {
        let mut frame = GATEWAY_MAC.to_vec();
        frame.extend_from_slice(&SANDBOX_MAC);
        frame.extend_from_slice(&[0x08, 0x00]);
        frame.extend_from_slice(&packet.bytes());
        send(self.fd.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
    }

    /// Asks who has an address of the gateway's, in the name of another.
    pub(super) fn ask_arp(&self, sender: Ipv4Addr, target: Ipv4Addr) {
        let mut frame = [[0xff; 6], SANDBOX_MAC].concat();
        frame.extend_from_slice(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
        frame.extend_from_slice(&SANDBOX_MAC);
        frame.extend_from_slice(&sender.octets());
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&target.octets());
        send(self.fd.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
    }

    /// The next IPv4 packet that comes in.
    pub(super) fn next(&self) -> Seen {
        loop {
            let mut frame = [0; 2048];
            let length = recv(self.fd.as_raw_fd(), &mut frame, MsgFlags::empty()).unwrap();
            // Its own are seen too.
            if let Some(seen) = Seen::parse(&frame[..length])
                && frame[6..12] == GATEWAY_MAC
            {
                return seen;
            }
        }
    }

    /// What was sent out, on any interface, so far.
    pub(super) fn sent_out(&self) -> Vec<Seen> {
        let mut all = Vec::new();
        let mut frame = [0; 2048];
        setsockopt(&self.fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 1)).unwrap();
        loop {
            match recvfrom::<LinkAddr>(self.fd.as_raw_fd(), &mut frame) {
                Ok((length, from)) => {
                    let kind = from.unwrap().pkttype();
                    all.extend(Seen::parse(&frame[..length]).filter(|_| kind == OUTGOING));
                }
                Err(Errno::EAGAIN) => return all,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[allow(unsafe_code, reason = "nix makes link addresses from raw ones only")]
fn link(index: i32) -> LinkAddr {
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(AddressFamily::Packet as i32).unwrap(),
        sll_protocol: ALL,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of_val(&address)).unwrap();
    // SAFETY: the pointer is to a whole sockaddr_ll, of which a copy is made.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }.unwrap()
}

impl Packet {
    fn bytes(&self) -> Vec<u8> {
        let mut transport = self.from.1.to_be_bytes().to_vec();
        transport.extend_from_slice(&self.to.1.to_be_bytes());
        let (protocol, checked_at) = match self.what {
            What::Syn => {
                transport.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
                (6, 16)
            }
            What::Datagram(byte) => {
                transport.extend_from_slice(&[0, 9, 0, 0, byte]);
                (17, 6)
            }
        };
        let length = u8::try_from(transport.len()).unwrap();
        let mut pseudo = [self.from.0.octets(), self.to.0.octets()].concat();
        pseudo.extend_from_slice(&[0, protocol, 0, length]);
        pseudo.extend_from_slice(&transport);
        let sum = checksum(&pseudo);
        transport[checked_at..checked_at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut ip = vec![0x45, 0, 0, 20 + length, 0, 1, 0x40, 0, 64, protocol, 0, 0];
        ip.extend_from_slice(&[self.from.0.octets(), self.to.0.octets()].concat());
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip.extend_from_slice(&transport);
        ip
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

impl Seen {
    fn parse(frame: &[u8]) -> Option<Self> {
        if frame.get(12..14)? != [0x08, 0x00] {
            return None;
        }
        let ip = &frame[14..];
        let transport = &ip[usize::from(ip[0] & 0xf) * 4..];
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        Some(Self {
            from: address(12),
            to: address(16),
            protocol: ip[9],
            port: u16::from_be_bytes([*transport.get(2)?, *transport.get(3)?]),
            flags: if ip[9] == 6 { *transport.get(13)? } else { 0 },
        })
    }
}
