//! Which rules there are, in the order in which a packet meets them. Their text is in `tests/golden`.
//!
//! ```text
//! prerouting   fixed: valid senders, the library's own traffic, then ⤳ egress, then ⤳ refused
//! egress       what the current policy allows; replaced as a whole
//! refused      rejects at once, so that programs don't run into time-outs
//! ```

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::expression::{Expression, Header, MetaKey, Reject, Verdict};
use super::generation::Generation;
use super::message::{NFPROTO_IPV4, NFPROTO_IPV6};
use super::set::{GATEWAY4, RESOLVED4, RESOLVED6, SERVICES};
use crate::net::route::MARK;
use crate::policy::Protocol;
use crate::topology::{
    GATEWAY, GATEWAY_LINK, GATEWAY6, NETWORK, NETWORK6, PREFIX, PREFIX6, SANDBOX, SANDBOX6,
};

/// Where the library's relays listen, on G's own 127.0.0.1 and ::1: out of the sandbox's reach, but by these
/// rules.
pub(crate) const RELAY_PORT: u16 = 9000;

/// The chains that the first chain goes on to.
pub(super) const EGRESS: &str = "egress";
pub(super) const REFUSED: &str = "refused";

/// The bits SYN and ACK of TCP's flags, and SYN alone: the first packet of a connection.
const SYN_ACK: u8 = 0x12;
const SYN: u8 = 0x02;
/// Where TCP's header has its flags, and TCP's and UDP's the destination port.
const FLAGS: Expression = Expression::Payload(Header::Transport, 13, 1);
const PORT: Expression = Expression::Payload(Header::Transport, 2, 2);
const DNS: u16 = 53;

/// How many refused packets a second are logged to the library, so that a flood of them costs it nothing.
const MAX_LOGGED_PER_SECOND: u32 = 500;

pub(super) type Rule = Vec<Expression>;

/// One IP version: its number for nf_tables, and where its header has the addresses.
#[derive(Clone, Copy, Debug)]
struct Version {
    number: u8,
    source: Field,
    destination: Field,
}

/// Offset and length.
type Field = (u32, u32);

const V4: Version = Version { number: NFPROTO_IPV4, source: (12, 4), destination: (16, 4) };
const V6: Version = Version { number: NFPROTO_IPV6, source: (8, 16), destination: (24, 16) };

impl Version {
    /// Packets of this version only: the offsets mean something else in the other's header.
    fn only(self) -> Rule {
        vec![Expression::Meta(MetaKey::Nfproto), Expression::CmpEq(vec![self.number])]
    }

    fn field(self, (offset, length): Field) -> Rule {
        let mut rule = self.only();
        rule.push(Expression::Payload(Header::Network, offset, length));
        rule
    }

    fn sender_other_than(self, address: &[u8]) -> Rule {
        self.field(self.source).then([Expression::CmpNeq(address.to_vec())])
    }

    fn to(self, address: &[u8]) -> Rule {
        self.field(self.destination).then([Expression::CmpEq(address.to_vec())])
    }

    fn to_network(self, network: &[u8], prefix: u8) -> Rule {
        let [mask, network] = [mask(prefix, network.len()), network.to_vec()];
        self.field(self.destination).then([Expression::Bitwise(mask), Expression::CmpEq(network)])
    }
}

/// Putting rules together.
trait Then {
    fn then(self, more: impl IntoIterator<Item = Expression>) -> Self;
    fn verdict(self, verdict: Verdict) -> Self;
}

impl Then for Rule {
    fn then(mut self, more: impl IntoIterator<Item = Expression>) -> Self {
        self.extend(more);
        self
    }

    fn verdict(self, verdict: Verdict) -> Self {
        self.then([Expression::Verdict(verdict)])
    }
}

fn protocol(protocol: Protocol) -> [Expression; 2] {
    [Expression::Meta(MetaKey::L4proto), Expression::CmpEq(vec![protocol.number()])]
}

fn port(number: u16) -> [Expression; 2] {
    [PORT, Expression::CmpEq(number.to_be_bytes().to_vec())]
}

fn not_the_first_of_a_connection() -> impl Iterator<Item = Expression> {
    protocol(Protocol::Tcp).into_iter().chain([
        FLAGS,
        Expression::Bitwise(vec![SYN_ACK]),
        Expression::CmpNeq(vec![SYN]),
    ])
}

/// The fixed rules of the hook. A packet without a verdict is dropped by the chain's policy.
pub(super) fn prerouting(ipv6: bool) -> Vec<Rule> {
    let link = vec![Expression::Meta(MetaKey::Iifname), Expression::CmpNeq(interface(GATEWAY_LINK))];
    let mut rules = vec![link.verdict(Verdict::Drop)];
    if !ipv6 {
        rules.push(V6.only().verdict(Verdict::Goto(REFUSED)));
    }
    // The sandbox is alone on the link: any other sender is forged.
    rules.push(V4.sender_other_than(&SANDBOX.octets()).verdict(Verdict::Drop));
    if ipv6 {
        rules.push(V6.sender_other_than(&SANDBOX6.octets()).verdict(Verdict::Drop));
    }
    // Answers to the library's connections, which it makes from any of G's addresses.
    let own = V4.field(V4.destination).then([Expression::Lookup(GATEWAY4.into())]);
    rules.push(own.then(not_the_first_of_a_connection()).verdict(Verdict::Accept));
    if ipv6 {
        let own = V6.to(&GATEWAY6.octets());
        rules.push(own.then(not_the_first_of_a_connection()).verdict(Verdict::Accept));
    }
    // The resolver, and the configured host services.
    let gateway = || V4.to(&GATEWAY.octets());
    rules.push(gateway().then(protocol(Protocol::Udp)).then(port(DNS)).verdict(Verdict::Accept));
    rules.push(gateway().then(protocol(Protocol::Tcp)).then(port(DNS)).verdict(Verdict::Accept));
    let service = [PORT, Expression::Lookup(SERVICES.into())];
    rules.push(gateway().then(protocol(Protocol::Tcp)).then(service).verdict(Verdict::Accept));
    // Nothing else of G's own, and no policy can name it.
    rules.push(V4.to_network(&NETWORK.octets(), PREFIX).verdict(Verdict::Goto(REFUSED)));
    if ipv6 {
        rules.push(V6.to_network(&NETWORK6.octets(), PREFIX6).verdict(Verdict::Goto(REFUSED)));
    }
    rules.push(vec![Expression::Verdict(Verdict::Jump(EGRESS))]);
    rules.push(vec![Expression::Verdict(Verdict::Goto(REFUSED))]);
    rules
}

/// Allowed packets are delivered to the library's relays, which check the policy again. Addresses of domains are allowed
/// on TLS ports only: the relay looks for the server's name in the handshake.
pub(super) fn egress(generation: &Generation) -> Vec<Rule> {
    let mut rules = Vec::new();
    let v4 = generation.allow4().map(|name| (V4, name));
    for (version, name) in v4.chain(generation.allow6().map(|name| (V6, name))) {
        for number in [Protocol::Tcp, Protocol::Udp] {
            rules.push(to_relay(version, number, name.clone().into(), None));
        }
    }
    if generation.tls {
        rules.push(to_relay(V4, Protocol::Tcp, RESOLVED4.into(), Some(generation.tls())));
    }
    if generation.tls && generation.ipv6 {
        rules.push(to_relay(V6, Protocol::Tcp, RESOLVED6.into(), Some(generation.tls())));
    }
    rules
}

fn to_relay(
    version: Version,
    relayed: Protocol,
    addresses: Cow<'static, str>,
    ports: Option<String>,
) -> Rule {
    let ipv6 = version.number == NFPROTO_IPV6;
    let relay =
        if ipv6 { Ipv6Addr::LOCALHOST.octets().to_vec() } else { Ipv4Addr::LOCALHOST.octets().to_vec() };
    // What costs less than the set first.
    let (offset, length) = version.destination;
    let mut rule = version.only().then(protocol(relayed));
    if let Some(ports) = ports {
        rule = rule.then([PORT, Expression::Lookup(ports.into())]);
    }
    rule.then([Expression::Payload(Header::Network, offset, length), Expression::Lookup(addresses)])
        .then([
            Expression::Immediate(relay),
            Expression::ImmediatePort(RELAY_PORT),
            Expression::Tproxy { ipv6 },
            // A mark is in the machine's order.
            Expression::Immediate(MARK.to_ne_bytes().to_vec()),
            Expression::SetMark,
        ])
        .verdict(Verdict::Accept)
}

/// Refused packets are counted and, where the kernel supports it, logged to the library; then TCP is rejected by a
/// reset, everything else by ICMP.
pub(super) fn refused(logged: bool) -> Vec<Rule> {
    let mut rules = vec![vec![Expression::Counter]];
    if logged {
        rules.push(vec![Expression::Limit(MAX_LOGGED_PER_SECOND), Expression::Log]);
    }
    rules.push(Rule::from(protocol(Protocol::Tcp)).then([Expression::Reject(Reject::TcpReset)]));
    rules.push(vec![Expression::Reject(Reject::IcmpxPortUnreachable)]);
    rules
}

/// An interface's name. The kernel compares the whole of its 16 bytes.
fn interface(name: &str) -> Vec<u8> {
    name.bytes().chain(std::iter::repeat(0)).take(libc::IFNAMSIZ).collect()
}

fn mask(prefix: u8, length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| {
            let before = index.saturating_mul(8);
            let ones = usize::from(prefix).saturating_sub(before).min(8);
            u8::MAX.checked_shl(u32::try_from(8 - ones).unwrap_or(8)).unwrap_or(0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        assert_eq!(mask(29, 4), [255, 255, 255, 248]);
        assert_eq!(mask(0, 4), [0; 4]);
        assert_eq!(mask(32, 4), [255; 4]);
        assert_eq!(mask(64, 16)[7..9], [255, 0]);
    }
}
