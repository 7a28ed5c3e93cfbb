//! Whether init still answers. One that was stopped from inside, spins or lies leaves questions unanswered, and a
//! sandbox in which one was open for half a minute has ended.
//!
//! That half minute is counted in looks, and only those count at which the library was there in time: while the host
//! is stopped, its control group frozen, the machine suspended or this thread kept busy, nobody could have heard an
//! answer. One timer looks at all sandboxes, and asks those that have nothing else to answer whether they are there.
//!
//! Two states are none of this's business: a sandbox that starts has a time-out of its own for that, and of one that
//! ends nothing is expected any more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::life::{Bench, Life};
use crate::error::{Code, Error};
use crate::keeper::wire::init::{Reply, Request};
use crate::reactor::{Key, Kind, Reactor, Slab, TimerId};

/// How long a question may stay unanswered.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// How often all are asked, and looked at while nothing is unanswered.
const OFTEN: Duration = Duration::from_secs(10);
/// How soon it is looked again while something is.
const SOON: Duration = Duration::from_secs(1);
/// A look that comes later than this after its time doesn't count.
const SLACK: Duration = Duration::from_secs(1);
/// The most questions that are kept in mind. What is asked beyond them stands behind them.
const MOST: usize = 256;

/// Time in which the library was there, measured by looks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    next: Option<(Instant, Duration)>,
    counted: Duration,
}

impl Watched {
    /// When the next look is due. `None` beyond what the clock can say.
    pub(crate) fn look_after(&mut self, now: Instant, pause: Duration) -> Option<Instant> {
        let at = now.checked_add(pause)?;
        self.next = Some((at, pause));
        Some(at)
    }

    /// A look: how much time has been watched by now. One that is early or late adds nothing.
    pub(crate) fn look(&mut self, now: Instant) -> Duration {
        if let Some((_, pause)) = self.next.take_if(|(at, _)| *at <= now).filter(|(at, _)| now - *at <= SLACK)
        {
            self.counted += pause;
        }
        self.counted
    }
}

/// What init was asked and has not answered, of that which it answers at once and so in order. What it connects to
/// and what its helpers do takes the time that it takes inside, and is bounded where it is waited for.
#[derive(Debug, Default)]
pub(super) struct Owed {
    open: VecDeque<u32>,
    /// What had been watched when the first of them was first seen to be open.
    since: Option<Duration>,
    /// When it was last asked whether it is there.
    pinged: Option<Instant>,
}

impl Owed {
    /// It was asked.
    pub(super) fn asked(&mut self, request: &Request) {
        let ticket = match request {
            Request::Start(start) => start.id,
            Request::Count { ticket } | Request::Ping { ticket } => *ticket,
            _ => return,
        };
        if self.open.len() < MOST {
            self.open.push_back(ticket);
        }
    }

    /// It said something. An answer out of its turn is no sign that those before it will come.
    pub(super) fn heard(&mut self, reply: Reply) {
        let ticket = match reply {
            Reply::Started { id } | Reply::NotStarted { id, .. } => id,
            Reply::Counted { ticket, .. } | Reply::Pong { ticket } => ticket,
            _ => return,
        };
        match self.open.iter().position(|open| *open == ticket) {
            Some(0) => (_, self.since) = (self.open.pop_front(), None),
            Some(place) => drop(self.open.remove(place)),
            None => {}
        }
    }

    /// A look: for how long the first question has been open.
    fn look(&mut self, watched: Duration) -> Option<Duration> {
        self.open.front()?;
        Some(watched.saturating_sub(*self.since.get_or_insert(watched)))
    }

    /// Whether it is to be asked if it is there.
    fn is_due(&mut self, now: Instant) -> bool {
        // A little earlier, since looks come a little late.
        let recent = |at: Instant| now.saturating_duration_since(at) < OFTEN - SOON;
        if !self.open.is_empty() || self.pinged.is_some_and(recent) {
            return false;
        }
        self.pinged = Some(now);
        true
    }
}

impl Life {
    /// A look at what init owes; whether it owes something that was open at the last look, too.
    pub(crate) fn look_for_answers(&mut self, bench: &mut Bench<'_>, watched: Duration) -> bool {
        if !self.is_running() || self.init.is_none() {
            return false;
        }
        let open = self.owed.look(watched);
        if open.is_some_and(|age| age >= SILENCE) {
            let text = format!("the sandbox's init has not answered for {} s", SILENCE.as_secs());
            self.init_lost(bench, Error::new(Code::Engine, text));
            return false;
        }
        if self.owed.is_due(bench.reactor.now()) {
            let ticket = self.ticket();
            self.ask_init(bench, &Request::Ping { ticket });
            // Counted from now on.
            self.owed.look(watched);
        }
        open.is_some()
    }
}

/// The timer of all looks.
#[derive(Debug)]
pub(crate) struct Pulse {
    key: Key,
    timer: Option<TimerId>,
    watched: Watched,
}

impl Pulse {
    /// Its wake-ups come with a key of this kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { key: Slab::new(kind).insert(()), timer: None, watched: Watched::default() }
    }

    /// There is a sandbox to be looked at.
    pub(crate) fn start(&mut self, reactor: &mut Reactor) {
        if self.timer.is_none() {
            self.schedule(reactor, OFTEN);
        }
    }

    /// A look: how much time has been watched.
    pub(crate) fn look(&mut self, reactor: &mut Reactor) -> Duration {
        self.timer = None;
        self.watched.look(reactor.now())
    }

    /// When the next look is: soon if something is open, never without a sandbox.
    pub(crate) fn go_on(&mut self, reactor: &mut Reactor, open: bool, none: bool) {
        if !none && self.timer.is_none() {
            self.schedule(reactor, if open { SOON } else { OFTEN });
        }
    }

    fn schedule(&mut self, reactor: &mut Reactor, pause: Duration) {
        let at = self.watched.look_after(reactor.now(), pause);
        self.timer = at.map(|at| reactor.schedule(at, self.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// An init in a world of its own time: what it owes, looked at as the control thread does.
    struct World {
        now: Instant,
        watched: Watched,
        owed: Owed,
        ticket: u32,
        /// The tickets it was asked and may answer.
        asked: VecDeque<u32>,
    }

    impl World {
        fn new() -> Self {
            let (now, mut watched) = (Instant::now(), Watched::default());
            watched.look_after(now, OFTEN);
            Self { now, watched, owed: Owed::default(), ticket: 0, asked: VecDeque::new() }
        }

        fn ask(&mut self) {
            self.ticket += 1;
            self.owed.asked(&Request::Ping { ticket: self.ticket });
            self.asked.push_back(self.ticket);
        }

        fn answer(&mut self) {
            while let Some(ticket) = self.asked.pop_front() {
                self.owed.heard(Reply::Pong { ticket });
            }
        }

        /// The next look, which comes so much late. Whether it is lost.
        fn look(&mut self, late: Duration) -> bool {
            let (at, _) = self.watched.next.unwrap();
            self.now = at + late;
            let watched = self.watched.look(self.now);
            let open = self.owed.look(watched);
            if open.is_some_and(|age| age >= SILENCE) {
                return true;
            }
            if self.owed.is_due(self.now) {
                self.ask();
                self.owed.look(watched);
            }
            self.watched.look_after(self.now, if open.is_some() { SOON } else { OFTEN });
            false
        }

        /// For how long it goes on without an answer before it is lost, all looks being as late.
        fn lost_after(&mut self, late: Duration) -> Option<Duration> {
            let begin = self.now;
            (0..10_000).any(|_| self.look(late)).then(|| self.now - begin)
        }
    }

    #[test]
    fn one_that_falls_silent_is_lost_after_half_a_minute() {
        let mut world = World::new();
        for _ in 0..1000 {
            assert!(!world.look(Duration::ZERO));
            world.answer();
        }
        // Asked at the next look, and open for half a minute from then on.
        let lost = world.lost_after(Duration::ZERO).unwrap();
        assert!(lost >= SILENCE && lost <= SILENCE + OFTEN, "{lost:?}");
    }

    #[test]
    fn a_slow_one_lives() {
        // It answers at the last moment only, each time.
        let mut world = World::new();
        for _ in 0..100 {
            while world.owed.look(world.watched.counted).is_none_or(|age| age < SILENCE - SECOND) {
                assert!(!world.look(SLACK));
            }
            world.answer();
        }
    }

    #[test]
    fn what_is_answered_in_order_has_half_a_minute_each() {
        // Sixteen programs, started one after another by one that has little of the processor.
        let mut world = World::new();
        (0..16).for_each(|_| world.ask());
        for _ in 0..16 {
            for _ in 0..25 {
                assert!(!world.look(Duration::ZERO));
            }
            let ticket = world.asked.pop_front().unwrap();
            world.owed.heard(Reply::Started { id: ticket });
        }
    }

    #[test]
    fn a_host_that_is_not_there_loses_none() {
        // Stopped for a minute again and again, or so busy that each look comes late.
        let mut world = World::new();
        assert!(!world.look(Duration::ZERO));
        assert_eq!(world.lost_after(60 * SECOND), None);
        // Then half a minute is left as before.
        let lost = world.lost_after(Duration::ZERO).unwrap();
        assert!(lost >= SILENCE - OFTEN, "{lost:?}");
        // And stopped once in the middle of it, it isn't lost on coming back.
        let mut world = World::new();
        (0..15).for_each(|_| assert!(!world.look(Duration::ZERO)));
        assert!(!world.look(3600 * SECOND));
        world.answer();
        assert!(!world.look(Duration::ZERO));
    }

    #[test]
    fn a_liar_that_says_it_is_there_answers_everything_or_is_lost() {
        let mut world = World::new();
        world.owed.asked(&Request::Count { ticket: 77 });
        let lost = (0..100).find(|_| {
            let lost = world.look(Duration::ZERO);
            // Whatever else it answers, and whatever it was never asked.
            world.ask();
            world.answer();
            (0..99).filter(|id| *id != 77).for_each(|id| world.owed.heard(Reply::Started { id }));
            lost
        });
        assert!(lost.is_some());
    }

    #[test]
    fn a_flood_of_questions_costs_a_bounded_list() {
        let mut owed = Owed::default();
        (0..100_000).for_each(|ticket| owed.asked(&Request::Count { ticket }));
        assert_eq!(owed.open.len(), MOST);
        (0..100_000).for_each(|ticket| owed.heard(Reply::Counted { ticket, processes: None }));
        assert!(owed.open.is_empty());
    }

    #[test]
    fn an_early_wake_up_counts_for_nothing_and_takes_nothing_away() {
        let mut watched = Watched::default();
        let now = Instant::now();
        let at = watched.look_after(now, SOON).unwrap();
        assert_eq!(watched.look(now), Duration::ZERO);
        assert_eq!(watched.look(at), SOON);
        assert_eq!(watched.look(at), SOON, "each look counts once");
    }
}
