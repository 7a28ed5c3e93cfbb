//! Strict parsing of CIDR ranges.
//!
//! Parsers of addresses disagree about anything but the plain form: `010.0.0.1` is 8.0.0.1 to some and 10.0.0.1 to
//! others, `10.0.0.5/8` silently becomes `10.0.0.0/8`, `10.1` is 10.0.0.1, and a name is looked up. An entry that means
//! something else than its author thinks is a hole, so only the plain form is accepted; errors say what to write
//! instead.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnetwork::IpNetwork;

use crate::error::{Error, Result};

/// Longer than any range in plain form; longer texts are not parsed.
const MAX_TEXT_LENGTH: usize = 64;

/// A range of addresses: an address and a prefix length, with no bit set behind the prefix.
///
/// ```
/// let range: sbx::Cidr = "192.0.2.0/24".parse()?;
/// assert!(range.contains("192.0.2.7".parse().unwrap()));
/// assert!("192.0.2.7/24".parse::<sbx::Cidr>().is_err());
/// # Ok::<(), sbx::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr(IpNetwork);

impl Cidr {
    /// The first address of the range.
    pub fn address(&self) -> IpAddr {
        self.0.network()
    }

    /// The length of the prefix: from 0 to 32, or to 128 for IPv6.
    pub fn prefix(&self) -> u8 {
        self.0.prefix()
    }

    /// Whether the address lies in the range. An IPv4-mapped address counts as the IPv4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(address.to_canonical())
    }

    pub(crate) fn network(&self) -> IpNetwork {
        self.0
    }
}

/// Takes the plain form only, such as `192.0.2.0/24`; the error says what to write instead.
impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).map(Self)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// Parses `address/prefix` in its plain form.
pub(crate) fn parse(text: &str) -> Result<IpNetwork> {
    if text.len() > MAX_TEXT_LENGTH {
        return Err(Error::invalid(format!("CIDR range of {} bytes: not an address range", text.len())));
    }
    let refuse = |why: &str| Error::invalid(format!("CIDR range {text:?}: {why}"));
    let Some((address, prefix)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => refuse("has no prefix length; write /32 behind a single IPv4 address"),
            Ok(IpAddr::V6(_)) => refuse("has no prefix length; write /128 behind a single IPv6 address"),
            Err(_) => refuse(
                "must be an IPv4 or IPv6 address, a slash and a prefix length; names are not looked up",
            ),
        });
    };
    let address = parse_address(address).map_err(refuse)?;
    let widest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = parse_prefix(prefix, widest).ok_or_else(|| {
        refuse(&format!("the prefix length must be a plain decimal number from 0 to {widest}"))
    })?;
    let range = IpNetwork::new(address, prefix).map_err(|_| refuse("the prefix length is too long"))?;
    if range.network() != address {
        return Err(refuse(&format!("has bits set behind its prefix; write {}/{prefix}", range.network())));
    }
    Ok(range)
}

fn parse_address(text: &str) -> Result<IpAddr, &'static str> {
    if !text.contains(':') {
        // std's parser takes four plain decimal numbers only: no leading zero, no hexadecimal, none missing.
        return text
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .map_err(|_| "the address must be four decimal numbers from 0 to 255 without leading zeros");
    }
    if text.contains('%') {
        return Err("an IPv6 zone has no meaning in a range");
    }
    if text.contains('.') {
        return Err("an IPv4 address inside an IPv6 one is ambiguous; write the IPv4 range itself");
    }
    let address: Ipv6Addr = text.parse().map_err(|_| "is not an IPv6 address")?;
    if address.to_ipv4_mapped().is_some() {
        return Err("IPv4-mapped addresses are matched as IPv4; write the IPv4 range itself");
    }
    Ok(IpAddr::V6(address))
}

fn parse_prefix(text: &str, widest: u8) -> Option<u8> {
    let plain = matches!(text.as_bytes(), [b'0'..=b'9'] | [b'1'..=b'9', b'0'..=b'9', ..]);
    if !plain || text.len() > 3 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|prefix| *prefix <= widest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_ranges_are_read_as_written() {
        for text in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "192.0.2.7/32",
            "255.255.255.255/32",
            "::/0",
            "2001:db8::/32",
            "::1/128",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        for (text, why) in [
            ("10.0.0.5/8", "write 10.0.0.0/8"),
            ("2001:db8::1/32", "write 2001:db8::/32"),
            ("010.0.0.0/8", "leading zeros"),
            ("0x0a.0.0.0/8", "decimal"),
            ("10.0/16", "four decimal numbers"),
            ("167772160/8", "four decimal numbers"),
            ("10.0.0.1", "write /32"),
            ("::1", "write /128"),
            ("10.0.0.0/255.0.0.0", "plain decimal"),
            ("10.0.0.0/08", "plain decimal"),
            ("10.0.0.0/+8", "plain decimal"),
            ("10.0.0.0/", "plain decimal"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/256", "0 to 32"),
            ("::/129", "0 to 128"),
            ("::ffff:10.0.0.0/104", "IPv4"),
            ("::ffff:a00:0/104", "IPv4"),
            ("64:ff9b::10.0.0.1/128", "IPv4"),
            ("fe80::1%eth0/128", "zone"),
            (" 10.0.0.0/8", "four decimal numbers"),
            ("10.0.0.0/8 ", "plain decimal"),
            ("10.0.0.0/8\n", "plain decimal"),
            ("10.0.0.0\0/8", "four decimal numbers"),
            ("10.0.0.0/8}", "plain decimal"),
            ("10.0.0.0/8;", "plain decimal"),
            ("10.0.0.0/8, 11.0.0.0/8", "plain decimal"),
            ("10.0.0.0-10.0.0.9", "names are not looked up"),
            ("１０.0.0.0/8", "four decimal numbers"),
            ("10.0.0.0/٨", "plain decimal"),
            ("localhost", "names are not looked up"),
            ("localhost/8", "four decimal numbers"),
            ("", "names are not looked up"),
            ("/", "four decimal numbers"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.message().contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_huge_text_is_not_repeated_in_the_message() {
        assert!(parse(&"1".repeat(1 << 20)).unwrap_err().message().len() < 100);
    }

    proptest! {
        #[test]
        fn any_address_cut_to_its_prefix_is_accepted(bits: u32, prefix in 0u8..=32) {
            let network = ipnetwork::Ipv4Network::new(bits.into(), prefix).unwrap().network();
            let text = format!("{network}/{prefix}");
            prop_assert!(parse(&text).is_ok());
        }

        #[test]
        fn what_is_accepted_reads_back_as_the_same_range(text in "[0-9a-f:./ ]{0,24}") {
            if let Ok(range) = parse(&text) {
                prop_assert_eq!(range.network(), range.ip());
                prop_assert_eq!(parse(&range.to_string()).unwrap(), range);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse(&text);
        }
    }
}
