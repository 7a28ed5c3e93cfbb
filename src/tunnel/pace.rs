//! How fast a sandbox's tunnels take new connections while the engine serves other sandboxes, too.
//!
//! A connection costs the engine little, but it costs the sandbox's own processes, the client and the kernel several times
//! as much, which no turn of the engine's can share out. So clients that connect and leave in a loop would take the
//! processors from the other sandboxes, and those that come faster wait in the listener's queue. A sandbox that is served
//! alone isn't slowed down, and neither is one whose configuration lifts the limit. Pure.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::config::TunnelRate;
use crate::sys::thread::processors;

/// How many connections a second a sandbox may take by default for each processor that this process may use.
const RATE: u32 = 250;

/// The time of one connection at the default rate.
static INTERVAL: LazyLock<Duration> =
    LazyLock::new(|| Duration::from_secs(1) / RATE.saturating_mul(processors()));

/// How far ahead of their rate they may be: by default 500 at once for each processor.
const AHEAD: Duration = Duration::from_secs(2);

/// Another sandbox counts as served for so long after its last wake-up.
pub(super) const OTHERS: Duration = Duration::from_secs(10);

/// How long a listener waits at least, so that it isn't woken for each connection.
const MIN_WAIT: Duration = Duration::from_millis(10);

/// The connections that a sandbox has taken lately.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// When they would have come one by one.
    until: Option<Instant>,
}

impl Pace {
    /// At this rate.
    pub(super) fn new(rate: TunnelRate) -> Self {
        let interval = match rate {
            TunnelRate::Default => *INTERVAL,
            TunnelRate::PerSecond(number) => Duration::from_secs(1) / number.max(1),
            // Connections that take no time are never ahead.
            TunnelRate::Unlimited => Duration::ZERO,
        };
        Self { interval, until: None }
    }

    /// When the next connection may be taken, if not now.
    pub(super) fn wait(&self, now: Instant) -> Option<Instant> {
        let over = self.until?.checked_duration_since(now + AHEAD)?;
        (!over.is_zero()).then(|| now + over.max(MIN_WAIT))
    }

    /// The same for one port, which is not kept waiting by what others take: it may take one every 10 ms, or at the sandbox's
    /// rate if that is lower. `turn` is when it may, set when it takes one.
    pub(super) fn wait_of_port(&self, now: Instant, turn: &mut Option<Instant>) -> Option<Instant> {
        let wait = self.wait(now).filter(|_| turn.is_some_and(|turn| turn > now));
        if wait.is_none() {
            *turn = Some(now + self.interval.max(MIN_WAIT));
        }
        wait
    }

    /// Counts a connection. Those that were taken while no other sandbox was served don't count later.
    pub(super) fn take(&mut self, now: Instant) {
        let until = self.until.map_or(now, |until| until.max(now)) + self.interval;
        self.until = Some(until.min(now + AHEAD + self.interval));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many connections are taken in `seconds` by a listener that is woken when it may take the next.
    fn taken(pace: &mut Pace, begin: Instant, seconds: u64) -> (u64, u64) {
        let (mut now, mut count, mut wakes) = (begin, 0, 0);
        while now < begin + Duration::from_secs(seconds) {
            match pace.wait(now) {
                None => {
                    pace.take(now);
                    count += 1;
                }
                Some(at) => {
                    assert!(at > now);
                    now = at;
                    wakes += 1;
                }
            }
        }
        (count, wakes)
    }

    #[test]
    fn a_thousand_come_at_once_and_then_five_hundred_a_second_in_few_wakes() {
        let (now, mut pace) = (Instant::now(), Pace::new(TunnelRate::PerSecond(500)));
        let (count, wakes) = taken(&mut pace, now, 10);
        assert!((5_990..=6_010).contains(&count), "{count}");
        assert!(wakes <= 1_001, "{wakes}");
        let (count, _) = taken(&mut pace, now + Duration::from_secs(3_600), 1);
        assert!((1_490..=1_510).contains(&count), "{count} after a pause");
    }

    #[test]
    fn a_flood_on_one_port_leaves_another_its_turns() {
        let begin = Instant::now();
        let mut pace = Pace::new(TunnelRate::PerSecond(500));
        let (mut turns, mut wakes, mut counts) = ([None, None], [begin, begin], [0, 0]);
        (0..10_000).for_each(|_| pace.take(begin));
        // The flooded port is woken first, and takes all that it may.
        for now in (0..1_000).map(|step| begin + Duration::from_millis(step)) {
            for port in 0..2 {
                while wakes[port] <= now {
                    match pace.wait_of_port(now, &mut turns[port]) {
                        None => {
                            pace.take(now);
                            counts[port] += 1;
                        }
                        Some(at) => wakes[port] = at,
                    }
                }
            }
        }
        assert!((95..=105).contains(&counts[1]), "{counts:?}");
        assert!(counts.iter().sum::<i32>() <= 610, "{counts:?}");
    }

    #[test]
    fn what_came_without_a_bound_is_forgotten_but_for_a_thousand() {
        let (now, mut pace) = (Instant::now(), Pace::new(TunnelRate::PerSecond(500)));
        (0..1_000_000).for_each(|_| pace.take(now));
        let at = pace.wait(now).unwrap();
        assert_eq!(at, now + MIN_WAIT);
        assert_eq!(pace.wait(at), None);
    }

    #[test]
    fn a_rate_that_is_set_holds_from_the_slowest_to_the_fastest() {
        for rate in [1, 7, 250, 10_000, 1_000_000] {
            let (now, mut pace) = (Instant::now(), Pace::new(TunnelRate::PerSecond(rate)));
            let (count, _) = taken(&mut pace, now, 3);
            // In three seconds, those of two at once and those of three, and one that is begun; a wake-up may be late by 10 ms.
            let most = 5 * u64::from(rate) + 2;
            assert!((most - most / 50 - 2..=most).contains(&count), "{count} at {rate} a second");
        }
    }

    #[test]
    fn without_a_limit_none_waits() {
        let (now, mut pace) = (Instant::now(), Pace::new(TunnelRate::Unlimited));
        for _ in 0..1_000_000 {
            assert_eq!(pace.wait(now), None);
            pace.take(now);
        }
    }
}
