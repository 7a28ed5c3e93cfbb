//! Upstream servers: those that the host itself asks, or those that the host named for a sandbox.
//!
//! The control thread reads `/etc/resolv.conf` ([`SystemResolvers`]) and sends the engine what it finds: the engine's thread
//! opens no file.

use std::fs::OpenOptions;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use resolv_conf::{Config, ScopedIp};

const PORT: u16 = 53;
/// resolv.conf(5): the most servers, and the limits of its options.
const MAX_SERVERS: usize = 3;
const MAX_ATTEMPTS: u32 = 5;
const MAX_TIMEOUT_SECONDS: u32 = 30;
/// No more of the file is read.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Servers, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upstreams {
    pub(crate) servers: Vec<SocketAddr>,
    /// How long one attempt at one server may take.
    pub(crate) timeout: Duration,
    /// How often each server is asked.
    pub(crate) attempts: u32,
}

impl Upstreams {
    /// These servers, with the usual time-out and attempts.
    pub(crate) fn of(servers: Vec<SocketAddr>) -> Self {
        Self { servers, timeout: Duration::from_secs(5), attempts: 2 }
    }

    /// Parses the text of a resolv.conf(5). What isn't understood is ignored, as the C library does; without any server
    /// the host asks itself. `interface` gives the index of a named interface.
    fn parse(text: &str, interface: impl Fn(&str) -> Option<u32>) -> Self {
        let (config, _) = Config::parse_with_errors(with_indexes(text, interface).as_bytes());
        let mut servers: Vec<SocketAddr> =
            config.nameservers.into_iter().filter_map(server).take(MAX_SERVERS).collect();
        if servers.is_empty() {
            servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        Self {
            servers,
            timeout: Duration::from_secs(config.timeout.clamp(1, MAX_TIMEOUT_SECONDS).into()),
            attempts: config.attempts.clamp(1, MAX_ATTEMPTS),
        }
    }
}

/// The text with the indexes of interfaces in place of their names (`fe80::1%br-lan`): the crate takes none with a hyphen
/// or a dot in it.
fn with_indexes(text: &str, interface: impl Fn(&str) -> Option<u32>) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let named =
            line.split_once('%').filter(|_| line.starts_with("nameserver")).and_then(|(before, rest)| {
                let end = rest.find(|letter: char| letter.is_ascii_whitespace() || "#;".contains(letter));
                let (zone, after) = rest.split_at(end.unwrap_or(rest.len()));
                Some((before, interface(zone)?, after))
            });
        match named {
            Some((before, index, after)) => out.push_str(&format!("{before}%{index}{after}")),
            None => out.push_str(line),
        }
    }
    out
}

/// Where a server listens; an address may be of a link.
fn server(address: ScopedIp) -> Option<SocketAddr> {
    match address {
        ScopedIp::V6(address, Some(zone)) => {
            Some(SocketAddrV6::new(address, PORT, 0, zone.parse().ok()?).into())
        }
        ScopedIp::V6(address, None) => Some(SocketAddr::new(address.into(), PORT)),
        ScopedIp::V4(address) => Some(SocketAddr::new(address.into(), PORT)),
    }
}

/// The servers of the host's resolv.conf, reread when that file changes.
#[derive(Debug)]
pub(crate) struct SystemResolvers {
    path: PathBuf,
    seen: Option<(u64, u64, i64, i64, u64)>,
    /// The servers that were returned last.
    current: Option<Arc<Upstreams>>,
}

impl Default for SystemResolvers {
    fn default() -> Self {
        Self::at(Path::new("/etc/resolv.conf"))
    }
}

impl SystemResolvers {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None, current: None }
    }

    /// Reads the file if it has changed. Returns the servers if they are others than before; a file that can't be read
    /// changes nothing. May block: not to be called on the engine's thread.
    pub(crate) fn look(&mut self) -> Option<Arc<Upstreams>> {
        let found = std::fs::metadata(&self.path).ok()?;
        let identity = (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size());
        if self.seen == Some(identity) || !found.is_file() {
            return None;
        }
        // A FIFO that has come into its place meanwhile mustn't block.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path).ok()?;
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).ok()?;
        let index = |name: &str| nix::net::if_::if_nametoindex(name).ok();
        let found = Upstreams::parse(&String::from_utf8_lossy(&text), index);
        self.seen = Some(identity);
        if self.current.as_deref() == Some(&found) {
            return None;
        }
        log::info!("the host's name servers: {:?}", found.servers);
        let found = Arc::new(found);
        self.current = Some(Arc::clone(&found));
        Some(found)
    }
}

impl Default for Upstreams {
    /// What a host without a resolv.conf asks: itself.
    fn default() -> Self {
        Self::parse("", |_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Upstreams {
        Upstreams::parse(text, |name| ["eth0", "br-lan.1"].contains(&name).then_some(7))
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
            servers(
                "nameserver fe80::1%eth0\nnameserver fe80::2%3\nnameserver fe80::3%nothing\nnameserver fe80::4%br-lan.1#x"
            ),
            ["[fe80::1%7]:53", "[fe80::2%3]:53", "[fe80::4%7]:53"]
        );
    }

    #[test]
    fn without_a_server_the_host_asks_itself() {
        for text in ["", "nameserver", "nameserver example.com", "nameserverx 1.1.1.1", "options timeout:x"] {
            assert_eq!(servers(text), ["127.0.0.1:53"], "{text:?}");
        }
    }

    #[test]
    fn a_change_of_the_file_is_seen_once() {
        let directory = std::env::temp_dir().join(format!("sbx-resolv-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("resolv.conf");
        let mut host = SystemResolvers::at(&path);
        let mut look =
            || host.look().map(|found| found.servers.iter().map(|server| server.ip().to_string()).collect());
        let servers = |server: &str| Some(vec![server.to_owned()]);
        assert_eq!(look(), None, "there is no file");
        std::fs::write(&path, "nameserver 127.0.0.1\n").unwrap();
        assert_eq!(
            look(),
            servers("127.0.0.1"),
            "the first servers found are reported, even if they equal the default"
        );
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(look(), servers("192.0.2.1"));
        assert_eq!(look(), None);
        // By a new file in its place, as most programs do it.
        std::fs::write(directory.join("next"), "nameserver 192.0.2.2\n").unwrap();
        std::fs::rename(directory.join("next"), &path).unwrap();
        assert_eq!(look(), servers("192.0.2.2"));
        std::fs::write(directory.join("next"), "search example.com\nnameserver 192.0.2.2\n").unwrap();
        std::fs::rename(directory.join("next"), &path).unwrap();
        assert_eq!(look(), None, "the same servers");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(look(), None, "a file that is gone changes nothing");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        nix::unistd::mkfifo(name.as_c_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(look(), None, "a FIFO neither changes anything nor blocks");
        std::fs::remove_dir_all(&directory).unwrap();
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(nameserver|options|timeout:|attempts:|[0-9a-f:.%]|[ \n\t])*") {
            let found = parse(&text);
            prop_assert!((1..=MAX_SERVERS).contains(&found.servers.len()));
            prop_assert!((1..=MAX_ATTEMPTS).contains(&found.attempts));
        }
    }
}
