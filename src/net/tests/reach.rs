//! Who reaches whom: G reaches servers in S; S reaches nobody.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{SockaddrStorage, getsockopt, sockopt};

use super::{Pair, Role, Where, inside};

/// A server in S that sends everything back.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    _role: Role,
}

pub(super) fn serve(pair: &Pair, address: &str) -> Server {
    let mut role = pair.play(Where::S, "serve", &[(inside::ADDRESS, address.to_owned())]);
    Server { address: role.says().parse().unwrap(), _role: role }
}

/// Connects from G, with a socket that the keeper made there.
pub(super) fn connect(pair: &mut Pair, to: SocketAddr) -> io::Result<TcpStream> {
    let socket: OwnedFd = pair.sockets(to.is_ipv6(), 1).remove(0);
    match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    super::wait(&socket, PollFlags::POLLOUT);
    match getsockopt(&socket, sockopt::SocketError).unwrap() {
        0 => {
            let stream = TcpStream::from(socket);
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
            Ok(stream)
        }
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn echoes(mut stream: TcpStream) {
    let sent: Vec<u8> = (0..200_000_u32).map(|at| u8::try_from(at % 253).unwrap()).collect();
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    writing.join().unwrap();
    assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
}

#[test]
fn sockets_of_g_reach_servers_in_s_and_closed_ports_are_refused() {
    for (ipv6, own) in [(false, "192.0.0.2"), (true, "192.0.0.2"), (true, "[fd73:6278:6e65:7400::2]")] {
        let mut pair = Pair::new(ipv6);
        let server = serve(&pair, &format!("{own}:0"));
        for _ in 0..3 {
            echoes(connect(&mut pair, server.address).unwrap());
        }
        let closed: SocketAddr = format!("{own}:1").parse().unwrap();
        let error = connect(&mut pair, closed).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{own}");
    }
}

#[test]
fn s_reaches_nobody_and_is_told_so_at_once() {
    let pair = Pair::new(false);
    let mut watch = pair.play(Where::G, "watch", &[]);
    assert_eq!(watch.says(), "ready");
    let mut listener = pair.play(Where::G, "listen", &[(inside::ADDRESS, "192.0.0.1:0".into())]);
    let address = listener.says();
    pair.play(Where::S, "reach", &[(inside::ADDRESS, address)]).end();
    listener.end();
    watch.end();
}

#[test]
fn raw_frames_get_no_further() {
    for ipv6 in [false, true] {
        let pair = Pair::new(ipv6);
        let mut watch = pair.play(Where::G, "watch", &[]);
        assert_eq!(watch.says(), "ready");
        let mut listener = pair.play(Where::G, "listen", &[(inside::ADDRESS, "0.0.0.0:0".into())]);
        let port = listener.says().parse::<SocketAddr>().unwrap().port();
        pair.play(Where::S, "raw", &[(inside::ADDRESS, format!("192.0.0.1:{port}"))]).end();
        listener.end();
        watch.end();
    }
}

#[test]
fn ipv6_that_is_not_offered_does_not_exist() {
    let pair = Pair::new(false);
    let mut watch = pair.play(Where::G, "watch", &[]);
    assert_eq!(watch.says(), "ready");
    pair.play(Where::S, "raw6", &[]).end();
    watch.end();
}

#[test]
fn answers_to_gs_own_connections_pass_while_a_syn_to_the_same_port_does_not() {
    let mut pair = Pair::new(false);
    let server = serve(&pair, "192.0.0.2:0");
    let stream = connect(&mut pair, server.address).unwrap();
    let own = stream.local_addr().unwrap();
    // The port of a live connection of ours, and nobody listens there.
    pair.play(Where::S, "reach", &[(inside::ADDRESS, own.to_string())]).end();
    echoes(stream);
}
