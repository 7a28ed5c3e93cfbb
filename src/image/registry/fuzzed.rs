//! What the fuzz targets read.

use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};

use super::challenge;
use super::dial::Connection;
use super::manifest::{self, Platform};
use super::patience::Patience;
use super::pool::{Home, Pool};
use super::reach::{NamedBy, Reach};
use super::response::Response;
use super::stream::Stream;
use super::url::{Origin, Scheme, Url};
use crate::image::reference::Reference;
use crate::sys::socket::{Family, Socket};

/// How much of an answer is tried: what a socket takes at once.
const MAX_ANSWER: usize = 64 * 1024;

/// The body of an HTTP answer, if all of it is one.
pub(crate) fn body(answer: &[u8]) -> Option<Vec<u8>> {
    let answer = answer.get(..answer.len().min(MAX_ANSWER))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (ours, server) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags).ok()?;
    setsockopt(&server.as_fd(), sockopt::SndBuf, &(4 * MAX_ANSWER)).ok()?;
    let server = Socket::new(server, Family::Unix);
    let sent = server.send(answer).ok()?;
    drop(server);
    assert_eq!(sent, answer.len(), "the socket takes all of it");
    let cancelled = AtomicBool::new(false);
    let patience = Patience::new(&cancelled, Instant::now() + Duration::from_secs(5));
    let stream = Stream::plain(Socket::new(ours, Family::Unix));
    let server = Origin::new(Scheme::Https, "registry.example").ok()?;
    let home = Home { server, named_by: NamedBy::User };
    let response =
        Response::receive(Connection { stream, reach: Reach::Public }, (Pool::default(), home), &patience)
            .ok()?;
    Some(response.body(MAX_ANSWER, "the body", &patience).ok()?.to_vec())
}

/// Where a `Location` leads from a request: scheme, authority and target.
pub(crate) fn location(text: &str) -> Option<(String, String)> {
    let base = Url::parse("https://registry.example/v2/a/b?c").ok()?;
    let url = base.join(text).ok()?;
    Some((url.origin().to_string(), url.target().to_owned()))
}

/// The realms of a `WWW-Authenticate`.
pub(crate) fn realms(text: &str) -> Vec<String> {
    challenge::parse(text).iter().filter_map(|one| one.parameter("realm").map(str::to_owned)).collect()
}

/// How many layers a manifest has, if it can be used.
pub(crate) fn layers(json: &[u8]) -> Option<usize> {
    match manifest::parse(json, None, &Platform::host()).ok()? {
        manifest::Document::Index(_) => Some(0),
        manifest::Document::Image { layers, .. } => Some(layers.len()),
    }
}

/// The full name that a name means.
pub(crate) fn full_name(text: &str) -> Option<String> {
    Reference::parse(text).ok().map(|reference| reference.to_string())
}
