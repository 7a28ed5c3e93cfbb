//! The rules of G, in the order in which a packet meets them. Their text is in `tests/golden`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::expression::{Expression, Header, Meta, Refusal};
use super::{ALLOW4, ALLOW6};
use crate::net::address::{GATEWAY_LINK, MARK, SANDBOX, SANDBOX6};

/// Where the relays listen, on G's own 127.0.0.1 and ::1.
const RELAY: u16 = 9000;
/// The bits SYN and ACK of TCP's flags, and SYN alone.
const SYN_ACK: u8 = 0x12;
const SYN: u8 = 0x02;
/// IP protocols.
const TCP: u8 = 6;
const UDP: u8 = 17;

type Rule = Vec<Expression>;

/// One IP version: its number for nf_tables, where its header has the addresses, and what is ours of them.
#[derive(Clone, Copy)]
struct Version {
    number: u8,
    source: u32,
    destination: u32,
    length: u32,
    sandbox: &'static [u8],
    network: (&'static [u8], &'static [u8]),
    relay: &'static [u8],
    allowed: &'static str,
    ipv6: bool,
}

const V4: Version = Version {
    number: 2,
    source: 12,
    destination: 16,
    length: 4,
    sandbox: &SANDBOX.octets(),
    network: (&[192, 0, 0, 0], &[255, 255, 255, 248]),
    relay: &Ipv4Addr::LOCALHOST.octets(),
    allowed: ALLOW4,
    ipv6: false,
};

const V6: Version = Version {
    number: 10,
    source: 8,
    destination: 24,
    length: 16,
    sandbox: &SANDBOX6.octets(),
    network: (
        &[0xfd, 0x73, 0x62, 0x78, 0x6e, 0x65, 0x74, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0],
    ),
    relay: &Ipv6Addr::LOCALHOST.octets(),
    allowed: ALLOW6,
    ipv6: true,
};

/// All rules. What isn't offered is refused at once, not left to time out.
pub(super) fn rules(ipv6: bool) -> Vec<Rule> {
    let mut rules = vec![
        // What sockets of G say to each other; nothing of the sandbox comes that way.
        vec![Expression::Load(Meta::InputName), Expression::Equal(name("lo")), Expression::Accept],
        vec![Expression::Load(Meta::InputName), Expression::NotEqual(name(GATEWAY_LINK)), Expression::Drop],
    ];
    if ipv6 {
        rules.extend(V6.offered());
    }
    rules.extend(V6.refused());
    rules.extend(V4.offered());
    rules.extend(V4.refused());
    rules
}

/// An interface's name. The kernel compares the whole of its 16 bytes.
fn name(name: &str) -> Vec<u8> {
    name.bytes().chain(std::iter::repeat(0)).take(libc::IFNAMSIZ).collect()
}

impl Version {
    fn rule(self, steps: impl IntoIterator<Item = Expression>) -> Rule {
        let own = [Expression::Load(Meta::Family), Expression::Equal(vec![self.number])];
        own.into_iter().chain(steps).collect()
    }

    fn protocol(number: u8) -> [Expression; 2] {
        [Expression::Load(Meta::Protocol), Expression::Equal(vec![number])]
    }

    fn to_gateway(self) -> [Expression; 3] {
        [
            Expression::Payload(Header::Network, self.destination, self.length),
            Expression::Mask(self.network.1.to_vec()),
            Expression::Equal(self.network.0.to_vec()),
        ]
    }

    fn offered(self) -> Vec<Rule> {
        let source = Expression::Payload(Header::Network, self.source, self.length);
        let mut rules = vec![
            // Nobody else is there.
            self.rule([source, Expression::NotEqual(self.sandbox.to_vec()), Expression::Drop]),
            // Answers to the library's own connections, which are never the first packet of one.
            self.rule(self.to_gateway().into_iter().chain(Self::protocol(TCP)).chain([
                Expression::Payload(Header::Transport, 13, 1),
                Expression::Mask(vec![SYN_ACK]),
                Expression::NotEqual(vec![SYN]),
                Expression::Accept,
            ])),
        ];
        let gateway = |steps: Vec<Expression>| self.rule(self.to_gateway().into_iter().chain(steps));
        rules.push(gateway(reset()));
        rules.push(gateway(vec![Expression::Reject(Refusal::Unreachable)]));
        rules.extend([TCP, UDP].map(|protocol| self.to_relay(protocol)));
        rules
    }

    /// What is allowed goes to the library's relay, which asks the policy again.
    fn to_relay(self, protocol: u8) -> Rule {
        self.rule(
            [
                Expression::Payload(Header::Network, self.destination, self.length),
                Expression::In(self.allowed),
            ]
            .into_iter()
            .chain(Self::protocol(protocol))
            .chain([
                Expression::Constant(self.relay.to_vec()),
                Expression::Port(RELAY),
                Expression::Deliver { ipv6: self.ipv6 },
                Expression::Constant(MARK.to_ne_bytes().to_vec()),
                Expression::Mark,
                Expression::Accept,
            ]),
        )
    }

    fn refused(self) -> [Rule; 2] {
        [self.rule(reset()), self.rule([Expression::Reject(Refusal::Unreachable)])]
    }
}

fn reset() -> Vec<Expression> {
    Version::protocol(TCP).into_iter().chain([Expression::Reject(Refusal::Reset)]).collect()
}
