//! Kills a program and every process that it has started.
//!
//! Init finds them in `/proc`: the descendants of the program, and the members of its session and of every
//! session that a descendant leads. A process that has left all of these (a daemon in a session of its own
//! whose parents have ended) can't be told from those that other programs have started, and survives.
//!
//! There may be tens of thousands of processes, so scanning and killing alternate with everything else that
//! init does.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions, ReadDir};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// The number of scans for processes that were started meanwhile.
const MAX_ROUNDS: usize = 8;
/// How long one turn takes, during which init does nothing else.
const TURN_TIME: Duration = Duration::from_millis(100);
/// How long a scan may take before the processes that it has found are killed.
const SCAN_TIME: Duration = Duration::from_secs(2);
/// The number of processes scanned or killed between two looks at the clock.
const STRIDE: usize = 16;
/// More than gVisor allows.
const MAX_PROCESSES: usize = 1 << 17;

/// A process as `/proc` shows it.
#[derive(Clone, Copy, Debug)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
}

/// The programs that are being killed. One scan of `/proc` serves all of them.
#[derive(Debug, Default)]
pub(super) struct Kills {
    /// The programs that haven't been reaped.
    leaders: HashSet<i32>,
    found: HashSet<i32>,
    sessions: HashSet<i32>,
    /// The remaining scans.
    rounds: usize,
    /// Whether a program was added since the scan began.
    joined: bool,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    Scanning {
        names: ReadDir,
        all: Vec<Process>,
        until: Instant,
    },
    /// The processes still to be killed, and whether another scan is due.
    Killing {
        targets: Vec<i32>,
        more: bool,
    },
}

impl Kills {
    /// Adds a program, a child that has not been reaped and leads its session.
    pub(super) fn add(&mut self, leader: i32) {
        if self.leaders.insert(leader) {
            self.found.insert(leader);
            self.sessions.insert(leader);
            self.rounds = MAX_ROUNDS;
            self.joined = true;
        }
    }

    /// A child was reaped, so its pid may be reused.
    pub(super) fn reaped(&mut self, pid: i32) {
        self.leaders.remove(&pid);
    }

    /// Whether there is work for the next turn.
    pub(super) fn is_busy(&self) -> bool {
        self.rounds > 0 || !matches!(self.stage, Stage::Idle)
    }

    /// Works for [`TURN_TIME`].
    pub(super) fn turn(&mut self) {
        let end = Instant::now() + TURN_TIME;
        while self.is_busy() && Instant::now() < end {
            self.stage = match std::mem::take(&mut self.stage) {
                Stage::Idle => self.begin(),
                Stage::Scanning { mut names, mut all, until } => {
                    let done = scan(&mut names, &mut all);
                    if done || Instant::now() >= until {
                        self.kill(&all)
                    } else {
                        Stage::Scanning { names, all, until }
                    }
                }
                Stage::Killing { mut targets, more } => {
                    let left = targets.len().saturating_sub(STRIDE);
                    for pid in targets.drain(left..) {
                        // SAFETY: kill takes numbers; those of others are not given away again so soon.
                        unsafe { libc::kill(pid, libc::SIGKILL) };
                    }
                    if targets.is_empty() { self.finish(more) } else { Stage::Killing { targets, more } }
                }
            };
        }
    }

    /// Starts a scan. It comes before anything is killed, because killing a parent makes its children orphans
    /// of init.
    fn begin(&mut self) -> Stage {
        self.rounds = self.rounds.saturating_sub(1);
        self.joined = false;
        match fs::read_dir("/proc") {
            Ok(names) => Stage::Scanning { names, all: Vec::new(), until: Instant::now() + SCAN_TIME },
            Err(_) => self.kill(&[]),
        }
    }

    fn kill(&mut self, all: &[Process]) -> Stage {
        let before = self.found.len();
        reach(all, &mut self.found, &mut self.sessions);
        for leader in &self.leaders {
            // SAFETY: kill takes numbers; the leader's pid, also its group's, isn't reused until it is reaped.
            unsafe { libc::kill(-leader, libc::SIGKILL) };
        }
        let targets = all.iter().map(|process| process.pid).filter(|pid| self.found.contains(pid)).collect();
        Stage::Killing { targets, more: self.joined || self.found.len() != before }
    }

    fn finish(&mut self, more: bool) -> Stage {
        if !(more || self.joined) || self.rounds == 0 {
            *self = Self::default();
        }
        Stage::Idle
    }
}

/// Scans some more processes. Returns whether the scan is complete.
fn scan(names: &mut ReadDir, all: &mut Vec<Process>) -> bool {
    for _ in 0..STRIDE {
        let Some(Ok(entry)) = names.next() else { return true };
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        all.extend(pid.and_then(process));
        if all.len() >= MAX_PROCESSES {
            return true;
        }
    }
    false
}

/// Adds the descendants of `found`, and the members of their sessions. Visits each process once, whatever the
/// shape of the tree.
fn reach(all: &[Process], found: &mut HashSet<i32>, sessions: &mut HashSet<i32>) {
    let mut children: HashMap<i32, Vec<Process>> = HashMap::new();
    let mut members: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all.iter().filter(|process| process.pid > 1) {
        children.entry(process.parent).or_default().push(*process);
        members.entry(process.session).or_default().push(*process);
        if process.session == process.pid && found.contains(&process.pid) {
            sessions.insert(process.pid);
        }
    }
    let mut reached: Vec<i32> = found.union(sessions).copied().collect();
    while let Some(number) = reached.pop() {
        let below = children.remove(&number).unwrap_or_default();
        let beside =
            if sessions.contains(&number) { members.remove(&number) } else { None }.unwrap_or_default();
        for process in below.into_iter().chain(beside) {
            if found.insert(process.pid) {
                sessions.extend((process.session == process.pid).then_some(process.pid));
                reached.push(process.pid);
            }
        }
    }
}

/// Parses proc_pid_stat(5): after the name, which may contain anything, come state, parent, group and
/// session.
fn process(pid: i32) -> Option<Process> {
    let mut text = [0_u8; 1024];
    let mut options = OpenOptions::new();
    let mut file: File =
        options.read(true).custom_flags(libc::O_NONBLOCK).open(format!("/proc/{pid}/stat")).ok()?;
    let length = file.read(&mut text).ok()?;
    let text = String::from_utf8_lossy(text.get(..length)?);
    let mut words = text.rsplit_once(") ")?.1.split(' ').skip(1);
    let parent = words.next()?.parse().ok()?;
    Some(Process { pid, parent, session: words.nth(1)?.parse().ok()? })
}
