//! Gathers denials and failures, so that the host hears of each destination and a flood costs it nothing. Pure.
//!
//! The first denial of a destination is reported at once. Further ones of the same destination, for the same reason, are
//! counted and reported once a second. The number of destinations that are kept apart is bounded; denials of others are
//! reported by their number alone.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::policy::{Reason, Verdict};

/// How many destinations of one sandbox are kept apart within a second.
const MAX_DESTINATIONS: usize = 64;
/// How long denials of one destination are counted before they are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A destination that was not reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Destination {
    /// An address.
    Address(IpAddr),
    /// A name that was asked for.
    Name(String),
}

/// Why a destination was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Why {
    /// It was denied, for this reason and by this entry.
    Denied(Reason, Option<u32>),
    /// It was allowed, and connecting failed with this errno.
    Unreachable(i32),
    /// One of those that aren't kept apart.
    Any,
}

/// A denial or a failure, as it is reported to the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Denied {
    /// The destination; `None` for those that aren't kept apart.
    pub(crate) to: Option<Destination>,
    /// The destination's port, or 0.
    pub(crate) port: u16,
    /// The IP protocol, or 0.
    pub(crate) protocol: u8,
    /// Why.
    pub(crate) why: Why,
    /// For people: the reason in words, and the destination's name if that is known.
    pub(crate) detail: String,
}

impl Denied {
    /// Traffic of that protocol to an address.
    pub(crate) fn to(address: IpAddr, port: u16, protocol: u8, verdict: &Verdict) -> Self {
        Self {
            to: Some(Destination::Address(address)),
            port,
            protocol,
            why: Why::Denied(verdict.reason, verdict.entry),
            detail: verdict.to_string(),
        }
    }

    /// Traffic of that protocol that was allowed and could not be sent.
    pub(crate) fn unreachable(to: SocketAddr, protocol: u8, error: &io::Error) -> Self {
        Self {
            to: Some(Destination::Address(to.ip())),
            port: to.port(),
            protocol,
            why: Why::Unreachable(error.raw_os_error().unwrap_or(libc::EIO)),
            detail: format!("not reached: {error}"),
        }
    }

    fn others() -> Self {
        Self {
            to: None,
            port: 0,
            protocol: 0,
            why: Why::Any,
            detail: format!(
                "denied or not reached: further destinations, beyond the {MAX_DESTINATIONS} that are reported separately within a second"
            ),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(out, "{address}"),
            Self::Name(name) => out.write_str(name),
        }
    }
}

/// One sandbox's denials of the last second.
#[derive(Debug, Default)]
pub(super) struct Denials {
    /// How often each was denied since it was reported.
    recent: HashMap<Denied, u32>,
    others: u32,
    /// When the counted ones are to be reported.
    until: Option<Instant>,
}

impl Denials {
    /// Records a denial. True if it is to be reported now; else it is counted, and [`Denials::due`] has to be called at
    /// the time of [`Denials::until`].
    pub(super) fn note(&mut self, denied: &Denied, now: Instant) -> bool {
        self.until.get_or_insert(now + REPORT_INTERVAL);
        if let Some(count) = self.recent.get_mut(denied) {
            *count = count.saturating_add(1);
            return false;
        }
        if self.recent.len() >= MAX_DESTINATIONS {
            self.others = self.others.saturating_add(1);
            return false;
        }
        self.recent.insert(denied.clone(), 0);
        true
    }

    /// When counted ones are to be reported or forgotten.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// The counted ones of the last second, each with its number. Those that went on are counted further.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Denied, u32)> {
        if self.until.is_none_or(|until| now < until) {
            return Vec::new();
        }
        self.recent.retain(|_, count| *count > 0);
        let mut due: Vec<_> = self.recent.iter().map(|(denied, count)| (denied.clone(), *count)).collect();
        self.recent.values_mut().for_each(|count| *count = 0);
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            due.push((Denied::others(), others));
        }
        self.until = (!due.is_empty()).then_some(now + REPORT_INTERVAL);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Location, Policy};

    fn denied(address: [u8; 4], port: u16) -> Denied {
        let verdict = Policy::allowlist().verdict(address.into(), |_| Location::Elsewhere);
        Denied::to(address.into(), port, 6, &verdict)
    }

    #[test]
    fn the_first_is_reported_at_once_and_the_rest_by_its_number() {
        let (mut denials, start) = (Denials::default(), Instant::now());
        let (one, other) = (denied([203, 0, 113, 1], 443), denied([203, 0, 113, 1], 80));
        assert!(denials.note(&one, start));
        assert!(denials.note(&other, start));
        for _ in 0..1000 {
            assert!(!denials.note(&one, start));
        }
        assert_eq!(denials.due(start), [], "the second isn't over");
        let until = denials.until().unwrap();
        assert_eq!(denials.due(until), [(one.clone(), 1000)]);
        // It went on and is counted further; the other is reported at once again.
        assert!(!denials.note(&one, until));
        assert!(denials.note(&other, until));
        assert_eq!(denials.due(until + REPORT_INTERVAL), [(one.clone(), 1)]);
        assert_eq!(denials.due(until + 2 * REPORT_INTERVAL), []);
        assert_eq!(denials.until(), None, "nothing is counted any more");
        assert!(denials.note(&one, until + 3 * REPORT_INTERVAL));
    }

    #[test]
    fn a_flood_is_bounded_and_nothing_of_it_is_uncounted() {
        let (mut denials, start) = (Denials::default(), Instant::now());
        let mut reported = 0;
        for index in 0..100_000_u32 {
            reported += u32::from(denials.note(&denied(index.to_be_bytes(), 9), start));
        }
        assert_eq!(reported, u32::try_from(MAX_DESTINATIONS).unwrap());
        let due = denials.due(start + REPORT_INTERVAL);
        assert_eq!(due, [(Denied::others(), 100_000 - reported)]);
    }
}
