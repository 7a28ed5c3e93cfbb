//! Which limits the host was told of lately: each at most once in a while, however often it is met. Pure.

use std::time::{Duration, Instant};

/// How long the host isn't told of the same limit again.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// What one sandbox's host was told. A limit goes by a name that stands in the code, whatever is told of it: so there are
/// no more than there are limits.
#[derive(Debug, Default)]
pub(crate) struct Told(Vec<(&'static str, Instant)>);

impl Told {
    /// Whether it is to be told of this limit now; if so, that is noted.
    pub(crate) fn is_news(&mut self, limit: &'static str, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < TELL_AGAIN);
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
    fn a_limit_is_told_once_in_ten_seconds_however_often_it_is_met() {
        let (mut told, start) = (Told::default(), Instant::now());
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let count = (0..25_000).filter(|at| told.is_news("full", after(*at))).count();
        assert_eq!(count, 3);
        assert!(told.is_news("another", after(25_000)) && !told.is_news("another", after(25_001)));
        assert!(told.is_news("full", after(60_000)));
        assert_eq!(told.0.len(), 1, "what was told long ago is forgotten");
    }
}
