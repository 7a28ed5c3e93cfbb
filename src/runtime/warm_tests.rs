//! What the pool decides, over a clock of its own.

use super::*;
use crate::runtime::backoff::{MAX_BACKOFF, MIN_BACKOFF};

fn template(mtu: u32) -> Config {
    let mut config = Config::new();
    config.set_mtu(mtu).unwrap();
    config
}

/// A member of that template that is to be made.
fn member(config: &Config) -> Next {
    Next { config: config.clone(), is_spare: false }
}

/// A pool with members of a template that are ready.
fn pool(start: Instant, config: &Config, wanted: u32, ready: u64) -> Pool {
    let mut pool = Pool::default();
    pool.set(start, config, wanted).unwrap();
    for number in 1..=ready {
        pool.began(number, &member(config));
        pool.ready(start, number);
    }
    pool
}

#[test]
fn members_are_made_one_at_a_time_while_no_sandbox_is_created() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = pool(start, &config, 2, 0);
    assert!(pool.next(start, start).is_none(), "there was a creation just now");
    assert_eq!(pool.next_look(start, start), Some(start + QUIET));
    let now = start + QUIET;
    let first = pool.next(now, start).unwrap();
    assert_eq!(StartKey::of(&first.config), StartKey::of(&config));
    pool.began(1, &first);
    assert!(pool.next(now, start).is_none() && pool.next_look(now, start).is_none(), "one is being made");
    assert_eq!((pool.stats(None).ready, pool.stats(None).filling), (0, 1));
    pool.ready(now, 1);
    pool.began(2, &pool.next(now, start).unwrap());
    pool.ready(now, 2);
    assert!(pool.next(now, start).is_none(), "the template is complete");
    assert_eq!(pool.stats(Some(&config)), WarmStats { wanted: 2, ready: 2, ..WarmStats::default() });
}

#[test]
fn a_creation_takes_the_oldest_member_and_each_is_taken_once() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = pool(start, &config, 2, 2);
    assert_eq!(pool.find(start, &config), Found::Members(vec![1, 2]));
    pool.take(1);
    assert_eq!(pool.find(start, &config), Found::Members(vec![2]));
    pool.take(2);
    assert_eq!(pool.find(start, &config), Found::Miss);
    pool.missed(&config, Miss::Empty);
    let stats = pool.stats(None);
    assert_eq!((stats.hits, stats.misses_empty), (2, 1));
    assert_eq!(stats.last_miss.as_deref(), Some("no member was ready"));
}

#[test]
fn no_more_creations_are_expected_than_there_are_members() {
    let (start, config) = (Instant::now(), template(1400));
    assert_eq!(Pool::default().expect(7, &config, |_| true), None);
    let mut pool = pool(start, &config, 2, 2);
    assert_eq!(pool.expect(7, &template(1300), |_| true), None, "it fits no template");
    assert_eq!([7, 8, 9].map(|number| pool.expect(number, &config, |_| true)), [Some(1), Some(2), None]);
    pool.take(1);
    assert_eq!(pool.expect(9, &config, |other| *other == 8), None, "the other one is for the one before it");
    assert_eq!(pool.expect(9, &config, |_| false), Some(2), "that one was ended");
}

#[test]
fn a_member_that_is_claimed_is_no_other_creations() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = pool(start, &config, 2, 2);
    assert_eq!(pool.expect(7, &config, |_| true), Some(1));
    pool.claim(1, 7);
    assert_eq!((pool.stats(None).ready, pool.find(start, &config)), (1, Found::Members(vec![2])));
    assert_eq!(pool.expect(8, &config, |_| true), Some(2), "the first has its own");
    // Its creation is ended: it is what it was. Neither age nor a lack ends one that is claimed.
    pool.unclaim(1);
    assert_eq!(pool.find(start, &config), Found::Members(vec![1, 2]));
    pool.claim(1, 7);
    assert_eq!([pool.evict(start), pool.evict(start), pool.surplus(start + MAX_AGE)], [Some(2), None, None]);
    pool.lost(start, 1, "killed");
    pool.missed(&config, Miss::Died);
    let stats = pool.stats(None);
    assert_eq!((stats.hits, stats.misses_empty, stats.failures), (0, 1, 1));
    assert!(stats.last_miss.unwrap().contains("has died"));
}

#[test]
fn a_miss_has_a_reason() {
    let (start, config) = (Instant::now(), template(1400));
    assert_eq!(Pool::default().find(start, &config), Found::Nothing);
    let mut pool = pool(start, &config, 1, 1);
    pool.set(start, &template(1300), 1).unwrap();
    let mut other = template(1400);
    other.set_hostname("other").unwrap();
    assert_eq!(pool.find(start, &other), Found::Miss);
    pool.missed(&other, Miss::Empty);
    let stats = pool.stats(Some(&config));
    assert_eq!(stats.misses_different, 1, "the template that is most like it");
    assert_eq!(stats.last_miss.as_deref(), Some("different from the template: hostname"));
    pool.discard(1);
    pool.missed(&config, Miss::Changed("runsc"));
    let stats = pool.stats(None);
    assert_eq!((stats.misses_changed, stats.discarded), (1, 1));
    assert_eq!(stats.last_miss.as_deref(), Some("changed since the members were made: runsc"));
    assert_eq!(pool.stats(Some(&template(1300))).misses_changed, 0);
}

#[test]
fn members_that_fail_are_made_again_later_and_later() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = pool(start, &config, 1, 0);
    let (mut now, mut pauses) = (start + QUIET, Vec::new());
    for number in 1..14 {
        pool.began(number, &pool.next(now, start).unwrap());
        pool.lost(now, number, "no runsc");
        let at = pool.next_look(now, start).unwrap();
        assert!(pool.next(at - Duration::from_millis(1), start).is_none());
        pauses.push(at - now);
        now = at;
    }
    assert_eq!(pauses[..3], [MIN_BACKOFF, 2 * MIN_BACKOFF, 4 * MIN_BACKOFF]);
    assert_eq!(pauses.last(), Some(&MAX_BACKOFF));
    let stats = pool.stats(None);
    assert_eq!((stats.failures, stats.last_failure.as_deref()), (13, Some("no runsc")));
    // One that is taken shows that it works again.
    pool.began(20, &pool.next(now, start).unwrap());
    pool.ready(now, 20);
    pool.take(20);
    pool.began(21, &pool.next(now, start).unwrap());
    pool.lost(now, 21, "died");
    assert_eq!(pool.next_look(now, start), Some(now + MIN_BACKOFF));
}

#[test]
fn a_member_that_dies_is_not_found() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = pool(start, &config, 1, 1);
    pool.lost(start, 1, "killed");
    pool.lost(start, 1, "killed");
    assert_eq!(pool.find(start, &config), Found::Miss);
    assert_eq!(pool.stats(None).failures, 1);
    assert!(pool.is_ending_some() && !pool.forget_ended(|_| true) && pool.forget_ended(|_| false));
}

#[test]
fn an_idle_template_keeps_one_until_a_creation_matches_it() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = pool(start, &config, 3, 3);
    assert_eq!(pool.surplus(start), None);
    let idle = start + IDLE_AFTER;
    assert_eq!(pool.next_look(start, start), Some(idle));
    assert_eq!([pool.surplus(idle), pool.surplus(idle), pool.surplus(idle)], [Some(1), Some(2), None]);
    assert!(pool.next(idle, start).is_none());
    assert_eq!(pool.find(idle, &config), Found::Members(vec![3]));
    assert!(pool.next(idle, start).is_some());
}

#[test]
fn old_members_are_replaced() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = pool(start, &config, 1, 1);
    assert_eq!(pool.surplus(start + MAX_AGE - QUIET), None);
    assert_eq!(pool.next_look(start + IDLE_AFTER, start), Some(start + MAX_AGE));
    assert_eq!(pool.surplus(start + MAX_AGE), Some(1));
    assert!(pool.next(start + MAX_AGE, start).is_some());
}

#[test]
fn under_pressure_members_are_ended_and_none_is_made_for_a_while() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = pool(start, &config, 2, 1);
    pool.set(start + QUIET, &template(1300), 1).unwrap();
    let later = template(1300);
    pool.began(7, &member(&later));
    let now = start + QUIET;
    assert_eq!([pool.evict(now), pool.evict(now), pool.evict(now)], [Some(1), Some(7), None]);
    assert!(pool.next(now, start).is_none());
    assert_eq!(pool.next_look(now, start), Some(now + PRESSURE_PAUSE));
    assert!(pool.next(now + PRESSURE_PAUSE, start).is_some());
}

#[test]
fn without_members_to_have_nothing_is_left() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = pool(start, &config, 2, 1);
    pool.began(2, &member(&config));
    assert!(!pool.is_idle());
    pool.set(start, &config, 0).unwrap();
    assert_eq!([pool.surplus(start), pool.surplus(start)], [Some(1), Some(2)]);
    assert_eq!(pool.surplus(start), None);
    assert!(!pool.is_idle() && pool.forget_ended(|_| false) && pool.is_idle());
    assert_eq!(pool.find(start, &config), Found::Nothing);
}

#[test]
fn templates_and_members_are_bounded() {
    let (now, mut pool) = (Instant::now(), Pool::default());
    let error = pool.set(now, &template(1400), 257).unwrap_err();
    assert!(error.message().contains("257") && error.message().contains("256"), "{error}");
    for index in 0..16 {
        pool.set(now, &template(1300 + index), 16).unwrap();
    }
    assert_eq!(pool.set(now, &template(1400), 1).unwrap_err().code(), Code::Invalid);
    pool.set(now, &template(1300), 8).unwrap();
    assert_eq!(pool.set(now, &template(1400), 1).unwrap_err().code(), Code::Limit);
    pool.set(now, &template(1500), 0).unwrap();
    let mut blocked = template(1300);
    blocked.add_port(80, crate::config::PortKind::Encrypted).unwrap();
    pool.set(now, &blocked, 9).unwrap();
    assert_eq!(pool.stats(None).wanted, 15 * 16 + 9, "ports are applied late: it is the same template");
}

/// A pool that has one spare of that configuration.
fn spare(start: Instant, config: &Config) -> Pool {
    let mut pool = Pool::default();
    pool.set_spares(1);
    (0..2).for_each(|_| pool.created(start, config));
    let next = pool.next(start + SPARE_QUIET, start).unwrap();
    assert!(next.is_spare && StartKey::of(&next.config) == StartKey::of(config));
    pool.began(1, &next);
    assert!(pool.is_filling_spare(1) && pool.is_filling(1));
    pool.ready(start, 1);
    pool
}

#[test]
fn spares_are_for_what_two_creations_in_a_row_had_in_common() {
    let (start, config, other) = (Instant::now(), template(1400), template(1300));
    let mut pool = Pool::default();
    (0..3).for_each(|_| pool.created(start, &config));
    assert!(pool.is_idle() && !pool.is_on(), "none is wanted");
    pool.set_spares(1);
    assert!(pool.is_on() && pool.is_idle() && pool.spares() == 1);
    for config in [&config, &other, &config, &other] {
        pool.created(start, config);
        assert!(pool.next(start + QUIET, start).is_none(), "they differ");
    }
    pool.created(start, &other);
    assert_eq!(pool.next(start + SPARE_QUIET, start).unwrap().config.mtu(), 1300);
    // A sandbox in between changes nothing; two do.
    pool.created(start, &config);
    pool.created(start, &other);
    pool.created(start, &config);
    assert_eq!(pool.next(start + SPARE_QUIET, start).unwrap().config.mtu(), 1300);
    pool.created(start, &config);
    assert_eq!(pool.next(start + SPARE_QUIET, start).unwrap().config.mtu(), 1400);
    // Those that can't have one don't count, and those that come rarely are worth none.
    let mut rare = Pool::default();
    rare.set_spares(1);
    for seconds in 0..4 {
        rare.created(start + seconds * SPARE_IDLE_AFTER, &config);
    }
    assert!(rare.next(start + 4 * SPARE_IDLE_AFTER, start).is_none());
    let mut volumes = Config::new();
    volumes.mount_volume(&crate::config::VolumeMount::new("cache"), "/cache").unwrap();
    (0..2).for_each(|_| pool.created(start, &volumes));
    let mut between = Pool::default();
    between.set_spares(1);
    [&config, &volumes, &config].into_iter().for_each(|config| between.created(start, config));
    assert!(between.next(start + SPARE_QUIET, start).is_some());
    assert_eq!(pool.surplus(start), None);
    assert_eq!(pool.templates.len(), 1, "what is not wanted any more is forgotten");
}

#[test]
fn a_spare_is_found_and_is_in_nobodys_statistics() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = spare(start, &config);
    assert_eq!(pool.find(start, &template(1300)), Found::Miss);
    assert_eq!(pool.find(start, &config), Found::Members(vec![1]));
    assert_eq!(pool.expect(9, &config, |_| true), None, "it takes its turn");
    pool.missed(&config, Miss::Empty);
    pool.take(1);
    assert_eq!(pool.stats(None), WarmStats::default());
    assert_eq!(pool.spare_stats(), WarmStats { wanted: 1, hits: 1, ..WarmStats::default() });
    assert!(pool.next(start + SPARE_QUIET, start).is_some(), "another takes its place");
}

#[test]
fn spares_end_when_they_are_not_used_any_more() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = spare(start, &config);
    let idle = start + SPARE_IDLE_AFTER;
    assert_eq!(pool.next_look(start, start), Some(idle));
    assert_eq!(pool.surplus(idle - QUIET), None);
    assert_eq!(pool.surplus(idle), Some(1));
    assert!(pool.surplus(idle).is_none() && pool.next(idle, start).is_none());
    assert!(pool.forget_ended(|_| false) && pool.is_idle() && pool.is_on());
    let mut pool = spare(start, &config);
    pool.set_spares(0);
    assert_eq!((pool.surplus(start), pool.surplus(start)), (Some(1), None));
    assert!(pool.forget_ended(|_| false) && pool.is_idle() && !pool.is_on());
}

#[test]
fn a_template_that_is_set_takes_the_place_of_its_spares() {
    let (start, config) = (Instant::now(), template(1400));
    let mut pool = spare(start, &config);
    pool.set(start, &config, 1).unwrap();
    assert_eq!(pool.surplus(start), Some(1));
    pool.began(2, &pool.next(start + QUIET, start).unwrap());
    assert!(pool.is_filling(2) && !pool.is_filling_spare(2));
    pool.ready(start, 2);
    (0..2).for_each(|_| pool.created(start, &config));
    assert!(pool.surplus(start).is_none() && pool.next(start + QUIET, start).is_none());
    assert_eq!(pool.find(start, &config), Found::Members(vec![2]));
    // Under pressure spares go first.
    (0..2).for_each(|_| pool.created(start, &template(1300)));
    pool.began(3, &pool.next(start + QUIET, start).unwrap());
    pool.ready(start, 3);
    assert_eq!([pool.evict(start), pool.evict(start)], [Some(3), Some(2)]);
}
