//! A program and all that it has started.
//!
//! Looked for in `/proc`: what is below it, and what is of its session or of one that something below it leads. What
//! has left all of that (a daemon that has begun a session of its own and whose parents have ended) can't be told from
//! what others have started, and lives on.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

/// How often it is looked again for what was started meanwhile.
const ROUNDS: usize = 8;
/// For how long init does nothing else than that.
const LONGEST: Duration = Duration::from_secs(3);
/// More than gVisor lets there be.
const MOST: usize = 1 << 17;

/// What `/proc` says of a process.
struct Process {
    parent: i32,
    session: i32,
}

/// Kills the leader of a session, a child that has not been reaped, with all that can be found.
pub(super) fn kill(leader: i32) {
    let end = Instant::now() + LONGEST;
    let (mut found, mut sessions) = (HashSet::from([leader]), HashSet::from([leader]));
    for _ in 0..ROUNDS {
        // Before it is looked who is below whom: an orphan's parent is init.
        let all = processes();
        let before = found.len();
        while add(&all, &mut found, &mut sessions) {}
        // SAFETY: kill takes numbers; the leader's number, which is that of its group, is its own until it is reaped.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
        for pid in all.keys().filter(|pid| found.contains(pid)) {
            // SAFETY: as above; and the numbers of others are not given away again so soon.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        if found.len() == before || Instant::now() >= end {
            return;
        }
    }
}

/// Adds what is below those that were found, or of their sessions. Whether that was any.
fn add(all: &HashMap<i32, Process>, found: &mut HashSet<i32>, sessions: &mut HashSet<i32>) -> bool {
    let before = found.len();
    for (pid, process) in all {
        if *pid > 1 && (found.contains(&process.parent) || sessions.contains(&process.session)) && found.insert(*pid)
        {
            sessions.extend((process.session == *pid).then_some(*pid));
        }
    }
    found.len() != before
}

fn processes() -> HashMap<i32, Process> {
    let Ok(names) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = names.flatten().take(MOST).filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, process(pid)?))).collect()
}

/// By proc_pid_stat(5): after the name, which may have anything in it, come state, parent, group and session.
fn process(pid: i32) -> Option<Process> {
    let mut text = Vec::new();
    let mut options = OpenOptions::new();
    let file: File = options.read(true).custom_flags(libc::O_NONBLOCK).open(format!("/proc/{pid}/stat")).ok()?;
    file.take(4096).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut words = text.rsplit_once(") ")?.1.split(' ').skip(1);
    let parent = words.next()?.parse().ok()?;
    Some(Process { parent, session: words.nth(1)?.parse().ok()? })
}
