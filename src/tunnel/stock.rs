//! A sandbox's unconnected sockets of its gateway namespace.
//!
//! Only the keeper can make them, so they are fetched in batches, ahead of the connections that need them.
//! The batch doubles while it is used up quickly and shrinks back when it isn't: descriptors are scarce.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::limits::{self, MAX_POOLED_SOCKETS, MIN_POOLED_SOCKETS};
use crate::reactor::{Budget, Permit, Use};

/// Two requests closer together than this mean that the batch is too small.
const BUSY: Duration = Duration::from_secs(1);

/// Without a request for this long the stock shrinks.
pub(crate) const QUIET: Duration = Duration::from_secs(5);

/// The sockets in hand and the request under way.
#[derive(Debug)]
pub(crate) struct Stock {
    sockets: Vec<(OwnedFd, Permit)>,
    asked: usize,
    batch: usize,
    last: Option<Instant>,
    /// The budget ran out: for a while nothing is kept in stock, so that connections get what there is.
    starved: bool,
}

impl Stock {
    pub(crate) fn new() -> Self {
        Self { sockets: Vec::new(), asked: 0, batch: MIN_POOLED_SOCKETS, last: None, starved: false }
    }

    /// A socket for a connection, which has a permit of its own for it.
    pub(crate) fn take(&mut self) -> Option<OwnedFd> {
        self.sockets.pop().map(|(socket, _)| socket)
    }

    /// Whether [`Stock::shrink`] has to be called some time.
    pub(crate) fn needs_upkeep(&self) -> bool {
        self.starved || self.sockets.len() > MIN_POOLED_SOCKETS
    }

    /// How many sockets to ask for now, if any, with `waiting` connections that have none.
    pub(crate) fn request(&mut self, waiting: usize, now: Instant) -> Option<usize> {
        if self.asked > 0 || (waiting == 0 && (self.starved || self.sockets.len() >= self.batch.div_ceil(2)))
        {
            return None;
        }
        let busy = self.last.is_some_and(|last| now.saturating_duration_since(last) < BUSY);
        if busy {
            self.batch = (self.batch * 2).min(MAX_POOLED_SOCKETS);
        }
        self.last = Some(now);
        let least = if self.starved { 1 } else { self.batch };
        self.asked = least.max(waiting.min(MAX_POOLED_SOCKETS));
        Some(self.asked)
    }

    /// The budget has run out: what is in stock is for the connections that come.
    pub(crate) fn give_up(&mut self) {
        self.starved = true;
        self.batch = MIN_POOLED_SOCKETS;
        self.sockets.clear();
    }

    /// The answer has come. What is beyond the budget of descriptors is closed.
    pub(crate) fn arrived(
        &mut self,
        sockets: Vec<OwnedFd>,
        waiting: usize,
        (budget, sandbox): (&Budget, u64),
    ) -> Vec<OwnedFd> {
        self.asked = 0;
        let mut sockets = sockets.into_iter();
        let needed = sockets.by_ref().take(waiting).collect();
        for socket in sockets {
            let Some(permit) = budget.acquire(sandbox, Use::Stock, limits::POOLED_SOCKET) else {
                // Without this the stock would hold what connections need, and ask for more for ever.
                self.give_up();
                break;
            };
            self.sockets.push((socket, permit));
        }
        needed
    }

    /// Closes what a quiet sandbox doesn't need; true while there is more than that.
    pub(crate) fn shrink(&mut self, now: Instant) -> bool {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET) {
            self.batch = MIN_POOLED_SOCKETS;
            self.starved = false;
            self.sockets.truncate(MIN_POOLED_SOCKETS);
        }
        self.starved || self.sockets.len() > MIN_POOLED_SOCKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()).collect()
    }

    #[test]
    fn it_grows_under_demand_and_shrinks_back() {
        let budget = Budget::new(1000);
        let (mut stock, start) = (Stock::new(), Instant::now());
        let mut asked = Vec::new();
        for _ in 0..7 {
            let count = stock.request(0, start).unwrap();
            assert_eq!(stock.request(5, start), None, "one request at a time");
            asked.push(count);
            assert!(stock.arrived(sockets(count), 0, (&budget, 1)).is_empty());
            while stock.take().is_some() {}
        }
        assert_eq!(asked, [4, 8, 16, 32, 64, 64, 64]);
        let count = stock.request(0, start).unwrap();
        stock.arrived(sockets(count), 0, (&budget, 1));
        assert!(stock.shrink(start));
        assert_eq!(budget.used(), 64);
        assert!(!stock.shrink(start + QUIET));
        assert_eq!(budget.used(), MIN_POOLED_SOCKETS);
        assert_eq!(stock.request(0, start + QUIET), None);
    }

    #[test]
    fn connections_that_wait_come_first_and_the_budget_bounds_the_rest() {
        let budget = Budget::new(3);
        let (mut stock, now) = (Stock::new(), Instant::now());
        assert_eq!(stock.request(10, now), Some(10));
        assert_eq!(stock.arrived(sockets(10), 3, (&budget, 1)).len(), 3);
        assert_eq!(budget.used(), 0, "nothing is hoarded when the budget runs out");
        assert_eq!(stock.request(0, now), None, "nor asked for without need");
        assert_eq!(stock.request(2, now), Some(2));
    }
}
