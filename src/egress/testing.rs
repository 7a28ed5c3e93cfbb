//! A context with one sandbox, for the unit tests of the protocols.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::counters::Counters;
use super::cx::Cx;
use super::denials::{Denied, Destination, Why};
use super::request::Request;
use super::settings::Settings;
use crate::policy::{Policy, Reason};
use crate::reactor::{FdBudget, Reactor, Wake};
use crate::sys::socket::{Family, Socket};

pub(super) const SANDBOX: u64 = 7;

/// No test waits longer for anything.
const PATIENT: Duration = Duration::from_secs(30);

pub(super) struct Rig {
    pub(super) reactor: Reactor,
    pub(super) cx: Cx,
    pub(super) counters: Arc<Counters>,
    pub(super) budget: FdBudget,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Rig {
    pub(super) fn new(policy: Policy, settings: Settings) -> Self {
        let (budget, requests) = (FdBudget::new(1000), Arc::new(Mutex::new(Vec::new())));
        let sent = Arc::clone(&requests);
        let mut cx = Cx::new(budget.clone(), Arc::new(move |request| sent.lock().unwrap().push(request)));
        let (mut reactor, counters) = (Reactor::new().unwrap(), Arc::new(Counters::default()));
        let policy = (Arc::new(policy), 1);
        cx.add_sandbox(&mut reactor, SANDBOX, policy, settings, None, Arc::clone(&counters));
        Self { reactor, cx, counters, budget, requests }
    }

    /// A policy that allows the loopback address.
    pub(super) fn loopback() -> Policy {
        let mut policy = Policy::allowlist();
        policy.allow_cidr("127.0.0.1/32").unwrap();
        policy
    }

    /// Turns the reactor until `done`, which is called after each turn; `wake` gets the wake-ups.
    pub(super) fn turn_until(
        &mut self,
        mut wake: impl FnMut(&mut Cx, &mut Reactor, Wake),
        mut done: impl FnMut() -> bool,
    ) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENT, "waited too long");
            self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
            while let Some(woken) = self.reactor.next() {
                wake(&mut self.cx, &mut self.reactor, woken);
            }
        }
    }

    /// What was requested of the layer above since this was called last.
    pub(super) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// The only request since this was called last: a denial for that reason.
    pub(super) fn denied(&self) -> (Option<Reason>, String) {
        match &self.requests()[..] {
            [Request::Denied { key: SANDBOX, denied: Denied { why, detail, .. }, count: 1 }] => match why {
                Why::Denied(reason, _) => (Some(*reason), detail.clone()),
                _ => (None, detail.clone()),
            },
            other => panic!("{other:?}"),
        }
    }

    /// The only request since this was called last: an address that could not be reached, with the errno.
    pub(super) fn unreachable(&self) -> (IpAddr, i32) {
        match &self.requests()[..] {
            [
                Request::Denied {
                    key: SANDBOX,
                    denied:
                        Denied { to: Some(Destination::Address(address)), why: Why::Unreachable(errno), .. },
                    count: 1,
                },
            ] => (*address, *errno),
            other => panic!("{other:?}"),
        }
    }

    /// The only request since this was called last: a limit.
    pub(super) fn limit(&self) -> String {
        match &self.requests()[..] {
            [Request::Limit { key: SANDBOX, what }] => what.clone(),
            other => panic!("{other:?}"),
        }
    }
}

/// A connection as the library has it, and the sandbox's end.
pub(super) fn connection() -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (Socket::adopt(OwnedFd::from(ours), Family::Unix).unwrap(), theirs)
}
