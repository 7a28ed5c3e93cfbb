//! Which way a connection is brought to its server, and what comes next when that way refuses. Pure.

use std::time::{Duration, Instant};

/// The two ways to a server in a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To eth0's address, from the gateway: servers that listen on every address.
    Direct,
    /// Through init, to 127.0.0.1 inside: servers that listen only there.
    Loopback,
}

impl Way {
    fn other(self) -> Self {
        match self {
            Self::Direct => Self::Loopback,
            Self::Loopback => Self::Direct,
        }
    }
}

/// What to do after a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try this way now.
    Try(Way),
    /// Wait, then try [`Attempt::way`].
    Pause(Duration),
    /// Nobody is there: tell the client.
    GiveUp,
}

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// One connection's search for its server.
#[derive(Debug)]
pub(crate) struct Attempt {
    way: Way,
    tried_other: bool,
    pause: Duration,
    until: Option<Instant>,
}

impl Attempt {
    /// `known` is the way that worked for this port before. A port that nobody has ever answered on may belong
    /// to a server that is still starting, so there the search is repeated for `patience`; once a server has
    /// answered, a refusal is its own and is passed on after both ways were tried.
    pub(crate) fn new(known: Option<Way>, now: Instant, patience: Duration) -> Self {
        let until = if known.is_none() { Some(now + patience) } else { None };
        Self { way: known.unwrap_or(Way::Direct), tried_other: false, pause: FIRST_PAUSE, until }
    }

    /// The way to try.
    pub(crate) fn way(&self) -> Way {
        self.way
    }

    /// That way was refused.
    pub(crate) fn refused(&mut self, now: Instant) -> Next {
        self.way = self.way.other();
        if !self.tried_other {
            self.tried_other = true;
            return Next::Try(self.way);
        }
        self.tried_other = false;
        if self.until.is_none_or(|until| now >= until) {
            return Next::GiveUp;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        Next::Pause(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_port_is_tried_both_ways_again_and_again_for_a_bounded_time() {
        let start = Instant::now();
        let mut attempt = Attempt::new(None, start, Duration::from_secs(2));
        let mut now = start;
        let mut pauses = Vec::new();
        let mut tries = vec![attempt.way()];
        loop {
            match attempt.refused(now) {
                Next::Try(way) => tries.push(way),
                Next::Pause(pause) => {
                    pauses.push(pause.as_millis());
                    now += pause;
                    tries.push(attempt.way());
                }
                Next::GiveUp => break,
            }
        }
        assert_eq!(pauses[..6], [5, 10, 20, 40, 50, 50]);
        assert!(now - start <= Duration::from_secs(2) + LONGEST_PAUSE);
        assert!(tries.chunks(2).all(|pair| pair == [Way::Direct, Way::Loopback]));
    }

    #[test]
    fn a_port_that_was_answered_before_is_tried_its_own_way_first_and_only_once() {
        let now = Instant::now();
        let mut attempt = Attempt::new(Some(Way::Loopback), now, Duration::from_secs(2));
        assert_eq!(attempt.way(), Way::Loopback);
        assert_eq!(attempt.refused(now), Next::Try(Way::Direct));
        assert_eq!(attempt.refused(now), Next::GiveUp);
    }
}
