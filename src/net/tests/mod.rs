//! The topology S–G and its rules, laid over a real keeper's namespaces and looked at from both sides.
//!
//! The oracle is somebody else's: `ip` and `nft`, run in the namespaces by nsenter(1). What must happen
//! *inside* a namespace is done by this same test program, started anew there (`inside`): a process with
//! threads can't enter a user namespace. Inside, an ordinary user is root, so all of this runs as either.

mod inside;
mod packet;
mod reach;
mod topology;

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::sysctl;
use super::topology::{Plan, Sockets, configure_links, load_rules};
use crate::keeper::wire::keeper::{Reply, Request, Setup, Sysctl};
use crate::keeper::{Keeper, Program};

/// Longer than anything here takes; a test that waits for it fails.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A pair of namespaces with links and rules.
pub(super) struct Pair {
    keeper: Keeper,
    sandbox: OwnedFd,
    /// NETLINK_NETFILTER of G.
    _filter: OwnedFd,
}

/// A namespace of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    G,
    S,
}

impl Pair {
    pub(super) fn new(ipv6: bool) -> Self {
        let program = Program::new(None).unwrap();
        let mut keeper = Keeper::start(&program).unwrap();
        let sysctls = sysctl::GATEWAY.iter().map(|setting| Sysctl {
            name: setting.name.into(),
            value: setting.value.into(),
            mandatory: setting.mandatory,
        });
        let setup = Setup {
            user_namespace: true,
            network: true,
            only_namespaces: true,
            sysctls: sysctls.collect(),
            ..Setup::default()
        };
        keeper.ask(&Request::Setup(Box::new(setup)), vec![]).unwrap();
        let (reply, fds) = next(&mut keeper);
        assert!(matches!(reply, Reply::Namespaces { .. }), "{reply:?}");
        let [route_g, filter_g, route_s, ns_s] = <[OwnedFd; 4]>::try_from(fds).unwrap();
        let sandbox = ns_s.try_clone().unwrap();
        let plan = Plan { mtu: 1500, ipv6 };
        configure_links(Sockets { route_g, route_s, ns_s }, &plan).unwrap();
        let filter = load_rules(filter_g, &plan).unwrap();
        let pair = Self { keeper, sandbox, _filter: filter };
        pair.wait_for_queues();
        pair
    }

    /// The end that came up first is given its queue only when the kernel gets round to it (linkwatch), and
    /// loses what it sends before. TCP tries again; a raw frame's answer would be lost.
    fn wait_for_queues(&self) {
        let begin = Instant::now();
        let there = |place| {
            self.json(place, "ip -j link").iter().all(|link| {
                let up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
                !up || link["qdisc"] != "noop"
            })
        };
        while !(there(Where::G) && there(Where::S)) {
            assert!(begin.elapsed() < PATIENCE, "a link has no queue");
        }
    }

    /// TCP sockets of G, as the library gets them.
    pub(super) fn sockets(&mut self, ipv6: bool, count: u32) -> Vec<OwnedFd> {
        self.keeper.ask(&Request::Sockets { ipv6, count }, vec![]).unwrap();
        let (reply, fds) = next(&mut self.keeper);
        assert_eq!(reply, Reply::Sockets { ipv6 });
        assert_eq!(fds.len(), usize::try_from(count).unwrap());
        fds
    }

    fn enter(&self, place: Where) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--preserve-credentials", "-U", "-t", &self.keeper.pid().to_string()]);
        match place {
            Where::G => command.arg("-n"),
            Where::S => {
                let (me, fd) = (std::process::id(), self.sandbox.as_raw_fd());
                command.arg(format!("--net=/proc/{me}/fd/{fd}"))
            }
        };
        command
    }

    /// What a tool says there.
    pub(super) fn tool(&self, place: Where, words: &str) -> String {
        let output = self.enter(place).args(words.split(' ')).output().expect("nsenter (util-linux)");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a file holds for who is there, if there is such a file.
    pub(super) fn file(&self, place: Where, path: &str) -> Option<String> {
        let output = self.enter(place).args(["cat", path]).output().expect("nsenter (util-linux)");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// What a tool that speaks JSON says there.
    pub(super) fn json(&self, place: Where, words: &str) -> Vec<serde_json::Value> {
        let text = self.tool(place, words);
        if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(&text).expect(&text) }
    }

    /// Starts this test program there, to play a role (see `inside`).
    pub(super) fn play(&self, place: Where, role: &str, with: &[(&str, String)]) -> Role {
        let mut command = self.enter(place);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "net::tests::inside::role", "--ignored", "--nocapture"]);
        command.env(inside::ROLE, role).envs(with.iter().map(|(name, value)| (*name, value)));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let input = child.stdin.take();
        Role { child, input, output, name: role.to_owned() }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.keeper.kill();
        readable(self.keeper.process());
        self.keeper.reap();
    }
}

/// A role being played in a namespace.
pub(super) struct Role {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    name: String,
}

impl Role {
    /// The next thing that it says.
    pub(super) fn says(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            let length = self.output.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "{} ended", self.name);
            if let Some((_, said)) = line.split_once(inside::SAYS) {
                return said.trim().to_owned();
            }
        }
    }

    /// Tells it that the play is over, and wants it to have gone well.
    pub(super) fn end(mut self) -> String {
        drop(self.input.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}: {status}\n{rest}", self.name);
        rest
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn readable(fd: impl AsFd) {
    wait(fd, nix::poll::PollFlags::POLLIN);
}

pub(super) fn wait(fd: impl AsFd, what: nix::poll::PollFlags) {
    let mut set = [nix::poll::PollFd::new(fd.as_fd(), what)];
    let patience = nix::poll::PollTimeout::try_from(PATIENCE).unwrap();
    assert_eq!(nix::poll::poll(&mut set, patience), Ok(1), "nothing came in time");
}

fn next(keeper: &mut Keeper) -> (Reply, Vec<OwnedFd>) {
    let begin = Instant::now();
    loop {
        if let Some(reply) = keeper.hear().unwrap() {
            return reply;
        }
        assert!(begin.elapsed() < PATIENCE);
        readable(keeper.as_fd());
    }
}
