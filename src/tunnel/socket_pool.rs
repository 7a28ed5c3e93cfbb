//! A pool of unconnected sockets in a sandbox's gateway namespace.
//!
//! Only the keeper can make them, so they are fetched in batches, ahead of the connections that need them. The batch
//! doubles while it is used up quickly and shrinks back when it isn't: descriptors are scarce.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::limits::{self, MAX_POOLED_SOCKETS, MIN_POOLED_SOCKETS};
use crate::reactor::{FdBudget, FdPermit, Use};

/// Two requests closer together than this mean that the batch is too small.
const BUSY_INTERVAL: Duration = Duration::from_secs(1);

/// Without a request for this long the pool shrinks.
pub(super) const SHRINK_AFTER: Duration = Duration::from_secs(5);

/// The sockets that are there, and the request under way.
#[derive(Debug)]
pub(super) struct SocketPool {
    sockets: Vec<(OwnedFd, FdPermit)>,
    requested: usize,
    batch: usize,
    last_request: Option<Instant>,
    /// The budget ran out: for a while nothing is pooled, so that connections get the descriptors that are left.
    starved: bool,
}

impl SocketPool {
    /// An empty pool.
    pub(super) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            requested: 0,
            batch: MIN_POOLED_SOCKETS,
            last_request: None,
            starved: false,
        }
    }

    /// A socket for a connection, which has a permit of its own for it.
    pub(super) fn take(&mut self) -> Option<OwnedFd> {
        self.sockets.pop().map(|(socket, _)| socket)
    }

    /// Whether [`SocketPool::shrink`] is to be called after [`SHRINK_AFTER`].
    pub(super) fn needs_maintenance(&self) -> bool {
        self.starved || self.sockets.len() > MIN_POOLED_SOCKETS
    }

    /// How many sockets to request now, if any; `waiting` connections have none.
    pub(super) fn request(&mut self, waiting: usize, now: Instant) -> Option<usize> {
        if self.requested > 0
            || (waiting == 0 && (self.starved || self.sockets.len() >= self.batch.div_ceil(2)))
        {
            return None;
        }
        let busy = self.last_request.is_some_and(|last| now.saturating_duration_since(last) < BUSY_INTERVAL);
        if busy {
            self.batch = (self.batch * 2).min(MAX_POOLED_SOCKETS);
        }
        self.last_request = Some(now);
        let least = if self.starved { 1 } else { self.batch };
        self.requested = least.max(waiting.min(MAX_POOLED_SOCKETS));
        Some(self.requested)
    }

    /// Closes the pooled sockets: the budget has run out, and connections need their descriptors.
    pub(super) fn release(&mut self) {
        self.starved = true;
        self.batch = MIN_POOLED_SOCKETS;
        self.sockets.clear();
    }

    /// The answer to the request. Returns sockets for the `waiting` connections; what is beyond the budget of descriptors
    /// is closed.
    pub(super) fn on_sockets(
        &mut self,
        sockets: Vec<OwnedFd>,
        waiting: usize,
        (budget, sandbox): (&FdBudget, u64),
    ) -> Vec<OwnedFd> {
        self.requested = 0;
        let mut sockets = sockets.into_iter();
        let needed = sockets.by_ref().take(waiting).collect();
        for socket in sockets {
            let Some(permit) = budget.acquire(sandbox, Use::Pool, limits::POOLED_SOCKET) else {
                // Without this the pool would hold what connections need, and request more forever.
                self.release();
                break;
            };
            self.sockets.push((socket, permit));
        }
        needed
    }

    /// Closes what a quiet sandbox doesn't need. Returns whether to call it again after [`SHRINK_AFTER`].
    pub(super) fn shrink(&mut self, now: Instant) -> bool {
        if self.last_request.is_none_or(|last| now.saturating_duration_since(last) >= SHRINK_AFTER) {
            self.batch = MIN_POOLED_SOCKETS;
            self.starved = false;
            self.sockets.truncate(MIN_POOLED_SOCKETS);
        }
        self.needs_maintenance()
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
        let budget = FdBudget::new(1000);
        let (mut pool, start) = (SocketPool::new(), Instant::now());
        let mut asked = Vec::new();
        for _ in 0..7 {
            let count = pool.request(0, start).unwrap();
            assert_eq!(pool.request(5, start), None, "one request at a time");
            asked.push(count);
            assert!(pool.on_sockets(sockets(count), 0, (&budget, 1)).is_empty());
            while pool.take().is_some() {}
        }
        assert_eq!(asked, [4, 8, 16, 32, 64, 64, 64]);
        let count = pool.request(0, start).unwrap();
        pool.on_sockets(sockets(count), 0, (&budget, 1));
        assert!(pool.shrink(start));
        assert_eq!(budget.used(), 64);
        assert!(!pool.shrink(start + SHRINK_AFTER));
        assert_eq!(budget.used(), MIN_POOLED_SOCKETS);
        assert_eq!(pool.request(0, start + SHRINK_AFTER), None);
    }

    #[test]
    fn connections_that_wait_come_first_and_the_budget_bounds_the_rest() {
        let budget = FdBudget::new(3);
        let (mut pool, now) = (SocketPool::new(), Instant::now());
        assert_eq!(pool.request(10, now), Some(10));
        assert_eq!(pool.on_sockets(sockets(10), 3, (&budget, 1)).len(), 3);
        assert_eq!(budget.used(), 0, "nothing is hoarded when the budget runs out");
        assert_eq!(pool.request(0, now), None, "nor asked for without need");
        assert_eq!(pool.request(2, now), Some(2));
    }
}
