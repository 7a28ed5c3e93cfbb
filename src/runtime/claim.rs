//! Creations that take a member of the warm pool as soon as that gives a sign of life.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::sandbox::{Listeners, Plan};

/// How long a member may take to give a sign of life. It normally takes less than a millisecond.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(2);

/// What the creation of that number starts with. The creation itself is [parked](super::planning::Planners::park).
pub(super) struct Claim {
    pub(super) creation: u64,
    pub(super) plan: Plan,
    pub(super) listeners: Listeners,
}

/// The claims, by the member's number.
#[derive(Default)]
pub(super) struct Claims {
    all: HashMap<u64, (Claim, Instant)>,
}

impl Claims {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn insert(&mut self, now: Instant, member: u64, claim: Claim) {
        self.all.insert(member, (claim, now + CLAIM_TIMEOUT));
    }

    pub(super) fn remove(&mut self, member: u64) -> Option<Claim> {
        self.all.remove(&member).map(|(claim, _)| claim)
    }

    /// The creation that has claimed this member.
    pub(super) fn creation(&self, member: u64) -> Option<u64> {
        self.all.get(&member).map(|(claim, _)| claim.creation)
    }

    /// The members whose time is over.
    pub(super) fn late(&self, now: Instant) -> Vec<u64> {
        self.all.iter().filter(|(_, (_, until))| *until <= now).map(|(member, _)| *member).collect()
    }

    /// When the next one's is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.all.values().map(|(_, until)| *until).min()
    }
}
