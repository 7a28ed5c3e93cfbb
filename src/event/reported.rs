//! Which limits were reported to the host lately: each at most once in ten seconds, however often it is reached. Pure.

use std::time::{Duration, Instant};

/// How long the same limit is not reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(10);

/// The limits that were reported for one sandbox. Each has a name that is constant in the code, whatever the text of the
/// report, so their number is bounded.
#[derive(Debug, Default)]
pub(crate) struct Reported(Vec<(&'static str, Instant)>);

impl Reported {
    /// Whether to report this limit now; if so, remembers it.
    pub(crate) fn is_news(&mut self, limit: &'static str, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < REPORT_AGAIN);
        let is_news = self.0.iter().all(|(known, _)| *known != limit);
        if is_news {
            self.0.push((limit, now));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_reported_once_in_ten_seconds_however_often_it_is_met() {
        let (mut reported, start) = (Reported::default(), Instant::now());
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let count = (0..25_000).filter(|at| reported.is_news("full", after(*at))).count();
        assert_eq!(count, 3);
        assert!(reported.is_news("another", after(25_000)) && !reported.is_news("another", after(25_001)));
        assert!(reported.is_news("full", after(60_000)));
        assert_eq!(reported.0.len(), 1, "what was reported long ago is forgotten");
    }
}
