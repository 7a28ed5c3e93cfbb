//! Which route to a server is tried next, and when. Pure.

use std::time::{Duration, Instant};

/// The two routes to a server in a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To eth0's address, from the gateway: reaches servers that listen on every address.
    Direct,
    /// Through init, to 127.0.0.1 in the sandbox: reaches servers that listen only there.
    Loopback,
}

impl Route {
    fn other(self) -> Self {
        match self {
            Self::Direct => Self::Loopback,
            Self::Loopback => Self::Direct,
        }
    }
}

/// What to do after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterRefusal {
    /// Try [`Retry::route`] now.
    Try,
    /// Wait, then try [`Retry::route`].
    Backoff(Duration),
    /// No server listens there: refuse the client.
    GiveUp,
}

const MIN_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_millis(50);

/// The tries of one connection to reach its server.
#[derive(Debug)]
pub(super) struct Retry {
    route: Route,
    tried_other: bool,
    backoff: Duration,
    until: Option<Instant>,
}

impl Retry {
    /// `known` is the route that worked for this port before.
    ///
    /// A port that has never been answered may belong to a server that is still starting, so the tries are repeated for
    /// `grace`. Once a server has answered, a refusal is its own, and is passed on after both routes were tried.
    pub(super) fn new(known: Option<Route>, now: Instant, grace: Duration) -> Self {
        let until = if known.is_none() { Some(now + grace) } else { None };
        Self { route: known.unwrap_or(Route::Direct), tried_other: false, backoff: MIN_BACKOFF, until }
    }

    /// The route to try.
    pub(super) fn route(&self) -> Route {
        self.route
    }

    /// That route was refused.
    pub(super) fn on_refused(&mut self, now: Instant) -> AfterRefusal {
        self.route = self.route.other();
        if !self.tried_other {
            self.tried_other = true;
            return AfterRefusal::Try;
        }
        self.tried_other = false;
        if self.until.is_none_or(|until| now >= until) {
            return AfterRefusal::GiveUp;
        }
        let backoff = self.backoff;
        self.backoff = (backoff * 2).min(MAX_BACKOFF);
        AfterRefusal::Backoff(backoff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_port_is_tried_by_both_routes_again_and_again_for_a_bounded_time() {
        let start = Instant::now();
        let mut retry = Retry::new(None, start, Duration::from_secs(2));
        let mut now = start;
        let mut backoffs = Vec::new();
        let mut tried = vec![retry.route()];
        loop {
            match retry.on_refused(now) {
                AfterRefusal::Try => {}
                AfterRefusal::Backoff(backoff) => {
                    backoffs.push(backoff.as_millis());
                    now += backoff;
                }
                AfterRefusal::GiveUp => break,
            }
            tried.push(retry.route());
        }
        assert_eq!(backoffs[..6], [5, 10, 20, 40, 50, 50]);
        assert!(now - start <= Duration::from_secs(2) + MAX_BACKOFF);
        assert!(tried.chunks(2).all(|pair| pair == [Route::Direct, Route::Loopback]));
    }

    #[test]
    fn a_port_that_was_answered_before_is_tried_by_its_own_route_first_and_only_once() {
        let now = Instant::now();
        let mut retry = Retry::new(Some(Route::Loopback), now, Duration::from_secs(2));
        assert_eq!(retry.route(), Route::Loopback);
        assert_eq!((retry.on_refused(now), retry.route()), (AfterRefusal::Try, Route::Direct));
        assert_eq!(retry.on_refused(now), AfterRefusal::GiveUp);
    }
}
