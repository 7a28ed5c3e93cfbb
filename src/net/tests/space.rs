//! The namespaces of a test.

use std::io::{BufRead, BufReader, IoSliceMut, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    Backlog, ControlMessageOwned, MsgFlags, SockaddrStorage, bind, connect, getsockopt, listen, recvmsg,
    setsockopt, sockopt,
};
use nix::sys::time::TimeVal;
use serde_json::{Value, json};

use crate::net::links::{Plan, Sockets, configure_links};
use crate::net::nft::Rules;
use crate::net::sysctl;

/// A namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Gateway,
    Sandbox,
}

/// S and G, and the process that made them. They end with it.
#[derive(Debug)]
pub(super) struct Space {
    channel: BufReader<UnixStream>,
    process: Child,
}

impl Space {
    /// Two empty namespaces, with the settings of G where they can be written.
    pub(super) fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let process = Command::new("/usr/bin/python3")
            .args(["-I", "-c", include_str!("namespaces.py")])
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        let mut space = Self { channel: BufReader::new(ours), process };
        for setting in sysctl::GATEWAY {
            let path = format!("/proc/sys/{}", setting.name);
            let answer =
                space.ask(Side::Gateway, json!({"do": "write", "path": path, "text": setting.value}));
            assert!(!setting.mandatory || answer.0["error"].is_null(), "{}: {answer:?}", setting.name);
        }
        space
    }

    /// With the topology laid, and the rules loaded.
    pub(super) fn with_rules(ipv6: bool) -> (Self, Rules) {
        let mut space = Self::new();
        configure_links(space.sockets(), &Plan { mtu: 1500, ipv6 }).unwrap();
        let rules = Rules::load(space.filter(), ipv6).unwrap();
        (space, rules)
    }

    /// What a keeper passes for the links.
    pub(super) fn sockets(&mut self) -> Sockets {
        let route = |space: &mut Self, side| {
            space.socket(side, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)
        };
        Sockets {
            route_g: route(self, Side::Gateway),
            route_s: route(self, Side::Sandbox),
            ns_s: self.ask(Side::Sandbox, json!({"do": "namespace"})).1.unwrap(),
        }
    }

    /// What a keeper passes for the rules.
    pub(super) fn filter(&mut self) -> OwnedFd {
        self.socket(Side::Gateway, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)
    }

    pub(super) fn socket(&mut self, side: Side, family: i32, kind: i32, protocol: i32) -> OwnedFd {
        let request = json!({"do": "socket", "family": family, "type": kind, "protocol": protocol});
        let (answer, fd) = self.ask(side, request);
        fd.unwrap_or_else(|| panic!("{answer}"))
    }

    /// What a program prints in a namespace.
    pub(super) fn run(&mut self, side: Side, command: &[&str]) -> String {
        let (answer, _) = self.ask(side, json!({"do": "run", "command": command}));
        assert_eq!(answer["code"], 0, "{command:?}: {answer}");
        answer["out"].as_str().unwrap().to_owned()
    }

    /// What `ip -j` says.
    pub(super) fn ip(&mut self, side: Side, what: &str) -> Value {
        let command: Vec<&str> = ["ip", "-j"].into_iter().chain(what.split(' ')).collect();
        let text = self.run(side, &command);
        if text.is_empty() { json!([]) } else { serde_json::from_str(&text).unwrap() }
    }

    /// What nft says.
    pub(super) fn ruleset(&mut self) -> String {
        self.run(Side::Gateway, &["nft", "list", "ruleset"])
    }

    /// A TCP socket that gives up after some seconds.
    fn tcp(&mut self, side: Side, address: IpAddr) -> OwnedFd {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let fd = self.socket(side, family, libc::SOCK_STREAM, 0);
        bounded(&fd);
        fd
    }

    pub(super) fn connect(&mut self, side: Side, to: SocketAddr) -> nix::Result<TcpStream> {
        let fd = self.tcp(side, to.ip());
        connect_whole(&fd, to)?;
        Ok(fd.into())
    }

    pub(super) fn connect_from(&mut self, from: Ipv4Addr, to: SocketAddr) -> nix::Result<TcpStream> {
        let fd = self.tcp(Side::Gateway, to.ip());
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((from, 0))))?;
        connect_whole(&fd, to)?;
        Ok(fd.into())
    }

    /// A listener, in G one that takes what is delivered to it whatever its destination.
    pub(super) fn listen(&mut self, side: Side, at: SocketAddr) -> TcpListener {
        let fd = self.tcp(side, at.ip());
        setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
        if side == Side::Gateway {
            setsockopt(&fd, sockopt::IpTransparent, &true).unwrap();
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(at)).unwrap();
        listen(&fd, Backlog::new(16).unwrap()).unwrap();
        fd.into()
    }

    pub(super) fn udp(&mut self, side: Side, at: SocketAddr) -> UdpSocket {
        let family = if at.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let fd = self.socket(side, family, libc::SOCK_DGRAM, 0);
        bounded(&fd);
        if side == Side::Gateway {
            setsockopt(&fd, sockopt::IpTransparent, &true).unwrap();
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(at)).unwrap();
        fd.into()
    }

    fn ask(&mut self, side: Side, mut request: Value) -> (Value, Option<OwnedFd>) {
        request["space"] = json!(if side == Side::Gateway { "g" } else { "s" });
        self.channel.get_ref().write_all(format!("{request}\n").as_bytes()).unwrap();
        // The first byte of the answer comes with the descriptor.
        let mut first = [0];
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut parts = [IoSliceMut::new(&mut first)];
        let socket = self.channel.get_ref().as_raw_fd();
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket, &mut parts, Some(&mut control), flags).unwrap();
        assert_eq!(message.bytes, 1, "the namespaces could not be made");
        let fd = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let mut line = String::from_utf8(first.to_vec()).unwrap();
        self.channel.read_line(&mut line).unwrap();
        (serde_json::from_str(&line).unwrap(), fd.map(own))
    }
}

#[allow(unsafe_code, reason = "a descriptor that was just received has no owner yet")]
fn own(fd: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: recvmsg has just made this descriptor for us, and nothing else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Connects. On a socket with a time-out, a signal interrupts connect even if it has no handler, and the connection is still
/// being made (signal(7), connect(2)).
fn connect_whole(fd: &OwnedFd, to: SocketAddr) -> nix::Result<()> {
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Err(Errno::EINTR) => {}
        result => return result,
    }
    let mut writable = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    while poll(&mut writable, PollTimeout::from(10_000_u16)) == Err(Errno::EINTR) {}
    match getsockopt(fd, sockopt::SocketError)? {
        0 => Ok(()),
        error => Err(Errno::from_raw(error)),
    }
}

fn bounded(fd: &OwnedFd) {
    let patience = TimeVal::new(10, 0);
    setsockopt(fd, sockopt::SendTimeout, &patience).unwrap();
    setsockopt(fd, sockopt::ReceiveTimeout, &patience).unwrap();
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.channel.get_ref().shutdown(std::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}
