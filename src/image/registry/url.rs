//! The URLs of requests, and what a `Location` or a `realm` of a server means beside them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::error::Result;
use crate::image::error;

/// The longest URL that is followed. Signed ones have some thousand bytes.
const MAX_URL: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A server: what a connection can be reused for, and what credentials are kept to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    /// In lower case, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Origin {
    /// A server by the host and port of a reference, like `registry.example:5000` or `[::1]:5000`.
    pub(super) fn new(scheme: Scheme, authority: &str) -> Result<Self> {
        let bad = || error(format!("{:?} is no host with a port", cut(authority)));
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
                host.parse::<Ipv6Addr>().map_err(|_| bad())?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return Err(bad()),
                }
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        // A dot at the end only says that the name is whole.
        let host = host.strip_suffix('.').unwrap_or(host);
        let is_label = |label: &str| {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            (1..=63).contains(&label.len()) && label.bytes().all(legal)
        };
        let is_name = host.len() <= 253 && host.split('.').all(is_label);
        if !is_name && host.parse::<Ipv6Addr>().is_err() {
            return Err(bad());
        }
        let port = match port {
            // An empty port is the default one (RFC 3986, 3.2.3).
            None | Some("") => scheme.port(),
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?
            }
            Some(_) => return Err(bad()),
        };
        Ok(Self { scheme, host: host.to_ascii_lowercase(), port })
    }

    /// The host, if it is an address.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    /// Whether it names this machine's loopback interface, so that no resolver has to be asked.
    pub(super) fn is_loopback(&self) -> bool {
        match self.address() {
            Some(address) => address.to_canonical().is_loopback(),
            None => self.host == "localhost",
        }
    }

    /// The host and, where it isn't the scheme's own, the port: the value of the `Host` header.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.authority())
    }
}

/// An absolute URL. Displays without its query, in which storage services put signatures.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    origin: Origin,
    /// The path and the query, as they are sent.
    target: String,
}

impl Url {
    /// A URL on a server. The target is a path with an optional query.
    pub(super) fn new(origin: Origin, target: String) -> Self {
        Self { origin, target }
    }

    /// An absolute URL from a server's answer.
    pub(super) fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_URL {
            return Err(error(format!("a URL of {} bytes; at most {MAX_URL} are followed", text.len())));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(error("a URL with a character that can't be in one"));
        }
        let text = text.split('#').next().unwrap_or_default();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(error(format!("{:?} is no absolute URL", cut(text))));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            other => {
                return Err(error(format!("a URL with the scheme {:?}: only https is followed", cut(other))));
            }
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(error("a URL with a user name in it"));
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { origin: Origin::new(scheme, authority)?, target })
    }

    /// What a `Location` in the answer to this URL means.
    pub(super) fn join(&self, location: &str) -> Result<Self> {
        let location = location.trim();
        let scheme = self.origin.scheme.name();
        let base = self.target.split('?').next().unwrap_or_default();
        let directory = base.rsplit_once('/').map_or("", |(directory, _)| directory);
        let has_scheme = location.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
        if has_scheme {
            return Self::parse(location);
        }
        let origin = &self.origin;
        if let Some(rest) = location.strip_prefix("//") {
            Self::parse(&format!("{scheme}://{rest}"))
        } else if location.starts_with('/') {
            Self::parse(&format!("{origin}{location}"))
        } else if location.starts_with('?') {
            Self::parse(&format!("{origin}{base}{location}"))
        } else if location.is_empty() {
            Err(error("an empty URL"))
        } else {
            Self::parse(&format!("{origin}{directory}/{location}"))
        }
    }

    /// The same URL with parameters added to its query.
    pub(super) fn with_query(&self, parameters: &[(&str, &str)]) -> Self {
        let mut target = self.target.clone();
        for (name, value) in parameters {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(name);
            target.push('=');
            target.push_str(&encode(value));
        }
        Self { origin: self.origin.clone(), target }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn target(&self) -> &str {
        &self.target
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{}{}", self.origin, cut(path))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value in a query or a form, percent-encoded.
pub(super) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The beginning of a server's text.
fn cut(text: &str) -> &str {
    const MAX_SHOWN: usize = 200;
    text.char_indices().nth(MAX_SHOWN).map_or(text, |(end, _)| text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(base: &str, location: &str) -> String {
        let url = Url::parse(base).unwrap().join(location).unwrap();
        format!("{}{}", url.origin(), url.target())
    }

    #[test]
    fn a_location_is_resolved_against_the_request() {
        let base = "https://a.example:5000/v2/x/blobs/y?z=1";
        assert_eq!(joined(base, "https://B.example/c?d=e#f"), "https://b.example/c?d=e");
        assert_eq!(joined(base, "HTTPS://b.example"), "https://b.example/");
        assert_eq!(joined(base, "https://b.example?q"), "https://b.example/?q");
        assert_eq!(joined(base, "//b.example:443/c"), "https://b.example/c");
        assert_eq!(joined(base, "/c:d"), "https://a.example:5000/c:d");
        assert_eq!(joined(base, "w"), "https://a.example:5000/v2/x/blobs/w");
        assert_eq!(joined(base, "?w"), "https://a.example:5000/v2/x/blobs/y?w");
        assert_eq!(joined(base, "https://[::1]:7/c"), "https://[::1]:7/c");
        assert_eq!(joined(base, "https://b.example./c"), "https://b.example/c");
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused() {
        let base = Url::parse("https://a.example/x").unwrap();
        let long = format!("https://b.example/{}", "x".repeat(MAX_URL));
        for location in [
            "",
            "ftp://b.example/",
            "file:///etc/passwd",
            "javascript:x",
            "https://user:secret@b.example/",
            "https:///path",
            "https://./path",
            "https://a..b/path",
            "https://b.example:0/",
            "https://b.example:65536/",
            "https://b.example:+1/",
            "https://b.example/a b",
            "https://b.example/a\r\nX: y",
            "https://b%00.example/",
            "https://[::1/",
            "https://[::1]x/",
            long.as_str(),
        ] {
            let error = base.join(location).unwrap_err();
            assert!(
                !error.message().contains("secret") && error.message().len() < 400,
                "{location:?}: {error}"
            );
        }
    }

    #[test]
    fn a_query_is_never_shown() {
        let url = Url::parse("https://b.example/c?signature=secret").unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://b.example/c https://b.example/c");
        let url = url.with_query(&[("scope", "repository:a/b:pull"), ("x", "ä&")]);
        assert_eq!(url.target(), "/c?signature=secret&scope=repository%3Aa%2Fb%3Apull&x=%C3%A4%26");
    }

    #[test]
    fn loopback_is_known_without_a_resolver() {
        let is_loopback = |text| Origin::new(Scheme::Https, text).unwrap().is_loopback();
        for text in
            ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.9.9.9:1", "[::1]:5", "[::ffff:127.0.0.1]"]
        {
            assert!(is_loopback(text), "{text}");
        }
        for text in ["localhost.example", "128.0.0.1", "[::2]", "127.0.0.1.example"] {
            assert!(!is_loopback(text), "{text}");
        }
        assert_eq!(Origin::new(Scheme::Https, "[::1]:443").unwrap().authority(), "[::1]");
        assert_eq!(Origin::new(Scheme::Http, "a:443").unwrap().to_string(), "http://a:443");
    }

    proptest::proptest! {
        #[test]
        fn any_location_is_resolved_or_refused(location in "\\PC{0,60}") {
            let base = Url::parse("https://a.example/x/y").unwrap();
            if let Ok(url) = base.join(&location) {
                assert!(url.target().starts_with('/'));
                assert!(url.target().bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
