//! What the store knows of an image: a JSON file beside it. An image without one is not believed.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use crate::error::Result;
use crate::image::json::MAX_JSON_BYTES;
use crate::image::{Digest, ImageConfig, error};

/// The name of an image: what it is made of. An alias, since it is written as every digest is.
pub(crate) type ImageId = Digest;

/// The longest record: a configuration whose every second byte is escaped, and the rest.
pub(super) const MAX_RECORD_BYTES: u64 = 2 * MAX_JSON_BYTES as u64 + 64 * 1024;
/// The longest origin that is kept.
const MAX_ORIGIN_BYTES: usize = 4096;

/// Where an image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OriginKind {
    /// A registry.
    Registry,
    /// An OCI image layout, as a directory or an archive.
    OciLayout,
    /// An archive of `docker save`.
    DockerArchive,
    /// A root file system in a tarball.
    RootTarball,
    /// A directory.
    Directory,
    /// A snapshot of a sandbox.
    Snapshot,
    /// A step of a build.
    Build,
}

/// Where an image comes from: the kind, and the reference, path or image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) kind: OriginKind,
    pub(crate) from: String,
}

const KINDS: &[(OriginKind, &str)] = &[
    (OriginKind::Registry, "registry"),
    (OriginKind::OciLayout, "oci-layout"),
    (OriginKind::DockerArchive, "docker-archive"),
    (OriginKind::RootTarball, "root-tarball"),
    (OriginKind::Directory, "directory"),
    (OriginKind::Snapshot, "snapshot"),
    (OriginKind::Build, "build"),
];

/// An image's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) id: Digest,
    /// The size of the image's file.
    pub(super) bytes: u64,
    pub(super) created: SystemTime,
    pub(super) origin: Origin,
    pub(super) config: ImageConfig,
    /// The configuration as the image has it, byte for byte.
    pub(super) config_json: String,
}

impl Record {
    pub(super) fn new(id: Digest, bytes: u64, config: &[u8], origin: Origin) -> Result<Self> {
        if origin.from.len() > MAX_ORIGIN_BYTES {
            return Err(error(format!("image origin: must not be longer than {MAX_ORIGIN_BYTES} bytes")));
        }
        let parsed = ImageConfig::parse(config)?;
        let config_json = String::from_utf8_lossy(config).into_owned();
        Ok(Self { id, bytes, created: SystemTime::now(), origin, config: parsed, config_json })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let kind = KINDS.iter().find(|(kind, _)| *kind == self.origin.kind).map_or("", |(_, name)| name);
        let created = self.created.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let value = serde_json::json!({
            "id": self.id.to_string(),
            "bytes": self.bytes,
            "created": created.as_secs(),
            "origin": { "kind": kind, "from": self.origin.from },
            "config": self.config_json,
        });
        value.to_string().into_bytes()
    }

    /// Reads the record of the image `id`.
    pub(super) fn parse(id: Digest, json: &[u8]) -> Result<Self> {
        let bad = |what: &str| error(format!("image store: the record of {id}: {what}"));
        let fields: Map<String, Value> =
            serde_json::from_slice(json).map_err(|cause| bad(&format!("is not valid JSON: {cause}")))?;
        let text = |value: Option<&Value>, name: &str| {
            value
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| bad(&format!("{name}: must be a string")))
        };
        let number = |name: &str| {
            fields.get(name).and_then(Value::as_u64).ok_or_else(|| bad(&format!("{name}: must be a number")))
        };
        if text(fields.get("id"), "id")? != id.to_string() {
            return Err(bad("is another image's"));
        }
        let origin =
            fields.get("origin").and_then(Value::as_object).ok_or_else(|| bad("origin: is missing"))?;
        let kind = text(origin.get("kind"), "origin: kind")?;
        let kind =
            KINDS.iter().find(|(_, name)| *name == kind).ok_or_else(|| bad("origin: kind: is unknown"))?.0;
        let created = SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_secs(number("created")?))
            .ok_or_else(|| bad("created: is too large"))?;
        let config_json = text(fields.get("config"), "config")?;
        Ok(Self {
            id,
            bytes: number("bytes")?,
            created,
            origin: Origin { kind, from: text(origin.get("from"), "origin: from")? },
            config: ImageConfig::parse(config_json.as_bytes())?,
            config_json,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let id = Digest::of(b"x");
        for (kind, _) in KINDS {
            let origin = Origin { kind: *kind, from: "/a \"b\"\n".to_owned() };
            let config = b"{\"os\": \"linux\",\n \"config\": {\"Cmd\": [\"\\u00e9\"]}}";
            let mut record = Record::new(id, 4096, config, origin).unwrap();
            let read = Record::parse(id, &record.write()).unwrap();
            // The record has whole seconds.
            let created = record.created.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            record.created = SystemTime::UNIX_EPOCH + Duration::from_secs(created);
            assert_eq!(read, record);
            assert_eq!(read.config_json.as_bytes(), config);
        }
    }

    #[test]
    fn a_damaged_record_is_an_error() {
        let id = Digest::of(b"x");
        let origin = Origin { kind: OriginKind::Directory, from: "/x".to_owned() };
        let good = Record::new(id, 1, b"{}", origin).unwrap().write();
        for cut in 0..good.len() {
            Record::parse(id, &good[..cut]).unwrap_err();
        }
        Record::parse(Digest::of(b"y"), &good).unwrap_err();
        let text = String::from_utf8(good).unwrap();
        for (from, to) in [("\"bytes\":1", "\"bytes\":-1"), ("directory", "elsewhere"), ("\"{}\"", "\"[]\"")]
        {
            assert!(text.contains(from));
            Record::parse(id, text.replace(from, to).as_bytes()).unwrap_err();
        }
    }
}
