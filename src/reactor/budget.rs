//! How many descriptors the library may hold, counted together for everything in the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of descriptors that is shared out. Clones are the same budget.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: AtomicUsize,
    used: AtomicUsize,
}

/// A part of a budget; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Budget,
    count: usize,
}

impl Budget {
    /// A budget of that many descriptors.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit: AtomicUsize::new(limit), used: AtomicUsize::new(0) }))
    }

    /// Changes how many there are; what is taken stays taken.
    pub(crate) fn resize(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// Takes `count` descriptors out of the budget, if that many are left.
    pub(crate) fn acquire(&self, count: usize) -> Option<Permit> {
        let limit = self.0.limit.load(Ordering::Relaxed);
        let take = |used: usize| used.checked_add(count).filter(|sum| *sum <= limit);
        self.0.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        Some(Permit { budget: self.clone(), count })
    }

    /// The same for one of many users, who has taken `mine` of them already: nobody gets more than what is left for
    /// all others, so that one who takes what he can leaves room for the next.
    pub(crate) fn acquire_share(&self, count: usize, mine: usize) -> Option<Permit> {
        let free = self.0.limit.load(Ordering::Relaxed).saturating_sub(self.0.used.load(Ordering::Relaxed));
        if mine.saturating_add(count) > free { None } else { self.acquire(count) }
    }

    /// How many are taken now.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// How many descriptors it is for.
    pub(crate) fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_more_than_is_left_to_the_others() {
        let budget = Budget::new(120);
        let take = |mine: usize| {
            let mut taken = Vec::new();
            while let Some(permit) = budget.acquire_share(1, mine + taken.len()) {
                taken.push(permit);
            }
            taken
        };
        let first = take(0);
        assert_eq!(first.len(), 60);
        let second = take(0);
        assert_eq!(second.len(), 30);
        assert!(budget.acquire_share(1, first.len()).is_none());
        assert!(budget.acquire(20).is_some());
    }

    #[test]
    fn what_is_dropped_can_be_taken_again_and_no_more() {
        let budget = Budget::new(3);
        let two = budget.acquire(2).unwrap();
        assert!(budget.acquire(2).is_none());
        let one = budget.acquire(1).unwrap();
        assert_eq!(budget.used(), 3);
        drop(two);
        assert!(budget.acquire(2).is_some());
        drop(one);
        assert_eq!(budget.used(), 0);
        assert!(budget.acquire(usize::MAX).is_none(), "a sum that overflows is refused");
    }
}
