//! The entries of a policy, found by address.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Ranges with the number of the entry that named them first. A look-up takes as many steps as there are
/// different prefix lengths, however many entries there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    numbers: HashMap<IpNetwork, u32>,
    /// The prefix lengths in use, the longest first: IPv4's and IPv6's.
    prefixes: [Vec<u8>; 2],
}

impl Rules {
    /// Adds an entry. One that is there already keeps its number.
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

    /// The ranges around an address, the narrowest first, with their entries' numbers.
    pub(crate) fn around(&self, address: IpAddr) -> impl Iterator<Item = (IpNetwork, u32)> {
        let [v4, v6] = &self.prefixes;
        let prefixes = if address.is_ipv4() { v4 } else { v6 };
        prefixes.iter().filter_map(move |prefix| {
            let whole = IpNetwork::new(address, *prefix).ok()?;
            let range = IpNetwork::new(whole.network(), *prefix).ok()?;
            self.numbers.get(&range).map(|number| (range, *number))
        })
    }

    /// All ranges, in no order.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = IpNetwork> {
        self.numbers.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_comes_first_and_twins_keep_the_first_number() {
        let mut rules = Rules::default();
        for (number, range) in
            ["0.0.0.0/0", "10.1.0.0/16", "10.0.0.0/8", "::/0", "10.1.0.0/16"].iter().enumerate()
        {
            rules.add(range.parse().unwrap(), u32::try_from(number).unwrap());
        }
        let around = |text: &str| -> Vec<u32> {
            rules.around(text.parse().unwrap()).map(|(_, number)| number).collect()
        };
        assert_eq!(around("10.1.2.3"), [1, 2, 0]);
        assert_eq!(around("10.2.0.0"), [2, 0]);
        assert_eq!(around("9.255.255.255"), [0]);
        assert_eq!(around("::ffff:10.1.2.3"), [3], "the caller makes mapped addresses IPv4");
        assert_eq!(rules.len(), 4);
    }
}
