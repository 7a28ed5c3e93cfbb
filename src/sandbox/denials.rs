//! What egress reports as denied or unreachable, as an event for the host.

use super::shared::Shared;
use crate::egress::{Denied, Why};
use crate::event::EventKind;

/// Something was denied, or allowed and not reached, so many times.
pub(super) fn publish(shared: &Shared, denied: &Denied, count: u32) {
    let kind = match denied.why {
        Why::Unreachable(_) => EventKind::Unreachable,
        Why::Denied(..) | Why::Any => EventKind::Denied,
    };
    shared.notify(kind, |event| {
        event.address = denied.to.as_ref().map(ToString::to_string).unwrap_or_default();
        event.port = denied.port.into();
        event.protocol = denied.protocol.into();
        match denied.why {
            Why::Denied(reason, entry) => {
                event.reason = reason.into();
                event.entry = entry.and_then(|entry| i32::try_from(entry).ok()).unwrap_or(-1);
            }
            Why::Unreachable(errno) => event.code = errno,
            Why::Any => {}
        }
        event.count = count;
        event.detail.clone_from(&denied.detail);
    });
}
