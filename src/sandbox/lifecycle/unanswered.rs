//! What init was asked and has not answered, of the requests that it answers at once and so in order. What it connects
//! to and what its helpers do takes the time that it takes inside, and is bounded where it is waited for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sandbox::liveness::{CHECK_INTERVAL, RECHECK_INTERVAL};

/// The most requests that are remembered. What is asked beyond them stands behind them.
const MAX_UNANSWERED: usize = 256;

#[cfg_attr(test, derive(Clone))]
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    open: VecDeque<u32>,
    /// The time watched when the first of them was first seen to be open.
    since: Option<Duration>,
    /// When init was last pinged.
    pinged: Option<Instant>,
}

impl Unanswered {
    pub(super) fn asked(&mut self, ticket: u32) {
        if self.open.len() < MAX_UNANSWERED {
            self.open.push_back(ticket);
        }
    }

    /// Init has answered. An answer out of its turn is no sign that those before it will come.
    pub(super) fn answered(&mut self, ticket: u32) {
        match self.open.iter().position(|open| *open == ticket) {
            Some(0) => (_, self.since) = (self.open.pop_front(), None),
            Some(place) => drop(self.open.remove(place)),
            None => {}
        }
    }

    /// Counts the time of what is open anew: init could not answer until now.
    pub(super) fn restart(&mut self) {
        self.since = None;
    }

    /// For how much of the time `watched` the first request has been open.
    pub(super) fn check(&mut self, watched: Duration) -> Option<Duration> {
        self.open.front()?;
        Some(watched.saturating_sub(*self.since.get_or_insert(watched)))
    }

    /// Whether init is to be pinged, since nothing else is open.
    pub(super) fn should_ping(&mut self, now: Instant) -> bool {
        // A little earlier, since checks come a little late.
        let recent = |at: Instant| now.saturating_duration_since(at) < CHECK_INTERVAL - RECHECK_INTERVAL;
        if !self.open.is_empty() || self.pinged.is_some_and(recent) {
            return false;
        }
        self.pinged = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::liveness::{LATENESS, SILENCE, Watched};

    const SECOND: Duration = Duration::from_secs(1);

    /// An init with a clock of its own, checked as the control thread does.
    struct World {
        now: Instant,
        next: Instant,
        watched: Watched,
        unanswered: Unanswered,
        ticket: u32,
        /// The tickets it was asked and may answer.
        asked: VecDeque<u32>,
    }

    impl World {
        fn new() -> Self {
            let (now, mut watched) = (Instant::now(), Watched::default());
            let next = watched.look_after(now, CHECK_INTERVAL).unwrap();
            let unanswered = Unanswered::default();
            Self { now, next, watched, unanswered, ticket: 0, asked: VecDeque::new() }
        }

        fn ask(&mut self) {
            self.ticket += 1;
            self.unanswered.asked(self.ticket);
            self.asked.push_back(self.ticket);
        }

        fn answer(&mut self) {
            while let Some(ticket) = self.asked.pop_front() {
                self.unanswered.answered(ticket);
            }
        }

        /// The next check, which comes so much late. Whether init is lost.
        fn look(&mut self, late: Duration) -> bool {
            self.now = self.next + late;
            let watched = self.watched.look(self.now);
            let open = self.unanswered.check(watched);
            if open.is_some_and(|age| age >= SILENCE) {
                return true;
            }
            if self.unanswered.should_ping(self.now) {
                self.ask();
                self.unanswered.check(watched);
            }
            let pause = if open.is_some() { RECHECK_INTERVAL } else { CHECK_INTERVAL };
            self.next = self.watched.look_after(self.now, pause).unwrap();
            false
        }

        /// How long it takes without an answer until init is lost, all checks being as late.
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
        // Asked at the next check, and open for half a minute from then on.
        let lost = world.lost_after(Duration::ZERO).unwrap();
        assert!(lost >= SILENCE && lost <= SILENCE + CHECK_INTERVAL, "{lost:?}");
    }

    #[test]
    fn a_slow_one_lives() {
        // It answers at the last moment only, each time.
        let mut world = World::new();
        for _ in 0..100 {
            loop {
                let watched = world.watched.clone().look(world.now);
                if world.unanswered.check(watched).is_some_and(|age| age >= SILENCE - SECOND) {
                    break;
                }
                assert!(!world.look(LATENESS));
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
            world.unanswered.answered(ticket);
        }
    }

    #[test]
    fn a_host_that_is_not_there_loses_none() {
        // Stopped for a minute again and again, or so busy that each check comes late.
        let mut world = World::new();
        assert!(!world.look(Duration::ZERO));
        assert_eq!(world.lost_after(60 * SECOND), None);
        // Then half a minute is left as before.
        let lost = world.lost_after(Duration::ZERO).unwrap();
        assert!(lost >= SILENCE - CHECK_INTERVAL, "{lost:?}");
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
        world.unanswered.asked(77);
        let lost = (0..100).find(|_| {
            let lost = world.look(Duration::ZERO);
            // Whatever else it answers, and whatever it was never asked.
            world.ask();
            world.answer();
            (0..99).filter(|id| *id != 77).for_each(|id| world.unanswered.answered(id));
            lost
        });
        assert!(lost.is_some());
    }

    #[test]
    fn a_flood_of_questions_costs_a_bounded_list() {
        let mut unanswered = Unanswered::default();
        (0..100_000).for_each(|ticket| unanswered.asked(ticket));
        assert_eq!(unanswered.open.len(), MAX_UNANSWERED);
        (0..100_000).for_each(|ticket| unanswered.answered(ticket));
        assert!(unanswered.open.is_empty());
    }
}
