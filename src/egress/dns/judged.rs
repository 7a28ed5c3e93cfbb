//! An upstream server's answer, as the policy lets a sandbox be told of it.
//!
//! What it takes to find that out (the message is read, and the host's routing is asked about each address) is done
//! once and remembered with the answer, until there is another policy and for a second at most. Nothing is let
//! through by it: each connection is asked about when it is made.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::Subject;
use super::write::Answer;

/// How long it is good for: so soon the host's routing is asked again.
const GOOD: Duration = Duration::from_secs(1);
/// The most records of one sandbox that are remembered so.
const MOST_RECORDS: usize = 8192;

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
    fn records(&self) -> usize {
        1 + self.answer.answers.len() + self.answer.authority.len()
    }
}

/// Those of one sandbox.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    entries: HashMap<Subject, (u64, Instant, Arc<Judged>)>,
    records: usize,
}

impl Verdicts {
    /// What was found under that policy a moment ago.
    pub(super) fn get(&self, subject: &Subject, generation: u64, now: Instant) -> Option<Arc<Judged>> {
        let (policy, at, judged) = self.entries.get(subject)?;
        let is_good = *policy == generation && now.saturating_duration_since(*at) < GOOD;
        is_good.then(|| Arc::clone(judged))
    }

    /// Remembers what was found. If that is too much, nothing else is remembered any more.
    pub(super) fn put(&mut self, subject: Subject, generation: u64, judged: Arc<Judged>, now: Instant) {
        self.remove(&subject);
        if self.records + judged.records() > MOST_RECORDS {
            self.entries.clear();
            self.records = 0;
        }
        if judged.records() <= MOST_RECORDS {
            self.records += judged.records();
            self.entries.insert(subject, (generation, now, judged));
        }
    }

    /// There is another answer.
    pub(super) fn remove(&mut self, subject: &Subject) {
        if let Some((.., judged)) = self.entries.remove(subject) {
            self.records -= judged.records();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Code, Question};
    use super::super::name::Name;
    use super::super::record::{IN, Record, kind};
    use super::*;

    fn subject(name: &str) -> Subject {
        Subject::new(&Question { name: Name::of(name), kind: kind::A, class: IN }, false, false)
    }

    fn judged(records: usize) -> Arc<Judged> {
        let record = Record { name: Name::of("a"), kind: kind::A, class: IN, ttl: 9, data: vec![9; 4] };
        let answer = Answer { answers: vec![record; records], ..Answer::bare(Code::NO_ERROR, None) };
        Arc::new(Judged { answer, ttl: Some(9), reachable: Vec::new(), removed: Vec::new() })
    }

    #[test]
    fn it_is_good_for_a_moment_and_for_one_policy() {
        let (mut verdicts, start) = (Verdicts::default(), Instant::now());
        verdicts.put(subject("a.example"), 3, judged(1), start);
        let has = |verdicts: &Verdicts, generation, millis| {
            verdicts.get(&subject("A.example"), generation, start + Duration::from_millis(millis)).is_some()
        };
        assert!(has(&verdicts, 3, 0) && has(&verdicts, 3, 999));
        assert!(!has(&verdicts, 3, 1000) && !has(&verdicts, 4, 0));
        verdicts.remove(&subject("a.example"));
        assert!(!has(&verdicts, 3, 0));
    }

    #[test]
    fn neither_many_nor_long_ones_make_it_grow() {
        let (mut verdicts, now) = (Verdicts::default(), Instant::now());
        for number in 0..5000 {
            verdicts.put(subject(&format!("n{number}.example")), 0, judged(number % 700), now);
            let counted: usize = verdicts.entries.values().map(|(.., judged)| judged.records()).sum();
            assert_eq!(counted, verdicts.records);
            assert!(counted <= MOST_RECORDS);
        }
        verdicts.put(subject("huge.example"), 0, judged(MOST_RECORDS), now);
        assert!(verdicts.get(&subject("huge.example"), 0, now).is_none());
    }
}
