//! A budget of descriptors for the whole process.
//!
//! A sandbox is admitted with the descriptors that it needs itself and a reserve for its use ([`limits::KEPT`]): whatever
//! the others hold, a program can be executed in it, a file read, a connection made. What it uses beyond that comes from
//! a part that all share; one sandbox gets at most its share, as if there were one sandbox more. A quarter of the whole is
//! for admissions alone, so that sandboxes can be created while others take all they can get.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits;

/// What descriptors are used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Requests of the host: programs' streams, file operations, connections of its own.
    Host,
    /// Connections through tunnels.
    Tunnel,
    /// Flows out, and DNS queries.
    Egress,
    /// Pooled sockets, which save time and can be done without.
    Pool,
}

const USES: usize = 4;

/// The reserve of every sandbox, by use.
const KEPT_BY_USE: [usize; USES] =
    [limits::KEPT_FOR_HOST, limits::KEPT_FOR_TUNNELS, limits::KEPT_FOR_EGRESS, 0];

/// A budget that sandboxes share. Clones are the same budget.
#[derive(Clone, Debug)]
pub(crate) struct FdBudget(Arc<Mutex<State>>);

/// A budget of local ports, which are shared by the same rules.
pub(crate) type PortBudget = FdBudget;

#[derive(Debug)]
struct State {
    limit: usize,
    /// The reserve of each open account, by use.
    kept: [usize; USES],
    /// The charges of all accounts.
    charged: usize,
    /// The part of that which doesn't depend on their use.
    fixed: usize,
    /// How many accounts are open.
    open: usize,
    accounts: HashMap<u64, Account>,
}

/// One sandbox's account.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// What the sandbox needs itself, while its account is open.
    own: Option<usize>,
    used: [usize; USES],
}

impl Account {
    /// The charge that doesn't depend on its use.
    fn fixed(&self, kept: [usize; USES]) -> usize {
        self.own.map_or(0, |own| own + kept.iter().sum::<usize>())
    }

    /// What it uses beyond its reserve.
    fn beyond(&self, kept: [usize; USES]) -> usize {
        let kept = if self.own.is_some() { kept } else { [0; USES] };
        self.used.iter().zip(kept).map(|(used, kept)| used.saturating_sub(kept)).sum()
    }

    fn charge(&self, kept: [usize; USES]) -> usize {
        self.fixed(kept) + self.beyond(kept)
    }
}

impl State {
    /// Changes an account with `change`.
    fn with(&mut self, sandbox: u64, change: impl FnOnce(&mut Account)) {
        let (kept, account) = (self.kept, self.accounts.entry(sandbox).or_default());
        let sums = |account: &Account| {
            (account.charge(kept), account.fixed(kept), usize::from(account.own.is_some()))
        };
        let before = sums(account);
        change(account);
        let after = sums(account);
        if account.own.is_none() && account.used == [0; USES] {
            self.accounts.remove(&sandbox);
        }
        self.charged = self.charged - before.0 + after.0;
        self.fixed = self.fixed - before.1 + after.1;
        self.open = self.open - before.2 + after.2;
    }

    /// The part that all share.
    fn shared(&self) -> usize {
        (self.limit - self.limit / 4).saturating_sub(self.fixed)
    }

    /// How much of that one sandbox gets for a use. The host's own requests get twice as much; pooled sockets leave most of
    /// it to connections.
    fn share(&self, purpose: Use) -> usize {
        let (shared, parts) = (self.shared(), self.open + 1);
        match purpose {
            Use::Host => (2 * shared / parts).min(shared),
            Use::Tunnel | Use::Egress => shared / parts,
            Use::Pool => shared / parts / 4,
        }
    }

    /// What all use beyond their reserves.
    fn beyond(&self) -> usize {
        self.charged - self.fixed
    }
}

/// A sandbox's place in a budget; dropping it gives its reserve back. What it still uses is counted until that is dropped
/// too.
#[derive(Debug)]
pub(crate) struct Admission {
    budget: FdBudget,
    sandbox: u64,
}

/// Descriptors that were acquired from a budget; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct FdPermit {
    budget: FdBudget,
    sandbox: u64,
    purpose: Use,
    count: usize,
}

impl FdBudget {
    /// A budget of that many descriptors.
    pub(crate) fn new(limit: usize) -> Self {
        Self::keeping(limit, KEPT_BY_USE)
    }

    /// A budget of something else that egress alone uses, with a reserve of `kept` for each sandbox.
    pub(crate) fn for_egress(limit: usize, kept: usize) -> Self {
        let mut by_use = [0; USES];
        by_use.iter_mut().skip(Use::Egress as usize).take(1).for_each(|one| *one = kept);
        Self::keeping(limit, by_use)
    }

    fn keeping(limit: usize, kept: [usize; USES]) -> Self {
        let state = State { limit, kept, charged: 0, fixed: 0, open: 0, accounts: HashMap::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change under the lock can be left half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the limit; what was acquired stays acquired.
    pub(crate) fn resize(&self, limit: usize) {
        self.state().limit = limit;
    }

    /// Admits a sandbox that needs `own` descriptors itself, if the budget has room for these and for its reserve.
    pub(crate) fn admit(&self, sandbox: u64, own: usize) -> Option<Admission> {
        let mut state = self.state();
        let used = state.charged.checked_add(own)?.checked_add(state.kept.iter().sum())?;
        if used > state.limit || state.accounts.contains_key(&sandbox) {
            return None;
        }
        state.with(sandbox, |account| account.own = Some(own));
        Some(Admission { budget: self.clone(), sandbox })
    }

    /// Acquires `count` descriptors for a sandbox: from its reserve, else within its share. A sandbox that was never
    /// admitted, or whose admission was dropped, has no reserve.
    pub(crate) fn acquire(&self, sandbox: u64, purpose: Use, count: usize) -> Option<FdPermit> {
        let mut state = self.state();
        let mut account = state.accounts.get(&sandbox).copied().unwrap_or_default();
        let (kept, before) = (state.kept, account.beyond(state.kept));
        let used = account.used.get_mut(purpose as usize)?;
        *used = used.checked_add(count)?;
        let (used, after) = (account.used, account.beyond(kept));
        let more = after - before;
        let fits = after <= state.share(purpose)
            && state.beyond() + more <= state.shared()
            && state.charged + more <= state.limit;
        if more > 0 && !fits {
            return None;
        }
        state.with(sandbox, |account| account.used = used);
        Some(FdPermit { budget: self.clone(), sandbox, purpose, count })
    }

    /// How many are in use, apart from what sandboxes need themselves.
    #[cfg(test)]
    pub(crate) fn used(&self) -> usize {
        self.state().accounts.values().flat_map(|account| account.used).sum()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.budget.state().with(self.sandbox, |account| account.own = None);
    }
}

impl Drop for FdPermit {
    fn drop(&mut self) {
        let (purpose, count) = (self.purpose as usize, self.count);
        self.budget.state().with(self.sandbox, |account| {
            if let Some(used) = account.used.get_mut(purpose) {
                *used = used.saturating_sub(count);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The budget at the usual limit of 1,024, and what a sandbox needs itself.
    const USUAL: usize = 768;
    const OWN: usize = 19;

    /// One descriptor after the other, as long as there is one.
    fn take_all(budget: &FdBudget, sandbox: u64, purpose: Use) -> Vec<FdPermit> {
        std::iter::from_fn(|| budget.acquire(sandbox, purpose, 1)).collect()
    }

    fn sums(budget: &FdBudget) -> (usize, usize) {
        let state = budget.state();
        (state.charged, state.open)
    }

    #[test]
    fn the_parts_that_are_kept_back_are_the_whole() {
        assert_eq!(KEPT_BY_USE.iter().sum::<usize>(), limits::KEPT);
    }

    #[test]
    fn greedy_ones_get_equal_shares_and_leave_room_for_others() {
        let budget = FdBudget::new(USUAL);
        let mut admitted: Vec<Admission> =
            (0..6).map(|sandbox| budget.admit(sandbox, OWN).unwrap()).collect();
        let mut taken: Vec<Vec<FdPermit>> =
            (0..6).map(|sandbox| take_all(&budget, sandbox, Use::Egress)).collect();
        let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
        let share = (USUAL * 3 / 4 - 6 * (OWN + limits::KEPT)) / 7;
        assert_eq!(counts, [share + 4; 6], "what is kept, and a seventh of what is shared");
        taken.extend((0..6).map(|sandbox| take_all(&budget, sandbox, Use::Tunnel)));
        // All of them can be used still, and so can those that come, until there is no room for another.
        for sandbox in 6.. {
            let Some(admission) = budget.admit(sandbox, OWN) else { break };
            admitted.push(admission);
            taken.push(take_all(&budget, sandbox, Use::Egress));
        }
        assert!(admitted.len() >= 10, "{}", admitted.len());
        for sandbox in 0..admitted.len() as u64 {
            let streams = budget.acquire(sandbox, Use::Host, 3).unwrap();
            let sent = budget.acquire(sandbox, Use::Host, 3).unwrap();
            drop(sent);
            let file = budget.acquire(sandbox, Use::Host, 6).unwrap();
            taken.push(vec![streams, file]);
        }
        drop((taken, admitted));
        assert_eq!(sums(&budget), (0, 0));
    }

    #[test]
    fn one_alone_leaves_half_of_what_is_shared_but_to_the_host() {
        let budget = FdBudget::new(USUAL);
        let _admitted = budget.admit(1, OWN).unwrap();
        let shared = USUAL * 3 / 4 - OWN - limits::KEPT;
        let flows = take_all(&budget, 1, Use::Egress);
        assert_eq!(flows.len(), shared / 2 + 4);
        assert!(budget.acquire(1, Use::Pool, 1).is_none());
        let streams = take_all(&budget, 1, Use::Host);
        assert_eq!(streams.len(), shared - shared / 2 + 11);
        assert_eq!(take_all(&budget, 1, Use::Tunnel).len(), 6, "what is kept for tunnels");
    }

    #[test]
    fn a_share_gets_smaller_with_others_and_what_is_taken_stays() {
        let budget = FdBudget::new(USUAL);
        let _first = budget.admit(1, OWN).unwrap();
        let mut flows = take_all(&budget, 1, Use::Egress);
        let _second = budget.admit(2, OWN).unwrap();
        flows.truncate(flows.len() - 5);
        assert!(budget.acquire(1, Use::Egress, 1).is_none(), "it has more than its share now");
        assert!(budget.acquire(2, Use::Egress, 100).is_some());
    }

    #[test]
    fn what_outlives_its_sandbox_is_counted_until_it_is_dropped() {
        let budget = FdBudget::new(100);
        let admitted = budget.admit(1, 10).unwrap();
        let held = budget.acquire(1, Use::Host, 8).unwrap();
        assert!(budget.admit(1, 10).is_none(), "it is there already");
        assert_eq!(budget.state().charged, 10 + limits::KEPT);
        drop(admitted);
        assert_eq!(sums(&budget), (8, 0));
        drop(held);
        assert!(budget.state().accounts.is_empty());
        assert!(budget.admit(2, usize::MAX).is_none() && budget.acquire(2, Use::Host, usize::MAX).is_none());
    }

    #[test]
    fn a_limit_that_was_lowered_takes_nothing_away() {
        let budget = FdBudget::new(400);
        let _admitted = budget.admit(1, 10).unwrap();
        let flows = take_all(&budget, 1, Use::Egress);
        budget.resize(20);
        assert!(budget.admit(2, 1).is_none());
        assert!(budget.acquire(1, Use::Egress, 1).is_none());
        assert!(budget.acquire(1, Use::Host, 11).is_some(), "what is kept back stays");
        assert!(flows.len() > 100);
    }

    proptest! {
        /// In whatever order it is taken, dropped and admitted: the sum is right, never above the limit, and what is
        /// kept back can always be had.
        #[test]
        fn the_sum_is_right_and_what_is_kept_is_there(
            steps in prop::collection::vec((0_u64..5, 0_usize..7, 1_usize..40), 1..200),
        ) {
            let budget = FdBudget::new(500);
            let (mut admitted, mut permits) = (HashMap::new(), Vec::new());
            for (sandbox, what, count) in steps {
                let purpose = [Use::Host, Use::Tunnel, Use::Egress, Use::Pool].get(what).copied();
                match (purpose, what) {
                    (Some(purpose), _) => permits.extend(budget.acquire(sandbox, purpose, count)),
                    (None, 4) => drop(budget.admit(sandbox, count).map(|one| admitted.insert(sandbox, one))),
                    (None, 5) => drop(admitted.remove(&sandbox)),
                    (None, _) => drop((count < permits.len()).then(|| permits.swap_remove(count))),
                }
                let state = budget.state();
                let sum: usize = state.accounts.values().map(|one| one.charge(state.kept)).sum();
                prop_assert_eq!((sum, state.open), (state.charged, admitted.len()));
                prop_assert!(sum <= 500);
                let used = state.accounts.get(&sandbox).map_or(0, |account| account.used[Use::Host as usize]);
                drop(state);
                if admitted.contains_key(&sandbox) && used < KEPT_BY_USE[0] {
                    prop_assert!(budget.acquire(sandbox, Use::Host, KEPT_BY_USE[0] - used).is_some());
                }
            }
        }
    }
}
