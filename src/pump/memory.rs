//! The kernel's memory that sockets hold, which no limit of a sandbox's sees: it is the host's.
//!
//! The kernel lets a connection have some megabytes each way, as fast links over long ways need them, and keeps them for
//! as long as a peer doesn't read. So while a sandbox has many connections all are looked at in turn; when together they
//! hold more than the budget, those with more than their part get small buffers for good. That makes them slower and
//! cuts none.

use std::collections::{HashMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::reactor::Key;
use crate::sys::socket;

/// What the connections of one sandbox may hold together before that.
const BUDGET: usize = 256 << 20;
/// With fewer connections than that there is no look at them: the kernel's own limits do.
const FEW: usize = 16;
/// How often they are looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// How many are looked at before others get a turn.
const SLICE: usize = 256;
/// The smallest buffers, each way of each socket.
const SMALLEST: usize = 4096;

/// One connection that was looked at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sandbox: u64,
    key: Key,
    held: usize,
}

/// A walk over all connections, and what comes of it.
#[derive(Debug)]
pub(crate) struct Walk {
    budget: usize,
    left: Vec<Key>,
    seen: Vec<Seen>,
    /// Those that are to get buffers of that size.
    large: VecDeque<(Key, usize)>,
    under_way: bool,
}

/// What to do next of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look at this one.
    Look(Key),
    /// Give this one such buffers.
    Shrink(Key, usize),
    /// Go on in the next turn.
    Later,
    /// The walk is over; another begins after that time, if there are as many then.
    Over(Duration),
}

impl Walk {
    /// None is under way.
    pub(crate) fn new() -> Self {
        Self::within(BUDGET)
    }

    fn within(budget: usize) -> Self {
        Self { budget, left: Vec::new(), seen: Vec::new(), large: VecDeque::new(), under_way: false }
    }

    /// Whether one is to begin for a sandbox that has so many connections; it is called that by then.
    pub(crate) fn wants(&mut self, open: usize) -> bool {
        let begins = !self.under_way && open > FEW;
        self.under_way |= begins;
        begins
    }

    /// How long until the first look.
    pub(crate) const FIRST: Duration = INTERVAL;

    /// The next begins, over all of these.
    pub(crate) fn begin(&mut self, keys: impl Iterator<Item = Key>) {
        if self.left.is_empty() && self.large.is_empty() {
            self.seen.clear();
            self.left.extend(keys);
        }
    }

    /// The next step of so many in this turn.
    pub(crate) fn next(&mut self, steps: &mut usize) -> Next {
        if *steps >= SLICE {
            return Next::Later;
        }
        *steps += 1;
        if let Some(key) = self.left.pop() {
            return Next::Look(key);
        }
        if let Some((key, size)) = self.large.pop_front() {
            return Next::Shrink(key, size);
        }
        self.under_way = false;
        Next::Over(INTERVAL)
    }

    /// A connection of that sandbox holds so much.
    pub(crate) fn looked(&mut self, sandbox: u64, key: Key, held: usize) {
        self.seen.push(Seen { sandbox, key, held });
    }

    /// The sandboxes that are over their budget, once all were looked at: the connections that hold more than their part
    /// are shrunk next.
    pub(crate) fn judge(&mut self) -> Vec<u64> {
        if !self.left.is_empty() || self.seen.is_empty() {
            return Vec::new();
        }
        let mut sums: HashMap<u64, (usize, usize)> = HashMap::new();
        for seen in &self.seen {
            let (count, held) = sums.entry(seen.sandbox).or_default();
            (*count, *held) = (*count + 1, held.saturating_add(seen.held));
        }
        sums.retain(|_, (_, held)| *held > self.budget);
        for Seen { sandbox, key, held } in self.seen.drain(..) {
            let Some((count, _)) = sums.get(&sandbox) else { continue };
            let part = self.budget / count.max(&1);
            if held > part {
                // Each has two sockets, and each of these a buffer each way.
                self.large.push_back((key, (part / 4).max(SMALLEST)));
            }
        }
        sums.into_keys().collect()
    }
}

/// What a connection's sockets hold.
pub(crate) fn held(ends: [Option<BorrowedFd<'_>>; 2]) -> usize {
    ends.into_iter().flatten().map(socket::memory).sum()
}

/// Gives both sockets buffers of that size, each way.
pub(crate) fn shrink(ends: [Option<BorrowedFd<'_>>; 2], size: usize) {
    ends.into_iter().flatten().for_each(|end| socket::set_buffers(end, size));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{Kind, Slab};

    fn walked(walk: &mut Walk, held: impl Fn(Key) -> (u64, usize)) -> (Vec<(Key, usize)>, Vec<u64>, usize) {
        let (mut shrunk, mut over, mut turns) = (Vec::new(), Vec::new(), 1);
        let mut steps = 0;
        loop {
            match walk.next(&mut steps) {
                Next::Look(key) => {
                    let (sandbox, held) = held(key);
                    walk.looked(sandbox, key, held);
                    over.extend(walk.judge());
                }
                Next::Shrink(key, size) => shrunk.push((key, size)),
                Next::Later => (turns, steps) = (turns + 1, 0),
                Next::Over(_) => return (shrunk, over, turns),
            }
        }
    }

    #[test]
    fn those_with_more_than_their_part_of_what_is_too_much_are_shrunk() {
        let (mut slab, mut walk) = (Slab::new(Kind(5)), Walk::within(4 << 20));
        let keys: Vec<Key> = (0..1000).map(|number| slab.insert(number)).collect();
        assert!(!walk.wants(FEW) && walk.wants(FEW + 1) && !walk.wants(1000), "one at a time");
        walk.begin(keys.iter().copied());
        // The first sandbox has a hundred, ten of which are large; the second has many small ones.
        let index = |key: Key| keys.iter().position(|one| *one == key).unwrap();
        let of = |key: Key| match index(key) {
            index @ 0..100 => (1, if index % 10 == 0 { 1 << 20 } else { 100 }),
            _ => (2, 4096),
        };
        let (shrunk, over, turns) = walked(&mut walk, of);
        assert_eq!(over, [1]);
        assert_eq!(shrunk.len(), 10);
        assert!(shrunk.iter().all(|(key, size)| index(*key) % 10 == 0 && *size == (4 << 20) / 400));
        assert_eq!(turns, 4, "in slices");
        assert!(walk.wants(1000));
        walk.begin(keys.iter().copied());
        assert_eq!(walked(&mut walk, |_| (1, 4 << 10)).0, [], "the budget is that of all together");
        walk.begin(keys.iter().copied());
        let (shrunk, ..) = walked(&mut walk, |_| (1, 1 << 20));
        assert_eq!((shrunk.len(), shrunk[0].1), (1000, SMALLEST));
    }

    #[test]
    fn what_a_socket_holds_is_known_and_small_buffers_take_little_more() {
        use std::io::Write;
        use std::os::fd::AsFd;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let fill = |size: Option<usize>| {
            let mut ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let theirs = listener.accept().unwrap().0;
            let ends = || [Some(ours.as_fd()), Some(theirs.as_fd())];
            assert_eq!(held(ends()), 0);
            size.into_iter().for_each(|size| shrink(ends(), size));
            ours.set_nonblocking(true).unwrap();
            while ours.write(&[0; 4096]).is_ok() {}
            held([Some(ours.as_fd()), Some(theirs.as_fd())])
        };
        let (large, small) = (fill(None), fill(Some(SMALLEST)));
        assert!(large > 64 << 10 && small > 0 && small < large / 4, "{large} {small}");
    }
}
