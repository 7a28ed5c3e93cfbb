//! The addresses of a host name, by the system's resolver.
//!
//! getaddrinfo(3) can't be cancelled and takes as long as resolv.conf says. So it runs on a thread of its own, which is left
//! behind when the operation ends first; that many may be behind at once, and no more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::patience::Patience;
use super::url::Origin;
use crate::error::{Code, Context, Error};
use crate::image::error;
use crate::sys::thread::with_signals_blocked;

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A name may have more; a connection to the first few fails or succeeds for all.
const MAX_ADDRESSES: usize = 8;

/// Look-ups under way in this process, also those that no one waits for any more.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
const MAX_UNDER_WAY: usize = 8;

/// One look-up under way.
struct Permit;

impl Permit {
    fn take() -> Option<Self> {
        let take = |count: usize| (count < MAX_UNDER_WAY).then_some(count + 1);
        UNDER_WAY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|_| Self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A server's addresses, in the order in which they are to be tried.
pub(super) fn addresses(server: &Origin, patience: &Patience<'_>) -> Result<Vec<IpAddr>, Failure> {
    if let Some(address) = server.address() {
        return Ok(vec![address]);
    }
    if server.is_loopback() {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let Some(permit) = Permit::take() else {
        let text = "look up its address: too many look-ups have not been answered yet";
        return Err(Failure::passing(Error::new(Code::Limit, text)));
    };
    let (sender, answer) = mpsc::sync_channel(1);
    let (host, port) = (server.host.clone(), server.port);
    let look_up = move || {
        let addresses = (host.as_str(), port).to_socket_addrs();
        let addresses =
            addresses.map(|found| found.map(|to| to.ip()).take(MAX_ADDRESSES).collect::<Vec<_>>());
        drop(permit);
        // The operation may have ended.
        let _ = sender.send(addresses);
    };
    with_signals_blocked(|| std::thread::Builder::new().name("sbx-resolve".to_owned()).spawn(look_up))?
        .context("start a thread for a look-up")?;
    let until = patience.at_most(RESOLVE_TIMEOUT);
    loop {
        patience.check()?;
        match answer.recv_timeout(POLL) {
            Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
            Ok(Ok(_)) | Err(RecvTimeoutError::Disconnected) => {
                return Err(Failure::passing(error("the name has no address")));
            }
            Ok(Err(cause)) => return Err(Failure::passing(error(format!("look up its address: {cause}")))),
            Err(RecvTimeoutError::Timeout) if Instant::now() >= until => {
                let text = "look up its address: no answer in time";
                return Err(Failure::passing(Error::new(Code::TimedOut, text)));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
