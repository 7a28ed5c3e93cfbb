//! The proxy of the process's environment: HTTPS_PROXY, and NO_PROXY for the servers that are reached without it.
//!
//! HTTP_PROXY is for plain http, which only goes to this machine and never through a proxy.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::url::{Origin, Scheme};
use crate::error::{Error, Result};
use crate::policy::Cidr;

/// A proxy that makes tunnels (CONNECT).
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) origin: Origin,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<Zeroizing<String>>,
}

/// The servers that are reached without a proxy.
#[derive(Clone, Debug, Default)]
struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug)]
enum Exception {
    All,
    Network(Cidr),
    /// A name and everything below it, with one port or any.
    Name(String, Option<u16>),
}

/// How servers are reached.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    /// An error is one only for a server that isn't reached directly.
    https: Option<Result<Proxy>>,
    exceptions: Exceptions,
}

impl Proxies {
    /// Reads the values of HTTPS_PROXY and NO_PROXY.
    pub(super) fn new(https: Option<&str>, no_proxy: Option<&str>) -> Self {
        let https = https.map(str::trim).filter(|text| !text.is_empty()).map(Proxy::parse);
        Self { https, exceptions: Exceptions::parse(no_proxy.unwrap_or_default()) }
    }

    /// The proxy for a server, if it isn't reached directly.
    pub(super) fn of(&self, server: &Origin) -> Result<Option<&Proxy>> {
        let direct = server.scheme == Scheme::Http || server.is_loopback() || self.exceptions.include(server);
        let proxy = self.https.as_ref().filter(|_| !direct);
        proxy.map(|proxy| proxy.as_ref().map_err(Clone::clone)).transpose()
    }
}

impl Proxy {
    /// No message shows the text: it may have a password in it.
    fn parse(text: &str) -> Result<Self> {
        // A password may have any character but @ in it, so that nothing is cut off before the last of them.
        let (before, host) = match text.rsplit_once('@') {
            Some((before, host)) => (Some(before), host),
            None => (None, text),
        };
        let start = before.unwrap_or(host);
        let (scheme, rest) = match start.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("http", start),
        };
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(Error::invalid("HTTPS_PROXY: only http:// is supported"));
        }
        let (user, host) = if before.is_some() { (Some(rest), host) } else { (None, rest) };
        let host = host.split(['/', '?', '#']).next().unwrap_or_default();
        let origin = Origin::new(Scheme::Http, host)
            .map_err(|_| Error::invalid("HTTPS_PROXY: must be http://[USER:PASSWORD@]HOST[:PORT]"))?;
        let authorization = user.map(|user| {
            let decoded = Zeroizing::new(percent_decoded(user));
            let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*decoded));
            Zeroizing::new(format!("Basic {}", encoded.as_str()))
        });
        Ok(Self { origin, authorization })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.origin)
    }
}

impl Exceptions {
    fn parse(text: &str) -> Self {
        let items = text.split([',', ' ']).map(str::trim).filter(|item| !item.is_empty());
        Self(items.filter_map(Exception::parse).collect())
    }

    fn include(&self, server: &Origin) -> bool {
        self.0.iter().any(|exception| match (exception, server.address()) {
            (Exception::All, _) => true,
            (Exception::Network(network), Some(address)) => network.contains(address.to_canonical()),
            (Exception::Network(_), None) => false,
            (Exception::Name(name, port), address) => {
                let below = server.host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                let same = server.host == *name || (below && address.is_none());
                same && port.is_none_or(|port| port == server.port)
            }
        })
    }
}

impl Exception {
    fn parse(item: &str) -> Option<Self> {
        if item == "*" {
            return Some(Self::All);
        }
        if let Ok(address) = item.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            let length = if address.is_ipv4() { 32 } else { 128 };
            return format!("{address}/{length}").parse().ok().map(Self::Network);
        }
        if item.contains('/') {
            return item.parse().ok().map(Self::Network);
        }
        let item = item.to_ascii_lowercase();
        let item = item.strip_prefix('*').unwrap_or(&item);
        let item = item.strip_prefix('.').unwrap_or(item);
        match item.rsplit_once(':') {
            Some((name, port)) => Some(Self::Name(name.to_owned(), Some(port.parse().ok()?))),
            None => Some(Self::Name(item.to_owned(), None)),
        }
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value.filter(|_| *first == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Origin {
        Origin::new(Scheme::Https, text).unwrap()
    }

    fn refused(proxy: &str) -> Error {
        Proxies::new(Some(proxy), None).of(&server("registry.example")).unwrap_err()
    }

    #[test]
    fn a_proxy_with_a_password_never_shows_it() {
        let proxies = Proxies::new(Some("http://user:p%40ss@proxy.example:3128/"), None);
        let proxy = proxies.of(&server("registry.example")).unwrap().unwrap();
        assert_eq!(proxy.origin.to_string(), "http://proxy.example:3128");
        assert_eq!(proxy.authorization.as_ref().unwrap().as_str(), "Basic dXNlcjpwQHNz");
        assert!(!format!("{proxies:?}").contains("dXNl"));
        let error = refused("http://user:secret@pro xy");
        assert!(!error.message().contains("secret"), "{error}");
        for text in
            ["http://user:se/cret@proxy:port", "user:se?cret@pro xy", "secret://user@proxy", "se#cret@"]
        {
            let error = refused(text);
            assert!(!error.message().contains("se") && !error.message().contains("cret"), "{error}");
        }
        let odd = Proxies::new(Some("http://user:se/c?r#e@t@proxy.example:3128/?x"), None);
        let proxy = odd.of(&server("registry.example")).unwrap().unwrap();
        assert_eq!(proxy.origin.to_string(), "http://proxy.example:3128");
        let login = BASE64_STANDARD.encode("user:se/c?r#e@t");
        assert_eq!(proxy.authorization.as_ref().unwrap().as_str(), format!("Basic {login}"));
        let bare = Proxies::new(Some("proxy:3128"), None);
        assert_eq!(bare.of(&server("registry.example")).unwrap().unwrap().origin.port, 3128);
        assert!(Proxies::new(Some(" "), None).https.is_none());
    }

    #[test]
    fn other_kinds_of_proxies_are_refused() {
        for text in ["socks5://proxy:1080", "https://proxy"] {
            let error = refused(text);
            assert!(error.message().contains("only http://"), "{error}");
            // What is reached without it isn't kept from that.
            let proxies = Proxies::new(Some(text), Some("near.example"));
            assert!(proxies.of(&server("near.example")).unwrap().is_none());
        }
    }

    #[test]
    fn exceptions_are_names_networks_and_ports() {
        let no_proxy =
            "example.com, .corp.example,*.lab.example,10.0.0.0/8,192.0.2.7,host:5000,[2001:db8::1]";
        let proxies = Proxies::new(Some("http://proxy"), Some(no_proxy));
        let direct = |text: &str| proxies.of(&server(text)).unwrap().is_none();
        for text in [
            "example.com",
            "a.example.com:8443",
            "corp.example",
            "a.b.corp.example",
            "x.lab.example",
            "10.1.2.3",
            "192.0.2.7:5000",
            "host:5000",
            "[2001:db8::1]",
            "localhost:5000",
            "127.0.0.1",
        ] {
            assert!(direct(text), "{text}");
        }
        for text in ["notexample.com", "example.com.evil", "11.0.0.1", "host", "host:5001", "[2001:db8::2]"] {
            assert!(!direct(text), "{text}");
        }
        let all = Proxies::new(Some("http://proxy"), Some("*"));
        assert!(all.of(&server("a.example")).unwrap().is_none());
    }
}
