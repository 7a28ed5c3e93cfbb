//! The far side: what it saw, and programs in sandboxes that try to get there.

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sbx::{Config, Policy, Runtime, Sandbox};

use crate::common::{PATIENCE, config, eventually, output};

/// What `internet.py` has laid.
pub(crate) struct Internet {
    directory: PathBuf,
    pub(crate) runtime: Runtime,
}

/// The Internet, which `SBX_TEST_INTERNET` names, and a runtime.
pub(crate) fn internet() -> Internet {
    let directory =
        std::env::var_os("SBX_TEST_INTERNET").expect("SBX_TEST_INTERNET: sh tests/run.sh internet");
    Internet { directory: directory.into(), runtime: crate::common::runtime() }
}

static MARKS: AtomicU32 = AtomicU32::new(0);

impl Internet {
    fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.directory.join(file)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// All packets that left the host until now, as lists of words: protocol, source, port, destination, port …
    pub(crate) fn packets(&self) -> Vec<Vec<String>> {
        // A packet that must be seen: what the capture has before it, it has for certain.
        let text = format!("mark-{}-{}-", std::process::id(), MARKS.fetch_add(1, Ordering::Relaxed));
        UdpSocket::bind("0.0.0.0:0").unwrap().send_to(text.as_bytes(), "44.0.0.1:9").unwrap();
        let mut seen = Vec::new();
        eventually("the capture sees nothing", || {
            seen = self.lines("packets");
            seen.iter().any(|line| line.contains(&text))
        });
        seen.iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    /// The packets to an address.
    pub(crate) fn packets_to(&self, address: &str) -> usize {
        self.packets().iter().filter(|words| words.get(3).is_some_and(|to| to == address)).count()
    }

    /// What the servers out there have written down.
    pub(crate) fn answered(&self) -> Vec<String> {
        self.lines("answered")
    }

    /// What the name server was asked: transport, name, type.
    pub(crate) fn questions(&self) -> Vec<String> {
        self.lines("questions")
    }

    /// How often sockets of the host itself were reached.
    pub(crate) fn contacts(&self) -> usize {
        self.lines("contacts").len()
    }

    /// Keeps other tests from reaching sockets of the host, or from counting that.
    pub(crate) fn host_alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often that address of the host was.
    pub(crate) fn contacts_at(&self, address: &str) -> usize {
        self.lines("contacts").iter().filter(|line| line.split(' ').nth(2) == Some(address)).count()
    }

    /// Gives the host another address, or takes it away.
    pub(crate) fn change_address(&self, change: &str) {
        let mut hold = fs::OpenOptions::new().write(true).open(self.directory.join("hold")).unwrap();
        let before = self.changes();
        writeln!(hold, "{change}").unwrap();
        eventually("the host's addresses don't change", || self.changes() > before);
    }

    fn changes(&self) -> usize {
        fs::read_to_string(self.directory.join("done")).map_or(0, |text| text.lines().count())
    }

    /// Runs `inside.py` with that policy and gives its lines without "done".
    pub(crate) fn try_from_inside(&self, policy: &Policy, attempts: &[String]) -> Vec<String> {
        let config = trying(policy, attempts);
        self.finish(&self.runtime.create(&config).unwrap())
    }

    /// The lines of a sandbox that runs `inside.py`, once it has ended.
    pub(crate) fn finish(&self, sandbox: &Sandbox) -> Vec<String> {
        let patience = PATIENCE.map(|patience| patience * 4);
        let exit = sandbox.wait(patience).unwrap();
        let text = output(sandbox);
        assert_eq!(exit.code, 0, "{text}");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(lines.pop().as_deref(), Some("done"), "{text}");
        lines
    }
}

/// A sandbox that runs `inside.py`.
pub(crate) fn trying(policy: &Policy, attempts: &[String]) -> Config {
    let mut command = vec!["/usr/bin/python3", "-I", "-c", include_str!("inside.py")];
    command.extend(attempts.iter().map(String::as_str));
    let mut config = config(&command);
    config.set_policy(policy).unwrap();
    config
}

/// An allowlist of these ranges.
pub(crate) fn allowlist(ranges: &[&str]) -> Policy {
    let mut policy = Policy::allowlist();
    for range in ranges {
        policy.allow_cidr(range).unwrap();
    }
    policy
}

/// Each attempt with what came of it.
pub(crate) fn came(attempts: &[(String, &str)]) -> (Vec<String>, Vec<String>) {
    attempts.iter().map(|(attempt, outcome)| (attempt.clone(), format!("{attempt} {outcome}"))).unzip()
}
