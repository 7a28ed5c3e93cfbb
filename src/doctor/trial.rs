//! The doctor's trial: a keeper makes its namespaces, and the library configures links and rules in them. No sandbox is
//! started, and everything disappears with the keeper.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::checks::LiveProbe;
use crate::error::{Code, Error, Result};
use crate::keeper::wire::keeper::{Reply, Request, Setup, TRIED_MOUNTS};
use crate::keeper::{Keeper, Origin, Program};
use crate::net::links;
use crate::net::nflog::NflogSocket;
use crate::sandbox;
use crate::sys::wait::readable;

/// Far longer than the trial takes.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries everything in the order of a sandbox's start, until the first failure.
pub(super) fn run(keeper: &Origin, user_namespace: bool) -> LiveProbe {
    let mut found = LiveProbe::default();
    let program = Program::new(keeper);
    found.memfd_exec = Some(outcome(&program));
    let Ok(program) = program else { return found };
    if let Err(error) = attempt(&program, user_namespace, &mut found) {
        log::debug!("the doctor's trial ended early: {error}");
    }
    found
}

fn attempt(program: &Program, user_namespace: bool, found: &mut LiveProbe) -> Result<()> {
    let keeper = Keeper::start(program);
    found.keeper = Some(outcome(&keeper));
    let mut keeper = keeper?;
    let result = in_namespaces(&mut keeper, user_namespace, found);
    // Wait for its end, so that nothing of the trial is left when the report is read.
    keeper.ask(&Request::Kill, vec![]).ok();
    let deadline = Instant::now() + TRIAL_TIMEOUT;
    if !readable(keeper.process(), deadline) {
        keeper.kill();
    }
    keeper.wait(TRIAL_TIMEOUT);
    result
}

fn in_namespaces(keeper: &mut Keeper, user_namespace: bool, found: &mut LiveProbe) -> Result<()> {
    let sysctls = sandbox::gateway_settings();
    let setup = Setup { user_namespace, network: true, only_namespaces: true, sysctls, ..Setup::default() };
    keeper.ask(&Request::Setup(Box::new(setup)), vec![])?;
    let (reply, fds) = hear(keeper)?;
    match reply {
        Reply::Namespaces { refused } => {
            found.user_namespace = user_namespace.then_some(Ok(()));
            found.user_mapping = user_namespace.then_some(Ok(()));
            found.namespaces = Some(Ok(()));
            found.mounts = Some(Ok(()));
            found.proc_sys_writable = Some(if refused.is_empty() { Ok(()) } else { Err(libc::EROFS) });
        }
        Reply::Failed { step, errno } => {
            let step = String::from_utf8_lossy(&step);
            if let Some(step) = step.strip_prefix(TRIED_MOUNTS) {
                found.user_namespace = user_namespace.then_some(Ok(()));
                found.namespaces = Some(Ok(()));
                found.mounts = Some(Err((step.to_owned(), errno)));
                return Ok(());
            }
            match step.as_ref() {
                "user namespace" => found.user_namespace = Some(Err(errno)),
                step if step.starts_with("/proc/self/") => {
                    found.user_namespace = Some(Ok(()));
                    found.user_mapping = Some(Err(errno));
                }
                "NETLINK_NETFILTER in G (nf_tables)" => found.nf_tables = Some(Err(errno)),
                _ => found.namespaces = Some(Err((step.into_owned(), errno))),
            }
            return Ok(());
        }
        other => return Err(Error::new(Code::Internal, format!("the keeper said {other:?}"))),
    }
    let [route_g, filter_g, log_g, route_s, ns_s] = <[OwnedFd; 5]>::try_from(fds)
        .map_err(|_| Error::new(Code::Internal, "the keeper sent other descriptors than expected"))?;
    let plan = links::Plan { mtu: 1500, ipv6: false };
    let links = links::configure_links(links::Sockets { route_g, route_s, ns_s }, &plan);
    found.veth = Some(outcome(&links));
    links?;
    let rules = links::load_rules(filter_g, &plan);
    found.nf_tables = Some(outcome(&rules));
    found.tproxy = Some(outcome(&rules));
    found.refusals = Some(outcome(&NflogSocket::listen(log_g)).and(match &rules {
        Ok(rules) if !rules.log_refused() => Err(libc::ENOENT),
        _ => Ok(()),
    }));
    rules.map(drop)
}

fn hear(keeper: &mut Keeper) -> Result<(Reply, Vec<OwnedFd>)> {
    let deadline = Instant::now() + TRIAL_TIMEOUT;
    loop {
        if let Some(heard) = keeper.hear()? {
            return Ok(heard);
        }
        if !readable(keeper.as_fd(), deadline) {
            return Err(Error::new(Code::TimedOut, "the keeper did not answer"));
        }
    }
}

fn outcome<T>(result: &Result<T>) -> Result<(), i32> {
    result.as_ref().map(|_| ()).map_err(|error| error.os_error().unwrap_or(libc::EIO))
}
