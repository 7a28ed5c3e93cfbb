//! The kinds of reactor key that belong to egress.

use crate::reactor::Kind;

pub(super) const TCP_LISTENER: Kind = Kind(4);
pub(super) const TCP_FLOW: Kind = Kind(5);
pub(super) const UDP: Kind = Kind(6);
pub(super) const DNS_SOCKET: Kind = Kind(7);
pub(super) const REPORTER: Kind = Kind(8);
pub(super) const ROUTES: Kind = Kind(9);
pub(super) const MEMORY: Kind = Kind(10);
pub(super) const SNI: Kind = Kind(11);
pub(super) const QUOTA: Kind = Kind(12);
pub(super) const DNS_CONNECTION: Kind = Kind(13);
pub(super) const DNS_LOOKUP: Kind = Kind(14);

/// Whether egress handles wake-ups of that kind.
pub(crate) fn is_egress(kind: Kind) -> bool {
    (TCP_LISTENER.0..=DNS_LOOKUP.0).contains(&kind.0)
}
