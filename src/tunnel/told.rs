//! Which limits the host was told of lately: each at most once in a while, however often it is met. Pure.

use std::time::{Duration, Instant};

/// How long the host isn't told of the same limit again.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// The most different limits that are told in that time.
const MOST: usize = 8;

/// What one sandbox's host was told.
#[derive(Debug, Default)]
pub(super) struct Told(Vec<(String, Instant)>);

impl Told {
    /// Whether it is to be told of this one now; if so, that is noted.
    pub(super) fn is_news(&mut self, what: &str, now: Instant) -> bool {
        self.0.retain(|(_, at)| now.saturating_duration_since(*at) < TELL_AGAIN);
        let is_news = self.0.len() < MOST && self.0.iter().all(|(known, _)| known != what);
        if is_news {
            self.0.push((what.to_owned(), now));
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
        let many = (0..100).filter(|n| told.is_news(&n.to_string(), after(26_000))).count();
        assert_eq!(many, MOST - 2, "the list is bounded");
        assert!(told.is_news("full", after(60_000)));
    }
}
