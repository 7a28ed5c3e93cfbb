//! Which limits were reported to the host lately: each at most once in a while, however often it is met. Pure.

use std::time::{Duration, Instant};

/// How long the same limit isn't reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(10);

/// What was reported of one sandbox. A limit goes by a name that stands in the code, whatever the report says: so there
/// are no more than there are limits.
#[derive(Debug, Default)]
pub(crate) struct Reported(Vec<(&'static str, Instant)>);

impl Reported {
    /// Whether this limit is to be reported now; if so, that is noted.
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
