//! Sets of numbers as intervals, for the kernel's sets.

/// Sorted, disjoint intervals that don't touch, both ends included. Addresses of either version fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Intervals(Vec<(u128, u128)>);

impl Intervals {
    /// Sorts and merges intervals in any order, with any overlaps.
    pub(crate) fn from_any(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                // Touching intervals are merged too.
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// Whether an interval contains the number.
    #[cfg(test)]
    pub(crate) fn contains(&self, number: u128) -> bool {
        let next = self.0.partition_point(|(first, _)| *first <= number);
        next.checked_sub(1).and_then(|index| self.0.get(index)).is_some_and(|(_, last)| number <= *last)
    }

    /// The numbers that are not in the other set.
    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::with_capacity(self.0.len());
        let mut taken = other.0.as_slice();
        for &(mut first, last) in &self.0 {
            // What ends before this one begins concerns none of those that follow either.
            while let Some((_, end)) = taken.first()
                && *end < first
            {
                taken = taken.get(1..).unwrap_or_default();
            }
            let mut gone = false;
            for &(begin, end) in taken.iter().take_while(|(begin, _)| *begin <= last) {
                if begin > first {
                    left.push((first, begin - 1));
                }
                if end >= last {
                    gone = true;
                    break;
                }
                first = end + 1;
            }
            if !gone {
                left.push((first, last));
            }
        }
        Self(left)
    }

    /// In order.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (u128, u128)> {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = Vec<(u128, u128)>> {
        prop::collection::vec(
            (0u128..60, 0u128..20).prop_map(|(first, length)| (first, first + length)),
            0..12,
        )
    }

    fn within(ranges: &[(u128, u128)], number: u128) -> bool {
        ranges.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    proptest! {
        #[test]
        fn they_hold_what_the_plain_lists_hold(some in ranges(), others in ranges()) {
            let set = Intervals::from_any(some.clone());
            let left = set.minus(&Intervals::from_any(others.clone()));
            for number in 0..90 {
                prop_assert_eq!(set.contains(number), within(&some, number));
                prop_assert_eq!(left.contains(number), within(&some, number) && !within(&others, number));
            }
            let apart = |set: &Intervals| set.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0);
            prop_assert!(apart(&set));
        }
    }

    #[test]
    fn the_very_last_number_is_no_trap() {
        let all = Intervals::from_any(vec![(0, u128::MAX)]);
        let last = Intervals::from_any(vec![(u128::MAX, u128::MAX)]);
        assert_eq!(all.minus(&last).0, [(0, u128::MAX - 1)]);
        assert!(all.minus(&all).0.is_empty());
        assert_eq!(Intervals::from_any(vec![(5, u128::MAX), (7, 9)]).0, [(5, u128::MAX)]);
    }
}
