//! Names of images: `python:3.12`, `ghcr.io/owner/name@sha256:…`.
//!
//! The grammar is docker's. A name without a registry is one of docker.io, and there one without a slash is in `library/`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Code, Error, Result};
use crate::image::Digest;

/// The registry of a name that has none.
const DOCKER_HUB: &str = "docker.io";

/// Where docker.io answers.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// The longest text that can be a reference: a registry with a port, a name, a tag and a digest.
const MAX_REFERENCE: usize = 1024;

/// The name of an image in a registry. Displays as the full name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Reference {
    registry: String,
    repository: String,
    /// With a digest beside it, it is for people only.
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads a name as docker does. Without a tag and a digest the tag is `latest`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Self::read(text).map_err(|error| error.context(format!("image name {}", shown(text))))
    }

    fn read(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > MAX_REFERENCE {
            return Err(Error::invalid(format!("must have 1 to {MAX_REFERENCE} bytes")));
        }
        if text.contains("://") {
            return Err(Error::invalid("must be a name like registry.example/name:tag, without a scheme"));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if is_registry(first) => (first, path),
            _ => (DOCKER_HUB, name),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (path, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            let rule = "must have 1 to 128 characters of A-Z a-z 0-9 _ . - and begin with none of . and -";
            return Err(Error::invalid(format!("the tag {} {rule}", shown(tag))));
        }
        check_repository(path)?;
        let registry = normal_registry(registry)?;
        let repository = if registry == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + repository.len() > MAX_NAME {
            return Err(Error::invalid(format!(
                "the registry and the name must have {MAX_NAME} bytes at most together"
            )));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { registry, repository, tag, digest })
    }

    /// The registry's name and port, `docker.io` for Docker Hub.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    /// The name and port where the registry answers.
    pub(crate) fn host(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_HOST } else { &self.registry }
    }

    /// The name in the registry, without tag and digest.
    pub(crate) fn repository(&self) -> &str {
        &self.repository
    }

    /// The digest of the manifest.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What a registry is asked for: the digest, or else the tag.
    pub(crate) fn version(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

fn parse_digest(text: &str) -> Result<Digest> {
    if let Some(digest) = Digest::parse(text) {
        return Ok(digest);
    }
    let text = shown(text);
    if text.starts_with("\"sha512:") {
        return Err(Error::new(Code::Unsupported, format!("the digest {text}: only sha256 is supported")));
    }
    Err(Error::invalid(format!("the digest {text} must be sha256: and 64 digits 0-9 a-f")))
}

/// Whether the first part of a name is a registry, and not the first part of a name in docker.io.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// A registry's name in lower case, with one name for Docker Hub.
pub(crate) fn normal_registry(text: &str) -> Result<String> {
    let lower = text.to_ascii_lowercase();
    if !is_host_and_port(&lower) {
        let rule = "must be a host name or an address, with a port if it isn't 443";
        return Err(Error::invalid(format!("the registry {} {rule}", shown(text))));
    }
    match lower.as_str() {
        "index.docker.io" | DOCKER_HUB_HOST => Ok(DOCKER_HUB.to_owned()),
        _ => Ok(lower),
    }
}

fn is_host_and_port(text: &str) -> bool {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else { return false };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match rest.strip_prefix(':') {
            Some(port) => ("v6", Some(port)),
            None if rest.is_empty() => ("v6", None),
            None => return false,
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let is_port = |port: &str| {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        digits && port.parse::<u16>().is_ok_and(|port| port != 0)
    };
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MAX_TAG).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

/// Parts of lower-case letters and digits between slashes, in which a dot, one or two underscores, or dashes separate.
pub(crate) fn check_repository(path: &str) -> Result<()> {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        let ends = part.as_bytes().first().is_some_and(alphanumeric)
            && part.as_bytes().last().is_some_and(alphanumeric);
        let separators: Vec<&str> = part
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .filter(|s| !s.is_empty())
            .collect();
        let legal =
            |separator: &&str| matches!(*separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
        ends && separators.iter().all(legal)
    };
    if path.split('/').all(is_part) {
        return Ok(());
    }
    let rule =
        "must be parts of a-z and 0-9 between slashes, which may have one . or _ or __ or dashes inside";
    Err(Error::invalid(format!("the name {} {rule}", shown(path))))
}

/// A caller's text in a message: quoted, and not at any length.
pub(super) fn shown(text: &str) -> String {
    const MAX_SHOWN: usize = 100;
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn full(text: &str) -> String {
        Reference::parse(text).unwrap().to_string()
    }

    #[test]
    fn short_names_are_of_docker_hub() {
        assert_eq!(full("python"), "docker.io/library/python:latest");
        assert_eq!(full("python:3.12-slim"), "docker.io/library/python:3.12-slim");
        assert_eq!(full("owner/name"), "docker.io/owner/name:latest");
        assert_eq!(full("docker.io/python"), "docker.io/library/python:latest");
        assert_eq!(full("index.docker.io/library/python"), "docker.io/library/python:latest");
        assert_eq!(full("registry-1.docker.io/a/b/c:d"), "docker.io/a/b/c:d");
        assert_eq!(Reference::parse("python").unwrap().host(), "registry-1.docker.io");
    }

    #[test]
    fn a_registry_has_a_dot_a_port_or_is_localhost() {
        assert_eq!(full("localhost/a"), "localhost/a:latest");
        assert_eq!(full("localhost:5000/a:b"), "localhost:5000/a:b");
        assert_eq!(full("127.0.0.1:5000/a"), "127.0.0.1:5000/a:latest");
        assert_eq!(full("[::1]:5000/a"), "[::1]:5000/a:latest");
        assert_eq!(full("GHCR.io/owner/name"), "ghcr.io/owner/name:latest");
        assert_eq!(full("host/a"), "docker.io/host/a:latest");
        assert_eq!(Reference::parse("ghcr.io/a/b").unwrap().host(), "ghcr.io");
    }

    #[test]
    fn a_digest_is_kept_beside_a_tag_and_asked_for() {
        let by_digest = Reference::parse(&format!("a@sha256:{HEX}")).unwrap();
        assert_eq!((by_digest.tag.as_deref(), by_digest.version()), (None, format!("sha256:{HEX}")));
        let both = Reference::parse(&format!("a:b@sha256:{HEX}")).unwrap();
        assert_eq!((both.tag.as_deref(), both.version()), (Some("b"), format!("sha256:{HEX}")));
        assert_eq!(both.to_string(), format!("docker.io/library/a:b@sha256:{HEX}"));
        assert_eq!(both.to_string().parse::<Reference>().unwrap(), both);
        assert_eq!(both.digest().unwrap().bytes()[..2], [0x01, 0x23]);
    }

    #[test]
    fn what_is_no_name_is_refused_with_the_rule() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = "n".repeat(256);
        for (text, part) in [
            ("", "1 to 1024 bytes"),
            ("https://ghcr.io/a", "without a scheme"),
            ("Name", "a-z and 0-9"),
            ("a//b", "a-z and 0-9"),
            ("/a", "a-z and 0-9"),
            ("a/", "a-z and 0-9"),
            ("a..b", "a-z and 0-9"),
            ("a___b", "a-z and 0-9"),
            ("a/../b", "a-z and 0-9"),
            ("a b", "a-z and 0-9"),
            ("a\nb", "a-z and 0-9"),
            ("ä", "a-z and 0-9"),
            ("a:", "the tag \"\""),
            ("a:-b", "the tag"),
            ("a:b/c", "the registry"),
            (long_tag.as_str(), "the tag"),
            (long_name.as_str(), "255 bytes"),
            ("a@sha256:12", "64 digits"),
            ("a@b", "64 digits"),
            ("a@b@c", "64 digits"),
            ("a@sha512:00", "only sha256"),
            ("host:0/a", "the registry"),
            ("host:99999/a", "the registry"),
            ("ho_st:80/a", "the registry"),
            ("-a.example/a", "the registry"),
            ("[::1/a", "the registry"),
            ("[zz]:1/a", "the registry"),
        ] {
            let error = Reference::parse(text).unwrap_err();
            assert!(error.message().contains(part), "{text:?}: {error}");
            assert!(error.message().starts_with("image name \""), "{error}");
            assert!(error.message().len() < 400, "{error}");
        }
    }

    #[test]
    fn separators_inside_a_name() {
        for text in ["a.b", "a_b", "a__b", "a-b", "a---b", "a/b/c/d", "0"] {
            assert!(Reference::parse(text).is_ok(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_a_full_name_is_stable(text in "\\PC{0,80}") {
            if let Ok(reference) = Reference::parse(&text) {
                assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }
    }
}
