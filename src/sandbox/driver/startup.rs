//! The way up: namespaces, links, runsc, the gateway, the program.

use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{ControlCx, SandboxDriver};
use crate::error::{Code, Error, Result};
use crate::keeper::wire::init::{Request as ToInit, Source, Start};
use crate::keeper::wire::keeper::Request as ToKeeper;
use crate::net::links;
use crate::process::{Ours, Streams};
use crate::sandbox::lifecycle::{Event, PROGRAM, Part};
use crate::sandbox::policy_update::Opened;
use crate::sys::channel;

impl SandboxDriver {
    /// The namespaces exist: lays the links that runsc reads, while the keeper makes the files.
    pub(super) fn on_namespaces(
        &mut self,
        cx: &mut ControlCx<'_>,
        refused: &[Vec<u8>],
        fds: Vec<OwnedFd>,
    ) -> Result<()> {
        for name in refused {
            let name = String::from_utf8_lossy(name);
            log::info!("sandbox {}: /proc/sys/{name} of its gateway can't be written here", self.shared.id);
        }
        // The sandbox may be ending already, or has no network.
        let Some(plan) = self.plan.as_ref().filter(|plan| plan.network) else { return Ok(()) };
        let [route_g, filter_g, log_g, route_s, ns_s] = <[OwnedFd; 5]>::try_from(fds)
            .map_err(|_| Error::new(Code::Engine, "the keeper sent other descriptors than expected"))?;
        let sockets = links::Sockets { route_g, route_s, ns_s };
        links::configure_links(sockets, &plan.topology)?;
        let services = self.shared.config.host_services().len();
        for request in self.gateway.prepare((filter_g, log_g), plan.topology.ipv6, services) {
            self.ask_keeper(cx, &request, vec![]);
        }
        self.handle(cx, Event::Prepared(Part::Links));
        Ok(())
    }

    /// Opens init's channel and has the keeper start runsc, or start it and hold it.
    pub(super) fn start_runsc(&mut self, cx: &mut ControlCx<'_>, hold: bool) {
        let (Some(plan), Some(key)) = (&self.plan, self.key) else {
            debug_assert!(false, "runsc is started once, in a sandbox that is watched");
            return;
        };
        let (ours, theirs) = match channel::pair() {
            Ok(pair) => pair,
            Err(error) => {
                return self.handle(cx, Event::Failed(Error::system("a socket pair for init", &error)));
            }
        };
        // Before its filter, which comes with runsc. A keeper that can't be asked is ending, as the next request shows.
        if let Some(arguments) = plan.snapshots.clone() {
            let id = self.shared.id.as_str().as_bytes().to_vec();
            let _ = self.keeper.ask(&ToKeeper::KeepSnapshots { arguments, id }, vec![]);
        }
        let run = ToKeeper::Run { arguments: plan.arguments.clone(), hold };
        let event = match self.keeper.ask(&run, vec![theirs]) {
            Ok(()) => match self.init.open(cx.reactor, ours, key) {
                Ok(()) => Event::RunscAsked,
                Err(error) => Event::Failed(error),
            },
            Err(error) => {
                // The keeper is ending, and init's end never reaches runsc. Its last message says why.
                self.read_on(cx);
                Event::LossSuspected(error)
            }
        };
        self.handle(cx, event);
    }

    /// Loads the rules and the policy's destinations, then opens the way out, while runsc starts.
    pub(super) fn open_gateway(&mut self, cx: &mut ControlCx<'_>) {
        let Some(plan) = &self.plan else {
            debug_assert!(false, "the gateway is opened during the start");
            return;
        };
        // A member's are loaded when it is made.
        if !self.gateway.has_rules()
            && let Err(error) = self.gateway.load_rules(&plan.topology)
        {
            return self.handle(cx, Event::LossSuspected(error));
        }
        self.updates.begin(Arc::new(self.shared.config.policy().clone()));
        self.update_policy(cx);
    }

    /// Loads the rules of a member of the warm pool. They allow nothing, as long as no creation takes it.
    pub(super) fn load_rules(&mut self, cx: &mut ControlCx<'_>) {
        let Some(plan) = &self.plan else {
            debug_assert!(false, "the rules are loaded during the start");
            return;
        };
        if let Err(error) = self.gateway.load_rules(&plan.topology) {
            self.handle(cx, Event::LossSuspected(error));
        }
    }

    /// Does what waits for the rules.
    pub(super) fn update_policy(&mut self, cx: &mut ControlCx<'_>) {
        while let Some(opened) = self.updates.run(&mut self.gateway, &self.shared, cx.engine, cx.control) {
            self.on_policy_open(cx, opened);
        }
        if self.updates.is_offloaded() {
            self.handle(cx, Event::RulesOffloaded);
        }
    }

    /// The policy's destinations are in the rules, or can't be loaded.
    pub(super) fn on_policy_open(&mut self, cx: &mut ControlCx<'_>, opened: Result<Opened>) {
        let open = |policy| self.gateway.open_egress(cx.engine, &self.shared, policy);
        let event = match opened.and_then(open) {
            Ok(()) => Event::GatewayOpen,
            Err(error) => Event::LossSuspected(error),
        };
        self.handle(cx, event);
    }

    pub(super) fn start_program(&mut self, cx: &mut ControlCx<'_>) {
        if let Err(error) = self.ask_for_program(cx) {
            self.handle(cx, Event::Failed(error));
        }
    }

    /// Asks init to start the program, or to make the working directory if there is none. Init may not run yet; then it
    /// finds the request when it does.
    fn ask_for_program(&mut self, cx: &mut ControlCx<'_>) -> Result<()> {
        let Some(plan) = self.plan.as_mut() else {
            debug_assert!(false, "the program is started once");
            return Ok(());
        };
        if self.shared.config.command().is_empty() {
            let Start { directory, files, .. } = mem::take(&mut plan.start);
            let start = Start { id: PROGRAM, directory, files, ..Start::default() };
            self.init.ask(cx.reactor, &ToInit::Start(Box::new(start)));
            return Ok(());
        }
        let streams = Streams::open(plan.stdio)?;
        let start = Start { id: PROGRAM, streams: streams.sources, ..mem::take(&mut plan.start) };
        if streams.sources[0] == Source::Given {
            self.watch_input(cx, streams.theirs.first());
        }
        let mut descriptors = [None, None, None];
        let mut captures = [None, None, None];
        for ((ours, descriptor), capture) in streams.ours.into_iter().zip(&mut descriptors).zip(&mut captures)
        {
            match ours {
                Some(Ours::Descriptor(fd)) => *descriptor = Some(fd),
                Some(Ours::Capture(reader, kept)) => {
                    *capture = Some(kept);
                    self.captures.push(reader);
                }
                None => {}
            }
        }
        self.shared.update(|facts| (facts.descriptors, facts.captures) = (descriptors, captures));
        self.init.give(cx.reactor, &ToInit::Start(Box::new(start)), streams.theirs, None);
        Ok(())
    }

    /// Has the standard input watched, if the sandbox has an idle timeout. One that can't be watched is not a reason to
    /// end it, but the host is to know.
    fn watch_input(&mut self, cx: &mut ControlCx<'_>, theirs: Option<&OwnedFd>) {
        let Some(fd) = theirs.filter(|_| self.shared.config.idle_timeout().is_some()) else { return };
        if let Err(error) = self.input.start(cx.reactor, cx.inputs, self.shared.number, fd) {
            log::error!("sandbox {}: its input can't be watched: {error}", self.shared.id);
        }
    }

    /// The program runs: its tunnels are opened, if the sandbox has a network.
    pub(super) fn open_tunnels(&mut self, cx: &mut ControlCx<'_>) {
        let (plan, listeners) = (self.plan.take(), self.listeners.take());
        let attached = match listeners.filter(|_| plan.is_some_and(|plan| plan.network)) {
            Some(listeners) => listeners.attach(cx.engine, &self.shared),
            None => Ok(()),
        };
        let event = match attached {
            Ok(()) => Event::TunnelsOpen,
            Err(error) => Event::Failed(error),
        };
        self.handle(cx, event);
    }
}
