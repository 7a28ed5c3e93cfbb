//! The kernel memory that connections hold. It is the host's, and no limit of a sandbox counts it.
//!
//! The kernel lets a connection buffer some megabytes each way, as fast links over long distances need, and keeps them as
//! long as a peer doesn't read. So all connections are looked at periodically while a sandbox has many. If a sandbox's
//! connections hold more than its budget together, those with more than their share get small buffers for good, and new
//! ones get them from the beginning. That slows them down and cuts none. But data that is buffered already stays: if
//! they still hold twice the budget, the large ones that have been idle for longest are reset.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::reactor::{Key, Reactor, Wake};
use crate::sys::socket;

/// The largest budget of one sandbox, for egress and again for tunnels.
const MAX_BUDGET: usize = 256 << 20;
/// The smallest budget, however many sandboxes there are and however little memory.
const MIN_BUDGET: usize = 16 << 20;
/// A sandbox with this many connections at most isn't looked at: the kernel's own limits suffice.
const FEW_CONNECTIONS: usize = 16;
/// The unit of tcp_mem. gVisor supports no other page size.
const PAGE: usize = 4096;
/// How often they are looked at.
const INTERVAL: Duration = Duration::from_millis(250);
/// How many steps a walk takes before others get a turn.
const STEPS_PER_TURN: usize = 256;
/// The smallest buffer, each way of each socket.
const MIN_BUFFER: usize = 4096;

/// One connection that was looked at.
#[derive(Clone, Copy, Debug)]
struct Seen {
    sandbox: u64,
    key: Key,
    held: usize,
    /// When something last moved.
    active: Instant,
}

/// How much a sandbox's connections hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// More than the budget: they get small buffers.
    Over,
    /// More than twice the budget: some are reset.
    Twice,
}

/// A periodic walk over all connections.
#[derive(Debug)]
pub(crate) struct Walk {
    /// How much all connections of the machine hold when the kernel begins to save memory.
    pressure: usize,
    /// How much one sandbox's connections may hold.
    budget: usize,
    left: Vec<Key>,
    seen: Vec<Seen>,
    /// What is to be done with the large ones.
    large: VecDeque<Next>,
    /// The sandboxes that were over their budget when all were last looked at.
    over: HashSet<u64>,
    under_way: bool,
}

/// The connections that a [`Walk`] is over.
pub(crate) trait Walked {
    /// The walk over them.
    fn walk(&mut self) -> &mut Walk;
    /// The key that the walk is woken with.
    fn walk_key(&self) -> Key;
    /// All connections.
    fn keys(&self) -> Vec<Key>;
    /// How many sandboxes there are.
    fn sandbox_count(&self) -> usize;
    /// The most connections that one sandbox has open.
    fn max_open(&mut self) -> usize;
    /// A connection, unless it has ended since the walk began.
    fn look(&mut self, key: Key) -> Option<Look<'_>>;
    /// Reports that the connections of a sandbox hold too much.
    fn report(&mut self, now: Instant, sandbox: u64, excess: Excess);
    /// Resets a connection.
    fn cut(&mut self, reactor: &mut Reactor, key: Key);
}

/// A connection that a walk looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) sandbox: u64,
    pub(crate) sockets: [Option<BorrowedFd<'a>>; 2],
    /// When something last moved.
    pub(crate) active: Instant,
}

/// Begins or continues the walk over these connections, as its wake-up says.
pub(crate) fn on_wake(connections: &mut impl Walked, reactor: &mut Reactor, wake: Wake) {
    if let Wake::Timer(_) = wake {
        let (keys, sandboxes) = (connections.keys(), connections.sandbox_count());
        connections.walk().begin(keys.into_iter(), sandboxes);
    }
    let mut steps = 0;
    loop {
        match connections.walk().next(&mut steps) {
            Next::Look(key) => {
                let seen = connections.look(key).map(|look| (look.sandbox, held(look.sockets), look.active));
                let walk = connections.walk();
                if let Some((sandbox, held, active)) = seen {
                    walk.record(sandbox, key, held, active);
                }
                for (sandbox, excess) in walk.excesses() {
                    connections.report(reactor.now(), sandbox, excess);
                }
            }
            Next::Shrink(key, size) => {
                if let Some(look) = connections.look(key) {
                    shrink(look.sockets, size);
                }
            }
            Next::Cut(key) => connections.cut(reactor, key),
            Next::Later => return reactor.reschedule(connections.walk_key()),
            Next::Over(pause) => {
                let most = connections.max_open();
                if connections.walk().should_begin(most) {
                    reactor.schedule(reactor.now() + pause, connections.walk_key());
                }
                return;
            }
        }
    }
}

/// What to do next of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Record this one, then call [`Walk::excesses`].
    Look(Key),
    /// Give this one buffers of that size.
    Shrink(Key, usize),
    /// Reset this one.
    Cut(Key),
    /// Continue in the next turn.
    Later,
    /// The walk is over. Another begins after that time, if there are still many connections.
    Over(Duration),
}

impl Walk {
    /// A walk that has not begun.
    pub(crate) fn new() -> Self {
        Self::under(pressure())
    }

    fn under(pressure: usize) -> Self {
        Self {
            pressure,
            budget: budget(pressure, 1),
            left: Vec::new(),
            seen: Vec::new(),
            large: VecDeque::new(),
            over: HashSet::new(),
            under_way: false,
        }
    }

    /// Whether to schedule a walk, for a sandbox with `open` connections; it counts as under way from then on.
    pub(crate) fn should_begin(&mut self, open: usize) -> bool {
        let begins = !self.under_way && open > FEW_CONNECTIONS;
        self.under_way |= begins;
        if !self.under_way {
            self.over.clear();
        }
        begins
    }

    /// Gives a new connection of a sandbox the smallest buffers while the sandbox's others hold too much.
    pub(crate) fn on_new(&self, sandbox: u64, sockets: [Option<BorrowedFd<'_>>; 2]) {
        if self.over.contains(&sandbox) {
            shrink(sockets, MIN_BUFFER);
        }
    }

    /// How long until the first walk.
    pub(crate) const FIRST_WALK: Duration = INTERVAL;

    /// Begins a walk over these connections, of so many sandboxes.
    pub(crate) fn begin(&mut self, keys: impl Iterator<Item = Key>, sandboxes: usize) {
        if self.left.is_empty() && self.large.is_empty() {
            self.budget = budget(self.pressure, sandboxes);
            self.seen.clear();
            self.left.extend(keys);
        }
    }

    /// The next step; `steps` counts them in this turn.
    fn next(&mut self, steps: &mut usize) -> Next {
        // False within a turn, so that a walk that a panic has cut short doesn't keep the next from beginning.
        self.under_way = *steps >= STEPS_PER_TURN;
        if self.under_way {
            return Next::Later;
        }
        *steps += 1;
        if let Some(key) = self.left.pop() {
            return Next::Look(key);
        }
        self.large.pop_front().unwrap_or(Next::Over(INTERVAL))
    }

    /// Records how much a connection of a sandbox holds, and when data last moved.
    pub(crate) fn record(&mut self, sandbox: u64, key: Key, held: usize, active: Instant) {
        self.seen.push(Seen { sandbox, key, held, active });
    }

    /// The sandboxes that are over their budget, once every connection was recorded. Their connections that hold more than
    /// their share are shrunk next; a sandbox that was over its budget before and holds twice as much loses some.
    fn excesses(&mut self) -> Vec<(u64, Excess)> {
        if !self.left.is_empty() || self.seen.is_empty() {
            return Vec::new();
        }
        let mut sums: HashMap<u64, (usize, usize)> = HashMap::new();
        for seen in &self.seen {
            let (count, held) = sums.entry(seen.sandbox).or_default();
            (*count, *held) = (*count + 1, held.saturating_add(seen.held));
        }
        sums.retain(|_, (_, held)| *held > self.budget);
        let before = std::mem::replace(&mut self.over, sums.keys().copied().collect());
        let twice = self.budget.saturating_mul(2);
        let mut excesses: Vec<_> = sums.keys().map(|sandbox| (*sandbox, Excess::Over)).collect();
        for (sandbox, excess) in &mut excesses {
            if before.contains(sandbox) && sums.get(sandbox).is_some_and(|(_, held)| *held > twice) {
                *excess = Excess::Twice;
            }
        }
        if excesses.iter().any(|(_, excess)| *excess == Excess::Twice) {
            self.seen.sort_unstable_by_key(|seen| seen.active);
        }
        for Seen { sandbox, key, held, .. } in self.seen.drain(..) {
            let Some((count, sum)) = sums.get_mut(&sandbox) else { continue };
            let part = self.budget / (*count).max(1);
            if held <= part {
                continue;
            }
            if *sum > twice && before.contains(&sandbox) {
                *sum -= held;
                self.large.push_back(Next::Cut(key));
            } else {
                // Each has two sockets, and each of these a buffer each way.
                self.large.push_back(Next::Shrink(key, (part / 4).max(MIN_BUFFER)));
            }
        }
        excesses
    }
}

/// The budget of one of so many sandboxes, where the kernel begins to save memory at `pressure`. Egress and tunnels have
/// half of that each, and a share of it is left for other processes.
fn budget(pressure: usize, sandboxes: usize) -> usize {
    (pressure / 2 / sandboxes.saturating_add(1)).clamp(MIN_BUDGET, MAX_BUDGET)
}

/// How much TCP holds when the kernel begins to save memory; read once.
fn pressure() -> usize {
    static READ: OnceLock<usize> = OnceLock::new();
    *READ.get_or_init(|| {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        of_host(&read("/proc/sys/net/ipv4/tcp_mem"), &read("/proc/meminfo"))
    })
}

/// The second number of tcp_mem, in pages (tcp(7)). Only the initial network namespace has that file; in others this is
/// about the kernel's default, a sixteenth of the memory.
fn of_host(tcp_mem: &str, meminfo: &str) -> usize {
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<usize>().ok());
    let set = number(tcp_mem.split_whitespace().nth(1)).map(|pages| pages.saturating_mul(PAGE));
    let all = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let default =
        || number(all?.split_whitespace().next()).map(|kilobytes| kilobytes.saturating_mul(1024) / 16);
    set.or_else(default).unwrap_or(usize::MAX)
}

/// How much a connection's sockets hold.
fn held(sockets: [Option<BorrowedFd<'_>>; 2]) -> usize {
    sockets.into_iter().flatten().map(socket::memory).sum()
}

/// Gives both sockets buffers of that size, each way.
fn shrink(sockets: [Option<BorrowedFd<'_>>; 2], size: usize) {
    sockets.into_iter().flatten().for_each(|fd| socket::set_buffers(fd, size));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{Kind, Slab};

    /// Walks, and returns which were shrunk, the sandboxes over their budgets, and how many turns it took.
    fn walked(walk: &mut Walk, held: impl Fn(Key) -> (u64, usize)) -> (Vec<(Key, usize)>, Vec<u64>, usize) {
        let (mut shrunk, mut over, mut turns) = (Vec::new(), Vec::new(), 1);
        let (mut steps, now) = (0, Instant::now());
        loop {
            match walk.next(&mut steps) {
                Next::Look(key) => {
                    let (sandbox, held) = held(key);
                    walk.record(sandbox, key, held, now);
                    over.extend(walk.excesses().into_iter().map(|(sandbox, _)| sandbox));
                }
                Next::Shrink(key, size) => shrunk.push((key, size)),
                Next::Cut(key) => panic!("{key:?} is cut"),
                Next::Later => (turns, steps) = (turns + 1, 0),
                Next::Over(_) => return (shrunk, over, turns),
            }
        }
    }

    #[test]
    fn those_with_more_than_their_part_of_what_is_too_much_are_shrunk() {
        let (mut slab, mut walk) = (Slab::new(Kind(5)), Walk::under(64 << 20));
        let keys: Vec<Key> = (0..1100).map(|number| slab.insert(number)).collect();
        assert!(
            !walk.should_begin(FEW_CONNECTIONS)
                && walk.should_begin(FEW_CONNECTIONS + 1)
                && !walk.should_begin(1000),
            "one at a time"
        );
        walk.begin(keys.iter().copied(), 1);
        // The first sandbox has a hundred, ten of which are large; the second has many small ones.
        let index = |key: Key| keys.iter().position(|one| *one == key).unwrap();
        let of = |key: Key| match index(key) {
            index @ 0..100 => (1, if index % 10 == 0 { 2 << 20 } else { 100 }),
            _ => (2, 4096),
        };
        let (shrunk, over, turns) = walked(&mut walk, of);
        assert_eq!(over, [1]);
        assert_eq!(shrunk.len(), 10);
        assert!(shrunk.iter().all(|(key, size)| index(*key) % 10 == 0 && *size == (16 << 20) / 400));
        assert_eq!(turns, 5, "in slices");
        assert!(walk.should_begin(1000));
        walk.begin(keys.iter().copied(), 1);
        assert_eq!(walked(&mut walk, |_| (1, 14 << 10)).0, [], "the budget is that of all together");
        walk.begin(keys.iter().copied(), 1);
        let (shrunk, ..) = walked(&mut walk, |_| (1, 1 << 20));
        assert_eq!((shrunk.len(), shrunk[0].1), (1100, MIN_BUFFER));
    }

    #[test]
    fn what_holds_twice_the_budget_after_that_is_cut_those_first_that_moved_least() {
        let (mut slab, mut walk) = (Slab::new(Kind(5)), Walk::under(64 << 20));
        let keys: Vec<Key> = (0..200).map(|number| slab.insert(number)).collect();
        let start = Instant::now();
        // Ninety of a hundred hold half a MiB each, those with a higher number have moved later; another sandbox's
        // hold less together.
        let mut look = || {
            walk.begin(keys.iter().copied(), 1);
            let (mut shrunk, mut cut, mut told, mut steps) = (Vec::new(), Vec::new(), Vec::new(), 0);
            loop {
                match walk.next(&mut steps) {
                    Next::Look(key) => {
                        let index = keys.iter().position(|one| *one == key).unwrap();
                        let active = start + Duration::from_secs(index as u64);
                        let (sandbox, held) = match index {
                            0..90 => (1, 1 << 19),
                            90..100 => (1, 0),
                            _ => (2, 100 << 10),
                        };
                        walk.record(sandbox, key, held, active);
                        told.extend(walk.excesses());
                    }
                    Next::Shrink(key, _) => shrunk.push(key),
                    Next::Cut(key) => cut.push(key),
                    Next::Later => steps = 0,
                    Next::Over(_) => return (shrunk.len(), cut, told),
                }
            }
        };
        assert_eq!(look(), (90, Vec::new(), vec![(1, Excess::Over)]), "small buffers come first");
        // 45 MiB are to be 32.
        assert_eq!(look(), (64, keys[..26].to_vec(), vec![(1, Excess::Twice)]));
    }

    #[test]
    fn one_that_begins_while_the_others_hold_too_much_gets_small_buffers() {
        use std::os::fd::AsFd;
        let (mut slab, mut walk) = (Slab::new(Kind(5)), Walk::under(64 << 20));
        let keys: Vec<Key> = (0..20).map(|number| slab.insert(number)).collect();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let has_small = |walk: &Walk, sandbox| {
            let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            walk.on_new(sandbox, [Some(socket.as_fd()), None]);
            nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::RcvBuf).unwrap()
                <= 2 * MIN_BUFFER
        };
        assert!(walk.should_begin(20) && !has_small(&walk, 1));
        walk.begin(keys.iter().copied(), 1);
        walked(&mut walk, |_| (1, 1 << 20));
        assert!(has_small(&walk, 1) && !has_small(&walk, 2));
        assert!(walk.should_begin(20) && has_small(&walk, 1));
        walk.begin(keys.iter().copied(), 1);
        walked(&mut walk, |_| (1, 1 << 10));
        assert!(!has_small(&walk, 1), "they hold less");
        walk.begin(keys.iter().copied(), 1);
        walked(&mut walk, |_| (1, 1 << 20));
        assert!(
            has_small(&walk, 1) && !walk.should_begin(FEW_CONNECTIONS) && !has_small(&walk, 1),
            "few are not looked at"
        );
    }

    #[test]
    fn a_walk_that_was_cut_short_does_not_keep_the_next_from_beginning() {
        let (mut slab, mut walk) = (Slab::new(Kind(5)), Walk::under(64 << 20));
        let keys: Vec<Key> = (0..2 * STEPS_PER_TURN).map(|number| slab.insert(number)).collect();
        assert!(walk.should_begin(2 * STEPS_PER_TURN));
        walk.begin(keys.iter().copied(), 1);
        assert!(matches!(walk.next(&mut 0), Next::Look(_)));
        // That look has panicked.
        assert!(walk.should_begin(2 * STEPS_PER_TURN));
        assert_eq!(walk.next(&mut STEPS_PER_TURN.clone()), Next::Later);
        assert!(!walk.should_begin(2 * STEPS_PER_TURN), "it goes on in the next turn");
    }

    #[test]
    fn the_budget_is_a_part_of_what_the_kernel_has_for_tcp() {
        assert_eq!(budget(usize::MAX, 1), 256 << 20);
        assert_eq!(budget(1 << 30, 1), 256 << 20);
        assert_eq!(budget(1 << 30, 3), 128 << 20);
        assert_eq!(budget(1 << 30, 1000), 16 << 20);
        assert_eq!(budget(0, 0), 16 << 20);
        let memory = "MemFree: 7 kB\nMemTotal:       16777216 kB\n";
        assert_eq!(of_host("10\t262144\t30\n", memory), 1 << 30);
        assert_eq!(of_host("", memory), 1 << 30);
        assert_eq!(of_host("odd", "odd"), usize::MAX);
        assert!(pressure() > 0);
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
        let (large, small) = (fill(None), fill(Some(MIN_BUFFER)));
        assert!(large > 64 << 10 && small > 0 && small < large / 4, "{large} {small}");
    }
}
