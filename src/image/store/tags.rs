//! The index of tags: which name stands for which image.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::error::{Code, Error, Result};
use crate::image::{Digest, error};

/// The index's file.
pub(super) const FILE: &str = "tags.json";
/// The index with one tag more, until the image of that is published.
pub(super) const NEXT: &str = "tags.next.json";
/// The longest index that is read.
pub(super) const MAX_BYTES: u64 = 32 * 1024 * 1024;
/// The longest tag: a registry, a repository and a tag of the greatest length that registries allow.
const MAX_TAG_BYTES: usize = 512;
/// How many there may be. They fit into [`MAX_BYTES`].
const MAX_TAGS: usize = 16 * 1024;

/// The tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tags(BTreeMap<String, Tag>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    id: Digest,
    /// When it was set, in seconds since 1970.
    time: u64,
}

/// A tag is a full name; the store doesn't interpret it.
pub(super) fn check(tag: &str) -> Result<()> {
    if tag.is_empty() || tag.len() > MAX_TAG_BYTES || tag.chars().any(char::is_control) {
        return Err(Error::invalid(format!(
            "image tag {:?}: must have 1 to {MAX_TAG_BYTES} bytes and no control characters",
            tag.chars().take(64).collect::<String>()
        )));
    }
    Ok(())
}

impl Tags {
    pub(super) fn parse(json: &[u8]) -> Result<Self> {
        let bad = |what: String| error(format!("image store: {FILE}: {what}"));
        let fields: Map<String, Value> =
            serde_json::from_slice(json).map_err(|cause| bad(format!("is not valid JSON: {cause}")))?;
        let tag = |(name, value): (String, Value)| {
            let id = value.get("id").and_then(Value::as_str).and_then(Digest::parse);
            let time = value.get("time").and_then(Value::as_u64);
            match (id, time) {
                (Some(id), Some(time)) => Ok((name, Tag { id, time })),
                _ => Err(bad(format!("{name:?} has no image or no time"))),
            }
        };
        Ok(Self(fields.into_iter().map(tag).collect::<Result<_>>()?))
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let tag = |(name, tag): (&String, &Tag)| {
            (name.clone(), serde_json::json!({ "id": tag.id.to_string(), "time": tag.time }))
        };
        Value::Object(self.0.iter().map(tag).collect()).to_string().into_bytes()
    }

    /// The image of a tag.
    pub(super) fn get(&self, tag: &str) -> Option<Digest> {
        self.0.get(tag).map(|tag| tag.id)
    }

    /// Gives the tag to an image, and takes it from another one.
    pub(super) fn set(&mut self, tag: &str, id: Digest) -> Result<()> {
        check(tag)?;
        if self.0.len() >= MAX_TAGS && !self.0.contains_key(tag) {
            return Err(Error::new(
                Code::Limit,
                format!("the image store has {MAX_TAGS} tags, the most it can have"),
            ));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.0.insert(tag.to_owned(), Tag { id, time: now.as_secs() });
        Ok(())
    }

    /// Removes a tag; whether there was one.
    pub(super) fn remove(&mut self, tag: &str) -> bool {
        self.0.remove(tag).is_some()
    }

    /// Removes an image's tags; whether it had any.
    pub(super) fn remove_image(&mut self, id: Digest) -> bool {
        let before = self.0.len();
        self.0.retain(|_, tag| tag.id != id);
        self.0.len() != before
    }

    /// The images of tags that others don't have, or have for another image.
    pub(super) fn differing(&self, others: &Self) -> Vec<Digest> {
        self.0.iter().filter(|(name, tag)| others.get(name) != Some(tag.id)).map(|(_, tag)| tag.id).collect()
    }

    /// An image's tags.
    pub(super) fn of(&self, id: Digest) -> Vec<String> {
        self.0.iter().filter(|(_, tag)| tag.id == id).map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_back_as_they_were_written() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let mut tags = Tags::default();
        for (name, id) in [("docker.io/library/x:1", a), ("y \"z\"", a), ("w", b), ("w", a)] {
            tags.set(name, id).unwrap();
        }
        assert_eq!(Tags::parse(&tags.write()).unwrap(), tags);
        assert_eq!(tags.of(a), ["docker.io/library/x:1", "w", "y \"z\""]);
        assert_eq!(tags.get("w"), Some(a));
        assert!(tags.remove("w") && !tags.remove("w"));
        assert!(tags.remove_image(a) && !tags.remove_image(a));
        assert_eq!(tags, Tags::default());
    }

    #[test]
    fn a_bad_tag_or_index_is_an_error() {
        for bad in ["", "a\nb", &"x".repeat(513)] {
            assert_eq!(Tags::default().set(bad, Digest::of(b"")).unwrap_err().code(), Code::Invalid);
        }
        for bad in ["[]", r#"{"a":1}"#, r#"{"a":{"id":"sha256:1","time":1}}"#, "{"] {
            Tags::parse(bad.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn the_number_of_tags_is_bounded_and_fits_into_the_file() {
        let mut tags = Tags::default();
        for number in 0..MAX_TAGS {
            tags.set(&format!("{number:0512}"), Digest::of(b"")).unwrap();
        }
        assert_eq!(tags.set("more", Digest::of(b"")).unwrap_err().code(), Code::Limit);
        tags.set(&format!("{:0512}", 1), Digest::of(b"x")).unwrap();
        assert!((tags.write().len() as u64) < MAX_BYTES);
    }
}
