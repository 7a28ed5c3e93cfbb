//! The index of build steps: which image each has made.
//!
//! It only saves work, so one that can't be read counts as empty.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::image::Digest;

/// The index's file.
pub(super) const FILE: &str = "steps.json";
/// The longest index that is read.
pub(super) const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// How many there may be. They fit into [`MAX_BYTES`].
const MAX_STEPS: usize = 16 * 1024;

/// The steps, by what they depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Steps(BTreeMap<Digest, Step>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    id: Digest,
    /// When it was done, in seconds since 1970.
    time: u64,
}

impl Steps {
    pub(super) fn parse(json: &[u8]) -> Self {
        let Ok(fields) = serde_json::from_slice::<Map<String, Value>>(json) else {
            log::warn!("image store: {FILE}: is not valid JSON, and counts as empty");
            return Self::default();
        };
        let step = |(key, value): (String, Value)| {
            let id = value.get("id").and_then(Value::as_str).and_then(Digest::parse)?;
            let time = value.get("time").and_then(Value::as_u64)?;
            Some((Digest::from_hex(&key)?, Step { id, time }))
        };
        Self(fields.into_iter().filter_map(step).take(MAX_STEPS).collect())
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let step = |(key, step): (&Digest, &Step)| {
            (key.hex(), serde_json::json!({ "id": step.id.to_string(), "time": step.time }))
        };
        Value::Object(self.0.iter().map(step).collect()).to_string().into_bytes()
    }

    /// The image of a step, if it was done within that time.
    pub(super) fn get(&self, key: Digest, max_age: Option<Duration>) -> Option<Digest> {
        let step = self.0.get(&key)?;
        let age = now().saturating_sub(step.time);
        max_age.is_none_or(|most| age <= most.as_secs()).then_some(step.id)
    }

    /// A step was done. Where there are too many, the oldest goes.
    pub(super) fn set(&mut self, key: Digest, id: Digest) {
        if self.0.len() >= MAX_STEPS && !self.0.contains_key(&key) {
            let oldest = self.0.iter().min_by_key(|(_, step)| step.time).map(|(key, _)| *key);
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        self.0.insert(key, Step { id, time: now() });
    }

    /// Forgets an image; whether a step had made it.
    pub(super) fn remove_image(&mut self, id: Digest) -> bool {
        let before = self.0.len();
        self.0.retain(|_, step| step.id != id);
        self.0.len() != before
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_back_as_they_were_written_and_age() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let mut steps = Steps::default();
        steps.set(Digest::of(b"1"), a);
        steps.set(Digest::of(b"2"), a);
        steps.set(Digest::of(b"2"), b);
        assert_eq!(Steps::parse(&steps.write()), steps);
        assert_eq!(steps.get(Digest::of(b"2"), None), Some(b));
        assert_eq!(steps.get(Digest::of(b"2"), Some(Duration::from_secs(60))), Some(b));
        assert_eq!(steps.get(Digest::of(b"3"), None), None);
        if let Some(step) = steps.0.get_mut(&Digest::of(b"2")) {
            step.time -= 100;
        }
        assert_eq!(steps.get(Digest::of(b"2"), Some(Duration::from_secs(60))), None);
        assert!(steps.remove_image(a) && !steps.remove_image(a));
        assert_eq!((steps.0.len(), steps.get(Digest::of(b"1"), None)), (1, None));
    }

    #[test]
    fn a_damaged_index_is_empty_and_a_damaged_entry_is_left_out() {
        for bad in ["", "[]", "{", r#"{"a":1}"#, r#"{"a":{"id":"sha256:1","time":1}}"#] {
            assert_eq!(Steps::parse(bad.as_bytes()), Steps::default(), "{bad}");
        }
    }

    #[test]
    fn their_number_is_bounded_and_fits_into_the_file() {
        let mut steps = Steps::default();
        for number in 0..MAX_STEPS {
            steps.set(Digest::of(&number.to_le_bytes()), Digest::of(b""));
        }
        let first = Digest::of(&0_usize.to_le_bytes());
        if let Some(step) = steps.0.get_mut(&first) {
            step.time -= 1;
        }
        steps.set(Digest::of(b"more"), Digest::of(b""));
        assert_eq!((steps.0.len(), steps.get(first, None)), (MAX_STEPS, None));
        assert!((steps.write().len() as u64) < MAX_BYTES);
    }
}
