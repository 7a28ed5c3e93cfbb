//! Which upstream server is asked next, and how long it has to answer. Pure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::upstreams::Upstreams;

/// How long a question may take. Most programs ask again after 5 s, and give up after 10.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(9);
/// How long one attempt may take, whatever the host's configuration says: the other servers need time too.
const MAX_ATTEMPT: Duration = Duration::from_secs(3);

/// The servers that one question is sent to, in turn.
#[derive(Debug)]
pub(super) struct ServerRotation {
    upstreams: Arc<Upstreams>,
    /// The server that is asked first.
    first: usize,
    attempts: usize,
    until: Instant,
}

impl ServerRotation {
    pub(super) fn new(upstreams: Arc<Upstreams>, first: usize, now: Instant) -> Self {
        Self { upstreams, first, attempts: 0, until: now + LOOKUP_TIMEOUT }
    }

    /// The next server, and its deadline; `None` if all were asked as often as they may or the time is up.
    pub(super) fn next(&mut self, now: Instant) -> Option<(SocketAddr, Instant)> {
        let count = self.upstreams.servers.len();
        let most = count * usize::try_from(self.upstreams.attempts).unwrap_or(1);
        if self.attempts >= most || now >= self.until {
            return None;
        }
        self.attempts += 1;
        let server = self.upstreams.servers.get(self.current())?;
        Some((*server, self.limit(now)))
    }

    /// The deadline of the current server, if it is asked now.
    pub(super) fn limit(&self, now: Instant) -> Instant {
        (now + self.upstreams.timeout.min(MAX_ATTEMPT)).min(self.until)
    }

    /// The place of the current server.
    pub(super) fn current(&self) -> usize {
        let count = self.upstreams.servers.len().max(1);
        (self.first + self.attempts.saturating_sub(1)) % count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_take_turns_from_the_first_on_until_all_had_their_attempts() {
        let servers: Vec<SocketAddr> =
            ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"].map(|text| text.parse().unwrap()).into();
        let upstreams =
            Arc::new(Upstreams { timeout: Duration::from_secs(1), ..Upstreams::of(servers.clone()) });
        let now = Instant::now();
        let mut rotation = ServerRotation::new(upstreams, 4, now);
        let mut asked = Vec::new();
        while let Some((server, until)) = rotation.next(now) {
            assert_eq!(servers[rotation.current()], server);
            assert_eq!(until, now + Duration::from_secs(1));
            asked.push(server.ip().to_string());
        }
        let round = ["192.0.2.2", "192.0.2.3", "192.0.2.1"];
        assert_eq!(asked, [round, round].concat());
    }

    #[test]
    fn no_question_takes_longer_than_it_may() {
        let upstreams = Arc::new(Upstreams {
            timeout: Duration::from_secs(30),
            attempts: 5,
            ..Upstreams::of(vec!["192.0.2.1:53".parse().unwrap()])
        });
        let start = Instant::now();
        let mut rotation = ServerRotation::new(upstreams, 0, start);
        let mut now = start;
        while let Some((_, until)) = rotation.next(now) {
            assert!(until - now <= MAX_ATTEMPT);
            now = until;
        }
        assert_eq!(now, start + LOOKUP_TIMEOUT);
        assert!(ServerRotation::new(Arc::new(Upstreams::of(Vec::new())), 0, now).next(now).is_none());
    }
}
