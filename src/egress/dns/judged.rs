//! An upstream server's answer as the policy lets a sandbox have it, cached for a moment. Pure.
//!
//! To apply a policy the message is read and the host's routing looked up for each address. That is done once and kept
//! with the answer, until the policy changes and for a second at most. It allows nothing: each connection is checked when
//! it is made.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::CacheKey;
use super::record::Record;
use super::write::Answer;

/// How long a verdict is valid: after that the host's routing is looked up again.
const VERDICT_LIFETIME: Duration = Duration::from_secs(1);
/// The most bytes that are kept for one sandbox, which chooses what it asks for and so how long answers are.
const MAX_BYTES: usize = 256 * 1024;
/// What an entry takes beside its records and addresses, roughly, with the question's name.
const OVERHEAD: usize = 512;

/// An answer as the policy lets a sandbox have it.
#[derive(Debug)]
pub(super) struct Judged {
    // Plain data.
    pub(super) answer: Answer,
    /// How many seconds it is valid when it is new.
    pub(super) ttl: Option<u32>,
    /// Its addresses that may be reached as a domain.
    pub(super) reachable: Vec<IpAddr>,
    /// Addresses that were removed.
    pub(super) removed: Vec<IpAddr>,
}

impl Judged {
    /// What it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let records = self.answer.answers.iter().chain(&self.answer.authority);
        let records: usize =
            records.map(|record| size_of::<Record>() + record.name.wire().len() + record.data.len()).sum();
        OVERHEAD + records + (self.reachable.len() + self.removed.len()) * size_of::<IpAddr>()
    }
}

/// The answers of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    entries: HashMap<CacheKey, (u64, Instant, Arc<Judged>)>,
    bytes: usize,
}

impl Verdicts {
    /// The answer as that policy lets it through, unless it is too old.
    pub(super) fn get(&self, key: &CacheKey, generation: u64, now: Instant) -> Option<Arc<Judged>> {
        let (policy, at, judged) = self.entries.get(key)?;
        let is_good = *policy == generation && now.saturating_duration_since(*at) < VERDICT_LIFETIME;
        is_good.then(|| Arc::clone(judged))
    }

    /// Keeps an answer and drops those that are no longer valid. If it needs too much memory, all others are dropped.
    pub(super) fn put(&mut self, key: CacheKey, generation: u64, judged: Arc<Judged>, now: Instant) {
        self.remove(&key);
        let bytes = &mut self.bytes;
        self.entries.retain(|_, (policy, at, judged)| {
            let is_good = *policy == generation && now.saturating_duration_since(*at) < VERDICT_LIFETIME;
            if !is_good {
                *bytes -= judged.bytes();
            }
            is_good
        });
        let size = judged.bytes();
        if self.bytes + size > MAX_BYTES {
            self.entries.clear();
            self.bytes = 0;
        }
        if size <= MAX_BYTES {
            self.bytes += size;
            self.entries.insert(key, (generation, now, judged));
        }
    }

    /// Drops an answer: there is a newer one.
    pub(super) fn remove(&mut self, key: &CacheKey) {
        if let Some((.., judged)) = self.entries.remove(key) {
            self.bytes -= judged.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::base::iana::{Class, OptRcode, Rtype};

    use super::*;
    use crate::egress::dns::message::Question;
    use crate::egress::dns::name::Name;

    fn key(name: &str) -> CacheKey {
        CacheKey::new(&Question { name: Name::of(name), kind: Rtype::A, class: Class::IN }, false, false)
    }

    fn judged(records: usize) -> Arc<Judged> {
        let record =
            Record { name: Name::of("a"), kind: Rtype::A, class: Class::IN, ttl: 9, data: vec![9; 4] };
        let answer = Answer { answers: vec![record; records], ..Answer::bare(OptRcode::NOERROR, None) };
        Arc::new(Judged { answer, ttl: Some(9), reachable: Vec::new(), removed: Vec::new() })
    }

    #[test]
    fn it_is_good_for_a_moment_and_for_one_policy() {
        let (mut verdicts, start) = (Verdicts::default(), Instant::now());
        verdicts.put(key("a.example"), 3, judged(1), start);
        let has = |verdicts: &Verdicts, generation, millis| {
            verdicts.get(&key("A.example"), generation, start + Duration::from_millis(millis)).is_some()
        };
        assert!(has(&verdicts, 3, 0) && has(&verdicts, 3, 999));
        assert!(!has(&verdicts, 3, 1000) && !has(&verdicts, 4, 0));
        verdicts.remove(&key("a.example"));
        assert!(!has(&verdicts, 3, 0));
    }

    #[test]
    fn neither_many_nor_long_ones_make_it_grow() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        let held =
            |verdicts: &Verdicts| verdicts.entries.values().map(|(.., judged)| judged.bytes()).sum::<usize>();
        for number in 0..5000 {
            verdicts.put(key(&format!("n{number}.example")), 0, judged(number % 700), now);
            assert_eq!(held(&verdicts), verdicts.bytes);
            assert!(verdicts.bytes <= MAX_BYTES);
        }
        verdicts.put(key("huge.example"), 0, judged(MAX_BYTES / 4), now);
        assert!(verdicts.get(&key("huge.example"), 0, now).is_none());
    }

    #[test]
    fn few_records_with_much_in_them_are_counted_as_much() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        for number in 0..100 {
            let mut long = Arc::try_unwrap(judged(1)).unwrap();
            long.answer.answers[0].data = vec![7; 60 << 10];
            verdicts.put(key(&format!("t{number}.example")), 0, Arc::new(long), now);
            let data = verdicts.entries.values().flat_map(|(.., judged)| &judged.answer.answers);
            assert!(data.map(|record| record.data.len()).sum::<usize>() <= MAX_BYTES);
        }
        assert!(verdicts.get(&key("t99.example"), 0, now).is_some());
    }

    #[test]
    fn what_is_no_longer_good_goes_with_the_next() {
        let (mut verdicts, start) = (Verdicts::default(), Instant::now());
        verdicts.put(key("old.example"), 0, judged(9), start);
        verdicts.put(key("other.example"), 0, judged(9), start + VERDICT_LIFETIME / 2);
        verdicts.put(key("new.example"), 0, judged(9), start + VERDICT_LIFETIME);
        assert_eq!(verdicts.entries.len(), 2);
        verdicts.put(key("policy.example"), 1, judged(9), start + VERDICT_LIFETIME);
        assert_eq!(verdicts.entries.len(), 1);
        assert_eq!(verdicts.bytes, judged(9).bytes());
    }
}
