//! Ranges by address: longest-prefix match over the entries of a policy.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Ranges, each with the number of the first entry for it. A look-up takes as many steps as there are different prefix
/// lengths, however many entries there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixTable {
    numbers: HashMap<IpNetwork, u32>,
    /// The prefix lengths in use, the longest first: IPv4's and IPv6's.
    prefixes: [Vec<u8>; 2],
}

impl PrefixTable {
    /// Adds an entry. A range that is there already keeps its number.
    pub(crate) fn add(&mut self, range: IpNetwork, number: u32) {
        let [v4, v6] = &mut self.prefixes;
        let prefixes = if range.is_ipv4() { v4 } else { v6 };
        if let Err(place) = prefixes.binary_search_by(|prefix| range.prefix().cmp(prefix)) {
            prefixes.insert(place, range.prefix());
        }
        self.numbers.entry(range).or_insert(number);
    }

    /// How many different ranges there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The ranges that contain an address, the narrowest first, with their entries' numbers.
    pub(crate) fn matching(&self, address: IpAddr) -> impl Iterator<Item = (IpNetwork, u32)> {
        let [v4, v6] = &self.prefixes;
        let prefixes = if address.is_ipv4() { v4 } else { v6 };
        prefixes.iter().filter_map(move |prefix| {
            let whole = IpNetwork::new(address, *prefix).ok()?;
            let range = IpNetwork::new(whole.network(), *prefix).ok()?;
            self.numbers.get(&range).map(|number| (range, *number))
        })
    }

    /// All ranges, in no particular order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = IpNetwork> {
        self.numbers.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_comes_first_and_twins_keep_the_first_number() {
        let mut table = PrefixTable::default();
        for (number, range) in
            ["0.0.0.0/0", "10.1.0.0/16", "10.0.0.0/8", "::/0", "10.1.0.0/16"].iter().enumerate()
        {
            table.add(range.parse().unwrap(), u32::try_from(number).unwrap());
        }
        let matching = |text: &str| -> Vec<u32> {
            table.matching(text.parse().unwrap()).map(|(_, number)| number).collect()
        };
        assert_eq!(matching("10.1.2.3"), [1, 2, 0]);
        assert_eq!(matching("10.2.0.0"), [2, 0]);
        assert_eq!(matching("9.255.255.255"), [0]);
        assert_eq!(matching("::ffff:10.1.2.3"), [3], "the caller makes mapped addresses IPv4");
        assert_eq!(table.len(), 4);
    }
}
