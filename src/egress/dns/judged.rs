//! An upstream server's answer, as the policy lets a sandbox be told of it.
//!
//! What it takes to find that out (the message is read, and the host's routing is asked about each address) is done
//! once and remembered with the answer, until there is another policy and for a second at most. Nothing is let
//! through by it: each connection is asked about when it is made.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::CacheKey;
use super::record::Record;
use super::write::Answer;

/// How long it is good for: so soon the host's routing is asked again.
const VERDICT_LIFETIME: Duration = Duration::from_secs(1);
/// The most bytes of one sandbox that are remembered so: a sandbox chooses what it asks for, and how long that is.
const MAX_BYTES: usize = 256 * 1024;
/// What an entry takes beside its records and addresses, roughly: with it the name that was asked for.
const OVERHEAD: usize = 512;

/// What a sandbox is told, and what is to be known of it.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) answer: Answer,
    /// How many seconds it is good for, when it is new.
    pub(super) ttl: Option<u32>,
    /// The addresses in it that may be reached by a domain.
    pub(super) reachable: Vec<IpAddr>,
    /// Addresses that were taken out.
    pub(super) removed: Vec<IpAddr>,
}

impl Judged {
    /// What it takes, roughly.
    fn bytes(&self) -> usize {
        let records = self.answer.answers.iter().chain(&self.answer.authority);
        let records: usize =
            records.map(|record| size_of::<Record>() + record.name.wire().len() + record.data.len()).sum();
        OVERHEAD + records + (self.reachable.len() + self.removed.len()) * size_of::<IpAddr>()
    }
}

/// Those of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    entries: HashMap<CacheKey, (u64, Instant, Arc<Judged>)>,
    bytes: usize,
}

impl Verdicts {
    /// What was found under that policy a moment ago.
    pub(super) fn get(&self, key: &CacheKey, generation: u64, now: Instant) -> Option<Arc<Judged>> {
        let (policy, at, judged) = self.entries.get(key)?;
        let is_good = *policy == generation && now.saturating_duration_since(*at) < VERDICT_LIFETIME;
        is_good.then(|| Arc::clone(judged))
    }

    /// Remembers what was found, and forgets what isn't good any more. If that is too much, nothing else is remembered.
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

    /// There is another answer.
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
