//! Caches answers of upstream servers. Pure.
//!
//! Each sandbox has a cache of its own: what one has asked for must not show in how quickly another is answered. Answers
//! are kept as they came and filtered each time, so that a new policy applies at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;

use super::message::Question;
use super::name::Name;

const MAX_ENTRIES: usize = 512;
const MAX_BYTES: usize = 256 * 1024;
/// What an entry takes beside its bytes, roughly.
const OVERHEAD: usize = 256;

/// What an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheKey {
    name: Name,
    kind: Rtype,
    dnssec_ok: bool,
    checking_disabled: bool,
}

impl CacheKey {
    pub(crate) fn new(question: &Question, dnssec_ok: bool, checking_disabled: bool) -> Self {
        Self { name: question.name.lower(), kind: question.kind, dnssec_ok, checking_disabled }
    }
}

#[derive(Debug)]
struct Entry {
    message: Arc<[u8]>,
    since: Instant,
    until: Instant,
}

/// The answers of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<CacheKey, Entry>,
    bytes: usize,
}

impl Cache {
    /// The answer, and its age in seconds.
    pub(crate) fn get(&self, key: &CacheKey, now: Instant) -> Option<(Arc<[u8]>, u32)> {
        let entry = self.entries.get(key).filter(|entry| now < entry.until)?;
        let age = now.saturating_duration_since(entry.since).as_secs();
        Some((Arc::clone(&entry.message), u32::try_from(age).unwrap_or(u32::MAX)))
    }

    /// Keeps an answer for so many seconds. Others give way: those that have expired, then those that expire first.
    pub(crate) fn put(&mut self, key: CacheKey, message: Arc<[u8]>, ttl: u32, now: Instant) {
        let size = message.len() + OVERHEAD;
        if ttl == 0 || size > MAX_BYTES / 4 {
            return;
        }
        self.remove(&key);
        if self.is_full(size) {
            self.entries.retain(|_, entry| now < entry.until);
            self.bytes = self.entries.values().map(|entry| entry.message.len() + OVERHEAD).sum();
        }
        while self.is_full(size) {
            let soonest = self.entries.iter().min_by_key(|(_, entry)| entry.until);
            let Some(key) = soonest.map(|(key, _)| key.clone()) else { break };
            self.remove(&key);
        }
        self.bytes += size;
        let until = now + Duration::from_secs(ttl.into());
        self.entries.insert(key, Entry { message, since: now, until });
    }

    fn is_full(&self, size: usize) -> bool {
        self.entries.len() >= MAX_ENTRIES || self.bytes + size > MAX_BYTES
    }

    fn remove(&mut self, key: &CacheKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.message.len() + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::base::iana::Class;

    use super::*;

    fn key(name: &str) -> CacheKey {
        CacheKey::new(&Question { name: Name::of(name), kind: Rtype::A, class: Class::IN }, false, false)
    }

    #[test]
    fn an_answer_is_there_until_its_time_is_over_and_grows_older() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        cache.put(key("a.example"), Arc::from(*b"answer"), 10, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(cache.get(&key("A.Example"), at(0)).unwrap(), (Arc::from(*b"answer"), 0));
        assert_eq!(cache.get(&key("a.example"), at(9)).unwrap().1, 9);
        assert!(cache.get(&key("a.example"), at(10)).is_none());
        assert!(cache.get(&key("b.example"), at(0)).is_none());
        cache.put(key("a.example"), Arc::from(*b"newer"), 0, start);
        assert_eq!(&*cache.get(&key("a.example"), at(1)).unwrap().0, b"answer", "0 is not cached");
    }

    #[test]
    fn neither_many_nor_long_answers_make_it_grow() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        for number in 0..2000_u32 {
            cache.put(key(&format!("n{number}.example")), Arc::from(vec![0; 100]), 100 + number, start);
            assert!(cache.entries.len() <= MAX_ENTRIES && cache.bytes <= MAX_BYTES);
        }
        assert!(cache.get(&key("n1999.example"), start).is_some());
        assert!(cache.get(&key("n0.example"), start).is_none(), "what expires first gives way");
        for number in 0..20_u32 {
            cache.put(key(&format!("l{number}.example")), Arc::from(vec![0; 60_000]), 9999, start);
            assert!(cache.bytes <= MAX_BYTES);
        }
        cache.put(key("huge.example"), Arc::from(vec![0; MAX_BYTES]), 9999, start);
        assert!(cache.get(&key("huge.example"), start).is_none());
        let counted: usize = cache.entries.values().map(|entry| entry.message.len() + OVERHEAD).sum();
        assert_eq!(counted, cache.bytes);
    }
}
