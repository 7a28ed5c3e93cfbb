//! The order in which keys are woken.
//!
//! Each key belongs to a group (a sandbox; a key that has joined none is in group 0). A key is queued once, however often
//! and for whatever reasons it is to be woken. The group that has used the least time is served next, and one that was
//! idle begins level with the others. So no group waits longer than the others' shares, however much one of them has
//! pending, and a group that is alone gets all of the time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::key::{FdSlot, KINDS, Key};
use super::wake::{Readiness, Wake};

/// How long one group is served before the others are looked at, in nanoseconds.
const QUANTUM: u64 = 200_000;
/// How many keys of a group with new readiness are woken before one that was rescheduled.
const NEWS_FIRST: usize = 32;
/// The most that one wake-up is charged, in nanoseconds. If the host was stopped or suspended during it, that isn't the
/// sandbox's fault.
const MAX_CHARGE: u64 = 50_000_000;

/// The reasons for which a key is to be woken.
#[derive(Clone, Copy, Debug)]
struct Mark {
    key: Key,
    group: u64,
    first: Option<Readiness>,
    second: Option<Readiness>,
    timer: bool,
    again: bool,
    /// It is in its group's queue.
    queued: bool,
    /// It is to be woken in the next turn.
    later: bool,
}

impl Mark {
    fn new(key: Key) -> Self {
        let (group, first, second) = (0, None, None);
        Self { key, group, first, second, timer: false, again: false, queued: false, later: false }
    }

    fn has_more(&self) -> bool {
        self.first.is_some() || self.second.is_some() || self.timer || self.again
    }

    /// The next reason.
    fn take(&mut self) -> Option<Wake> {
        if let Some(readiness) = self.first.take() {
            return Some(Wake::Ready(self.key, FdSlot::First, readiness));
        }
        if let Some(readiness) = self.second.take() {
            return Some(Wake::Ready(self.key, FdSlot::Second, readiness));
        }
        if std::mem::take(&mut self.timer) {
            return Some(Wake::Timer(self.key));
        }
        std::mem::take(&mut self.again).then_some(Wake::Rescheduled(self.key))
    }
}

#[derive(Debug, Default)]
struct Group {
    /// The time that it has used, in nanoseconds, raised to the others' level when it was idle.
    used: u64,
    /// Keys with new readiness, and keys that were rescheduled. The former are cheaper, and go first.
    news: VecDeque<Key>,
    more: VecDeque<Key>,
    /// How many of `news` were woken while the first of `more` waits.
    before: usize,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.news.is_empty() && self.more.is_empty()
    }

    /// The queue whose first key is next.
    fn queue(&mut self) -> &mut VecDeque<Key> {
        if self.news.is_empty() || self.before >= NEWS_FIRST && !self.more.is_empty() {
            &mut self.more
        } else {
            &mut self.news
        }
    }

    fn first(&mut self) -> Option<Key> {
        self.queue().front().copied()
    }

    fn pop(&mut self) {
        let more = self.more.len();
        self.queue().pop_front();
        // It starts again when `more` has had one, and where none of it waits.
        self.before = if self.more.len() < more || more == 0 { 0 } else { self.before + 1 };
    }
}

/// The keys that wait to be woken.
#[derive(Debug, Default)]
pub(super) struct Turns {
    marks: [Vec<Mark>; KINDS],
    /// Groups that have something queued, or that have used more than the others.
    groups: HashMap<u64, Group>,
    /// The groups that have something queued, except the current one.
    order: BTreeSet<(u64, u64)>,
    /// The group that is served, for how long already, its number, and whether it has something for the next turn.
    current: Option<(Group, u64, u64, bool)>,
    /// The time that the group chosen last had used, and the most that any group has.
    floor: u64,
    highest: u64,
    /// The least time used by a group that was served in this turn and has something for the next.
    returning: Option<u64>,
    later: Vec<Key>,
    prune: usize,
    /// Where the time of a group is added up, in nanoseconds.
    meters: HashMap<u64, Weak<AtomicU64>>,
    most_meters: usize,
}

impl Turns {
    /// The key belongs to that group from now on.
    pub(super) fn join(&mut self, key: Key, group: u64) {
        if let Some(mark) = mark(&mut self.marks, key) {
            mark.group = group;
        }
    }

    /// Adds the time of that group to `meter`, in nanoseconds, until the other references to it are dropped.
    pub(super) fn meter(&mut self, group: u64, meter: &Arc<AtomicU64>) {
        if self.meters.len() > self.most_meters {
            self.meters.retain(|_, meter| meter.strong_count() > 0);
            self.most_meters = 64.max(2 * self.meters.len());
        }
        self.meters.insert(group, Arc::downgrade(meter));
    }

    /// A descriptor of the key is ready.
    pub(super) fn ready(&mut self, key: Key, slot: FdSlot, readiness: Readiness) {
        let Some(mark) = mark(&mut self.marks, key) else { return };
        let marked = match slot {
            FdSlot::First => &mut mark.first,
            FdSlot::Second => &mut mark.second,
        };
        *marked = Some(marked.unwrap_or_default().or(readiness));
        self.enqueue(key, false);
    }

    /// A timer of the key has expired; false if another object has taken the key's place.
    pub(super) fn expired(&mut self, key: Key) -> bool {
        let Some(mark) = mark(&mut self.marks, key) else { return false };
        mark.timer = true;
        self.enqueue(key, false);
        true
    }

    /// The expired timers of the key were cancelled.
    pub(super) fn unexpired(&mut self, key: Key) {
        if let Some(mark) = mark(&mut self.marks, key) {
            mark.timer = false;
        }
    }

    /// The key is to be woken in the next turn.
    pub(super) fn reschedule(&mut self, key: Key) {
        if let Some(mark) = mark(&mut self.marks, key)
            && !std::mem::replace(&mut mark.later, true)
        {
            self.later.push(key);
            if let Some((_, _, number, returns)) = &mut self.current
                && *number == mark.group
            {
                *returns = true;
            }
        }
    }

    /// The next turn begins.
    pub(super) fn begin(&mut self) {
        self.put_back();
        self.returning = None;
        if self.order.is_empty() && self.later.is_empty() {
            // All groups are idle, and begin level.
            self.floor = self.highest;
            self.groups.clear();
        }
    }

    /// Queues the keys that were rescheduled for this turn, behind those with new readiness.
    pub(super) fn queue_rescheduled(&mut self) {
        let mut later = std::mem::take(&mut self.later);
        for key in later.drain(..) {
            let Some(mark) = mark(&mut self.marks, key) else { continue };
            mark.later = false;
            mark.again = true;
            self.enqueue(key, true);
        }
        self.later = later;
    }

    /// Whether no key waits, neither for this turn nor for the next.
    pub(super) fn is_idle(&self) -> bool {
        let current = self.current.as_ref().is_none_or(|(group, ..)| group.is_empty());
        current && self.order.is_empty() && self.later.is_empty()
    }

    /// The next key to wake, with the reason.
    pub(super) fn next(&mut self) -> Option<Wake> {
        loop {
            if let Some((group, served, ..)) = &mut self.current
                && *served < QUANTUM
            {
                while let Some(key) = group.first() {
                    // A key whose place another object has taken is dropped.
                    let found = mark(&mut self.marks, key);
                    let wake = found.and_then(|mark| {
                        let wake = mark.take();
                        mark.queued = mark.has_more();
                        wake.map(|wake| (wake, mark.queued))
                    });
                    match wake {
                        Some((wake, true)) => return Some(wake),
                        Some((wake, false)) => {
                            group.pop();
                            return Some(wake);
                        }
                        None => group.pop(),
                    }
                }
            }
            self.put_back();
            let (used, number) = *self.order.first()?;
            // A group that has used more than one that returns in the next turn waits for that one.
            if self.returning.is_some_and(|least| used > least.saturating_add(QUANTUM)) {
                return None;
            }
            self.order.pop_first();
            self.floor = self.floor.max(used);
            self.current = self.groups.remove(&number).map(|group| (group, 0, number, false));
        }
    }

    /// The group of the last wake-up.
    pub(super) fn current(&self) -> Option<u64> {
        self.current.as_ref().map(|(_, _, number, _)| *number)
    }

    /// Charges the last wake-up's group with its nanoseconds.
    pub(super) fn charge(&mut self, cost: u64) {
        if let Some((group, served, ..)) = &mut self.current {
            *served = served.saturating_add(cost);
            group.used = group.used.saturating_add(cost.min(MAX_CHARGE));
            self.highest = self.highest.max(group.used);
        }
    }

    fn enqueue(&mut self, key: Key, more: bool) {
        let Some(mark) = mark(&mut self.marks, key) else { return };
        if std::mem::replace(&mut mark.queued, true) {
            return;
        }
        let number = mark.group;
        let group = match &mut self.current {
            Some((group, _, current, _)) if *current == number => group,
            _ => {
                let group = self.groups.entry(number).or_default();
                if group.is_empty() {
                    group.used = group.used.max(self.floor);
                    self.order.insert((group.used, number));
                }
                group
            }
        };
        if more { &mut group.more } else { &mut group.news }.push_back(key);
    }

    /// Puts the current group behind the others again.
    fn put_back(&mut self) {
        let Some((group, served, number, returns)) = self.current.take() else { return };
        if let Some(meter) = self.meters.get(&number).and_then(Weak::upgrade) {
            meter.fetch_add(served, Ordering::Relaxed);
        }
        if returns {
            self.returning = Some(self.returning.map_or(group.used, |least| least.min(group.used)));
        }
        if !group.is_empty() {
            self.order.insert((group.used, number));
        }
        self.groups.insert(number, group);
        if self.groups.len() > self.prune {
            let floor = self.floor;
            self.groups.retain(|_, group| !group.is_empty() || group.used > floor);
            self.prune = 64.max(2 * self.groups.len());
        }
    }
}

/// The key's mark; `None` if a later object has taken its place.
fn mark(marks: &mut [Vec<Mark>; KINDS], key: Key) -> Option<&mut Mark> {
    let marks = marks.get_mut(usize::from(key.kind().0))?;
    let index = key.index() as usize;
    while marks.len() <= index {
        let index = u32::try_from(marks.len()).ok()?;
        marks.push(Mark::new(Key::new(key.kind(), index, 0)));
    }
    let mark = marks.get_mut(index)?;
    if mark.key != key {
        if mark.key.is_after(key) {
            return None;
        }
        *mark = Mark::new(key);
    }
    Some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{Kind, Slab};

    const READABLE: Readiness =
        Readiness { readable: true, writable: false, failed: false, more_follows: false };

    fn keys(slab: &mut Slab<()>, turns: &mut Turns, group: u64, count: usize) -> Vec<Key> {
        let keys: Vec<Key> = (0..count).map(|_| slab.insert(())).collect();
        keys.iter().for_each(|key| turns.join(*key, group));
        keys
    }

    fn key(wake: Wake) -> Key {
        wake.key()
    }

    fn begin(turns: &mut Turns) {
        turns.begin();
        turns.queue_rescheduled();
    }

    fn rest(turns: &mut Turns) -> Vec<Wake> {
        std::iter::from_fn(|| turns.next()).collect()
    }

    #[test]
    fn a_key_is_woken_once_for_each_reason_however_often_it_asks() {
        let (mut slab, mut turns) = (Slab::new(Kind(1)), Turns::default());
        let one = slab.insert(());
        for _ in 0..9 {
            turns.reschedule(one);
            turns.expired(one);
            turns.ready(one, FdSlot::Second, READABLE);
            turns.ready(one, FdSlot::Second, Readiness { more_follows: true, ..Readiness::default() });
        }
        begin(&mut turns);
        let both = Readiness { more_follows: true, ..READABLE };
        let wakes = rest(&mut turns);
        assert!(
            matches!(wakes[..], [Wake::Ready(a, FdSlot::Second, told), Wake::Timer(b), Wake::Rescheduled(c)]
                if [a, b, c] == [one; 3] && told == both),
            "{wakes:?}"
        );
    }

    #[test]
    fn who_asks_again_waits_for_the_next_turn_behind_those_of_its_group() {
        let (mut slab, mut turns) = (Slab::new(Kind(1)), Turns::default());
        let [one, other] = keys(&mut slab, &mut turns, 7, 2)[..] else { panic!() };
        turns.ready(one, FdSlot::First, READABLE);
        turns.ready(other, FdSlot::First, READABLE);
        begin(&mut turns);
        assert_eq!(turns.next().map(key), Some(one));
        turns.reschedule(one);
        // The turn is over before the other had its own.
        begin(&mut turns);
        assert!(!turns.is_idle());
        assert_eq!(rest(&mut turns).into_iter().map(key).collect::<Vec<_>>(), [other, one]);
        assert!(turns.next().is_none() && turns.is_idle());
    }

    #[test]
    fn news_come_before_those_that_want_more_which_get_their_part() {
        let (mut slab, mut turns) = (Slab::new(Kind(1)), Turns::default());
        let many = keys(&mut slab, &mut turns, 7, 100);
        let [greedy] = keys(&mut slab, &mut turns, 7, 1)[..] else { panic!() };
        turns.reschedule(greedy);
        begin(&mut turns);
        many.iter().for_each(|key| turns.ready(*key, FdSlot::First, READABLE));
        let order: Vec<Key> = rest(&mut turns).into_iter().map(key).collect();
        assert_eq!(order.len(), 101);
        assert_eq!(order.iter().position(|key| *key == greedy), Some(NEWS_FIRST));
    }

    #[test]
    fn a_group_with_much_to_do_has_its_share_and_no_more() {
        let (mut slab, mut turns) = (Slab::new(Kind(1)), Turns::default());
        let floods = keys(&mut slab, &mut turns, 1, 1000);
        let [quiet] = keys(&mut slab, &mut turns, 2, 1)[..] else { panic!() };
        let mut woken = 0;
        for _ in 0..100 {
            floods.iter().for_each(|key| turns.ready(*key, FdSlot::First, READABLE));
            begin(&mut turns);
            // It has run alone for a while when the other comes.
            for _ in 0..50 {
                turns.next().unwrap();
                turns.charge(20_000);
            }
            turns.ready(quiet, FdSlot::First, READABLE);
            let before = (0..).find(|_| {
                let found = turns.next().map(key) == Some(quiet);
                turns.charge(20_000);
                found
            });
            assert!(before.unwrap() <= 10, "a quantum is ten of these");
            woken += 1;
        }
        assert_eq!(woken, 100);
    }

    #[test]
    fn two_that_always_have_something_to_do_get_the_same_time_whatever_each_wake_costs() {
        let (mut slab, mut turns) = (Slab::new(Kind(1)), Turns::default());
        let [dear] = keys(&mut slab, &mut turns, 1, 1)[..] else { panic!() };
        let [cheap] = keys(&mut slab, &mut turns, 2, 1)[..] else { panic!() };
        let mut used = [0_u64; 2];
        turns.reschedule(dear);
        turns.reschedule(cheap);
        for _ in 0..10_000 {
            begin(&mut turns);
            // A turn is over after a moment, and the rest of it waits.
            let mut left = 1_000_000_u64;
            while left > 0
                && let Some(wake) = turns.next()
            {
                let (place, cost) = if key(wake) == dear { (0, 30_000_000) } else { (1, 10_000) };
                used[place] += cost;
                turns.charge(cost);
                left = left.saturating_sub(cost);
                turns.reschedule(key(wake));
            }
        }
        let [dear, cheap] = used;
        assert!(dear.abs_diff(cheap) <= 60_000_000, "{dear} and {cheap}");
    }

    #[test]
    fn the_time_of_a_group_is_added_up_for_who_asked() {
        let (mut slab, mut turns) = (Slab::new(Kind(1)), Turns::default());
        let [one] = keys(&mut slab, &mut turns, 1, 1)[..] else { panic!() };
        let [other] = keys(&mut slab, &mut turns, 2, 1)[..] else { panic!() };
        let meter = Arc::new(AtomicU64::new(0));
        turns.meter(1, &meter);
        for _ in 0..10 {
            begin(&mut turns);
            turns.ready(one, FdSlot::First, READABLE);
            turns.ready(other, FdSlot::First, READABLE);
            while let Some(wake) = turns.next() {
                turns.charge(if key(wake) == one { 1000 } else { 7 });
            }
        }
        assert_eq!(meter.load(Ordering::Relaxed), 10_000);
        for group in 3..10_000 {
            turns.meter(group, &Arc::default());
        }
        assert!(turns.meters.len() < 200, "{}", turns.meters.len());
        assert!(turns.meters.contains_key(&1));
    }

    #[test]
    fn a_key_whose_place_was_taken_is_nobodys() {
        let (mut slab, mut turns) = (Slab::new(Kind(1)), Turns::default());
        let [old] = keys(&mut slab, &mut turns, 1, 1)[..] else { panic!() };
        turns.ready(old, FdSlot::First, READABLE);
        turns.reschedule(old);
        slab.remove(old);
        let [new] = keys(&mut slab, &mut turns, 2, 1)[..] else { panic!() };
        turns.ready(new, FdSlot::First, READABLE);
        turns.ready(old, FdSlot::First, READABLE);
        begin(&mut turns);
        assert_eq!(rest(&mut turns).into_iter().map(key).collect::<Vec<_>>(), [new]);
    }

    #[test]
    fn groups_that_are_gone_are_forgotten() {
        let (mut slab, mut turns) = (Slab::new(Kind(1)), Turns::default());
        for group in 0..10_000 {
            let [one] = keys(&mut slab, &mut turns, group, 1)[..] else { panic!() };
            begin(&mut turns);
            turns.ready(one, FdSlot::First, READABLE);
            assert_eq!(turns.next().map(key), Some(one));
            turns.charge(1000);
            slab.remove(one);
        }
        assert!(turns.groups.len() < 200, "{}", turns.groups.len());
    }
}
