//! Reports to the host what was denied: by the library's verdict, and by the rules of G before that.

use std::os::fd::AsFd;

use super::denials::{Denials, Denied};
use super::request::{Request, Requests};
use crate::net::nflog::{NflogSocket, Progress, Refused};
use crate::reactor::{FdSlot, Key, Reactor, TimerId};

/// One sandbox's denials on their way to the host.
#[derive(Debug)]
pub(super) struct Reporter {
    sandbox: u64,
    /// What the reactor wakes for the kernel's messages and for the timer.
    key: Key,
    /// Reads what the rules have refused, where the kernel logs it.
    refusals: Option<NflogSocket>,
    denials: Denials,
    /// Runs while denials are counted.
    timer: Option<TimerId>,
}

impl Reporter {
    /// Reports the denials of a sandbox, under that key.
    pub(super) fn new(
        reactor: &mut Reactor,
        requests: &Requests,
        sandbox: u64,
        key: Key,
        refusals: Option<NflogSocket>,
    ) -> Self {
        let mut reporter = Self { sandbox, key, refusals, denials: Denials::default(), timer: None };
        if let Some(refusals) = &reporter.refusals
            && let Err(error) = reactor.register(refusals.as_fd(), key, FdSlot::First)
        {
            reporter.refusals = None;
            reporter.report_unreadable(requests, &error);
        }
        reporter
    }

    /// The key that the reactor wakes for it.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Reads one message of the kernel's about packets that the rules have refused; `None` if there is none.
    pub(super) fn read_refused(
        &mut self,
        reactor: &mut Reactor,
        requests: &Requests,
    ) -> Option<Vec<Refused>> {
        let mut refused = Vec::new();
        match self.refusals.as_mut()?.read(|packet| refused.push(packet)) {
            Ok(Progress::More | Progress::Lost) => Some(refused),
            Ok(Progress::Nothing) => None,
            Err(error) => {
                if let Some(refusals) = self.refusals.take() {
                    reactor.deregister(refusals.as_fd());
                }
                self.report_unreadable(requests, &error);
                None
            }
        }
    }

    /// Reports a denial at once, or counts it with others of its kind.
    pub(super) fn deny(&mut self, reactor: &mut Reactor, requests: &Requests, denied: Denied) {
        if self.denials.note(&denied, reactor.now()) {
            requests(Request::Denied { key: self.sandbox, denied, count: 1 });
        }
        if self.timer.is_none() {
            self.timer = self.denials.until().map(|until| reactor.schedule(until, self.key));
        }
    }

    /// Reports the denials that were counted, when their time has come.
    pub(super) fn report_counted(&mut self, reactor: &mut Reactor, requests: &Requests) {
        if self.timer.is_none_or(|timer| timer.at() > reactor.now()) {
            return;
        }
        for (denied, count) in self.denials.due(reactor.now()) {
            requests(Request::Denied { key: self.sandbox, denied, count });
        }
        self.timer = self.denials.until().map(|until| reactor.schedule(until, self.key));
    }

    /// Reports all that is still counted, and watches nothing any more.
    pub(super) fn finish(&mut self, reactor: &mut Reactor, requests: &Requests) {
        if let Some(until) = self.denials.until() {
            for (denied, count) in self.denials.due(until) {
                requests(Request::Denied { key: self.sandbox, denied, count });
            }
        }
        if let Some(refusals) = self.refusals.take() {
            reactor.deregister(refusals.as_fd());
        }
        if let Some(timer) = self.timer.take() {
            reactor.cancel(timer);
        }
    }

    fn report_unreadable(&self, requests: &Requests, error: &std::io::Error) {
        let what = format!("egress: what the gateway refuses can't be told ({error})");
        requests(Request::Limit { key: self.sandbox, what });
    }
}
