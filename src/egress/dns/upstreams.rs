//! Whom to ask: the servers that the host itself asks, or those that the host named for a sandbox.

use std::fs::OpenOptions;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PORT: u16 = 53;
/// resolv.conf(5): the most servers, and the limits of its options.
const MOST_SERVERS: usize = 3;
const MOST_ATTEMPTS: u32 = 5;
const LONGEST_TIMEOUT: u32 = 30;
/// No more of the file is read.
const LONGEST_FILE: u64 = 64 * 1024;
/// How often the file is looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// Servers, and how patiently they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstreams {
    pub(crate) servers: Vec<SocketAddr>,
    /// For one attempt at one server.
    pub(crate) timeout: Duration,
    /// At each server.
    pub(crate) attempts: u32,
}

impl Upstreams {
    /// These, with the patience that is usual.
    pub(crate) fn of(servers: Vec<SocketAddr>) -> Self {
        Self { servers, timeout: Duration::from_secs(5), attempts: 2 }
    }

    /// From the text of a resolv.conf(5). What isn't understood is passed over, as the C library does; without
    /// any server the host asks itself. `interface` gives the index of a named interface.
    fn parse(text: &str, interface: impl Fn(&str) -> Option<u32>) -> Self {
        let mut found = Self::of(Vec::new());
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if found.servers.len() < MOST_SERVERS => {
                    found.servers.extend(words.next().and_then(|text| server(text, &interface)));
                }
                Some("options") => words.for_each(|option| found.option(option)),
                _ => {}
            }
        }
        if found.servers.is_empty() {
            found.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        found
    }

    fn option(&mut self, option: &str) {
        let number = |text: &str| text.parse::<u32>().ok();
        match option.split_once(':') {
            Some(("timeout", value)) => {
                if let Some(seconds) = number(value) {
                    self.timeout = Duration::from_secs(seconds.clamp(1, LONGEST_TIMEOUT).into());
                }
            }
            Some(("attempts", value)) => {
                if let Some(attempts) = number(value) {
                    self.attempts = attempts.clamp(1, MOST_ATTEMPTS);
                }
            }
            _ => {}
        }
    }
}

/// An address, which may be of a link: `fe80::1%eth0`.
fn server(text: &str, interface: &impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, PORT));
    };
    let index = zone.parse::<u32>().ok().or_else(|| interface(zone))?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, index).into())
}

/// The servers of the host, as they are at the moment.
#[derive(Debug)]
pub(crate) struct OfHost {
    path: PathBuf,
    seen: Option<(u64, u64, i64, i64, u64)>,
    looked: Option<Instant>,
    current: Arc<Upstreams>,
}

impl Default for OfHost {
    fn default() -> Self {
        Self::at(Path::new("/etc/resolv.conf"))
    }
}

impl OfHost {
    fn at(path: &Path) -> Self {
        let current = Arc::new(Upstreams::parse("", |_| None));
        Self { path: path.to_owned(), seen: None, looked: None, current }
    }

    /// Whom the host asks. The file is read when it has changed; one that can't be read changes nothing.
    pub(crate) fn get(&mut self, now: Instant) -> Arc<Upstreams> {
        if self.looked.is_none_or(|looked| now.saturating_duration_since(looked) >= LOOK) {
            self.looked = Some(now);
            self.look();
        }
        Arc::clone(&self.current)
    }

    fn look(&mut self) {
        let Ok(found) = std::fs::metadata(&self.path) else { return };
        let identity = (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size());
        if self.seen == Some(identity) || !found.is_file() {
            return;
        }
        // Whatever has come into its place meanwhile: it mustn't hold the engine.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(&self.path) else { return };
        let mut text = Vec::new();
        if file.take(LONGEST_FILE).read_to_end(&mut text).is_err() {
            return;
        }
        let index = |name: &str| nix::net::if_::if_nametoindex(name).ok();
        let found = Upstreams::parse(&String::from_utf8_lossy(&text), index);
        self.seen = Some(identity);
        if found != *self.current {
            log::info!("the host's name servers: {:?}", found.servers);
            self.current = Arc::new(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Upstreams {
        Upstreams::parse(text, |name| (name == "eth0").then_some(7))
    }

    fn servers(text: &str) -> Vec<String> {
        parse(text).servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_and_options_are_read_as_the_c_library_does() {
        let found = parse(
            "# a comment\n; another\nnameserver 127.0.0.53\n nameserver\t9.9.9.9 # trailing\nnameserver 2620:fe::fe\n\
             nameserver 8.8.8.8\nsearch example.com\noptions edns0 timeout:2 attempts:9 rotate\n",
        );
        let expected = ["127.0.0.53:53", "9.9.9.9:53", "[2620:fe::fe]:53"].map(|text| text.parse().unwrap());
        assert_eq!(found.servers, expected, "the first three");
        assert_eq!((found.timeout, found.attempts), (Duration::from_secs(2), 5));
        assert_eq!(
            servers("nameserver fe80::1%eth0\nnameserver fe80::2%3\nnameserver fe80::3%nothing"),
            ["[fe80::1%7]:53", "[fe80::2%3]:53"]
        );
    }

    #[test]
    fn without_a_server_the_host_asks_itself() {
        for text in ["", "nameserver", "nameserver example.com", "nameserverx 1.1.1.1", "options timeout:x"] {
            assert_eq!(servers(text), ["127.0.0.1:53"], "{text:?}");
        }
    }

    #[test]
    fn a_change_of_the_file_is_seen() {
        let directory = std::env::temp_dir().join(format!("sbx-resolv-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("resolv.conf");
        let mut host = OfHost::at(&path);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ask = |seconds| {
            host.get(at(seconds)).servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(ask(0), ["127.0.0.1"]);
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(ask(2), ["192.0.2.1"]);
        // By a new file in its place, as most programs do it.
        std::fs::write(directory.join("next"), "nameserver 192.0.2.2\n").unwrap();
        std::fs::rename(directory.join("next"), &path).unwrap();
        assert_eq!(ask(4), ["192.0.2.2"]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ask(6), ["192.0.2.2"], "a file that is gone changes nothing");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(nameserver|options|timeout:|attempts:|[0-9a-f:.%]|[ \n\t])*") {
            let found = parse(&text);
            prop_assert!((1..=MOST_SERVERS).contains(&found.servers.len()));
            prop_assert!((1..=MOST_ATTEMPTS).contains(&found.attempts));
        }
    }
}
