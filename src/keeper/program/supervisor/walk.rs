//! A walk over a process and its descendants, in slices and within bounds.

use std::fs;
use std::time::Instant;

/// How often the children of a process are read at most while its threads come and go.
const MAX_READINGS: usize = 4;

/// A walk over a process and its descendants.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) found: Vec<i32>,
    /// The number of processes beyond the maximum.
    pub(super) beyond: usize,
    /// Selects which processes are visited if there are too many.
    from: usize,
    at: usize,
    /// The number of leading entries that are runsc and its children.
    pub(super) few: usize,
    pub(super) ticks: u64,
    pub(super) own: u64,
    /// The part of `own` that belongs to other processes than those.
    pub(super) others: u64,
}

impl Walk {
    pub(super) fn new(of: i32, from: usize) -> Self {
        let mut found = vec![of];
        found.extend(children(of));
        Self { few: found.len(), found, beyond: 0, from, at: 0, ticks: 0, own: 0, others: 0 }
    }

    /// Visits processes until the given time, at least one. Returns true once all that it is to visit were
    /// visited.
    pub(super) fn advance(&mut self, until: Instant, most: usize) -> bool {
        while let Some(pid) = self.found.get(self.at).copied() {
            // The children of the first were added by `new`.
            if self.at > 0 {
                let (all, room) = (children(pid), most.saturating_sub(self.found.len()));
                self.beyond += all.len().saturating_sub(room);
                self.found.extend(some_of(&all, room, self.from));
            }
            self.ticks += ticks(pid).unwrap_or(0);
            let own = own_memory(pid).unwrap_or(0);
            self.own += own;
            if self.at >= self.few {
                self.others += own;
            }
            self.at += 1;
            if Instant::now() >= until {
                break;
            }
        }
        self.at >= self.found.len()
    }

    /// The memory of all others, if those that weren't visited have as much on average as those that were.
    pub(super) fn all_others(&self) -> u64 {
        let seen = self.found.len().saturating_sub(self.few).max(1) as u128;
        let all = u128::from(self.others) * (seen + self.beyond as u128) / seen;
        u64::try_from(all).unwrap_or(u64::MAX)
    }
}

/// A number of them, evenly spread; `from` selects which.
fn some_of(all: &[i32], room: usize, from: usize) -> impl Iterator<Item = i32> {
    let count = all.len().min(room);
    (0..count).filter_map(move |index| all.get((from + index * all.len() / count) % all.len()).copied())
}

/// The children of all threads of a process; none if it has ended.
pub(super) fn children(of: i32) -> Vec<i32> {
    let tasks = format!("/proc/{of}/task");
    children_of_threads(
        || {
            let entries = fs::read_dir(&tasks).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
        },
        |thread| {
            let list = fs::read_to_string(format!("{tasks}/{thread}/children")).unwrap_or_default();
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
        },
    )
}

/// The children of threads that come and go. A thread that ends passes its children to another one, whose list
/// may have been read already, and can cut the list of threads short while that is read
/// (proc_tid_children(5)). So they are read again until no thread has come or gone meanwhile, within bounds.
fn children_of_threads(
    mut threads: impl FnMut() -> Vec<i32>,
    mut children: impl FnMut(i32) -> Vec<i32>,
) -> Vec<i32> {
    let (mut found, mut before) = (Vec::new(), threads());
    for _ in 0..MAX_READINGS {
        found.extend(before.iter().flat_map(|thread| children(*thread)));
        let after = threads();
        if after == before {
            break;
        }
        before = after;
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The processor time of a process and its reaped children, in clock ticks.
fn ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (name) state …". The name may contain anything, so look for the last ')'. utime, stime, cutime and
    // cstime are the 14th to the 17th field (proc_pid_stat(5)).
    let (_, rest) = stat.rsplit_once(") ")?;
    Some(rest.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum())
}

/// The private memory of a process, without files and shared memory, plus its page tables.
pub(super) fn own_memory(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    };
    Some(field("RssAnon:")? + field("VmPTE:").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_looked_at_are_spread_and_others_each_time() {
        let all: Vec<i32> = (0..10).collect();
        let of = |room, from| some_of(&all, room, from).collect::<Vec<_>>();
        assert_eq!(of(20, 0), all);
        assert_eq!(of(5, 0), [0, 2, 4, 6, 8]);
        assert_eq!(of(5, 3), [3, 5, 7, 9, 1]);
        assert_eq!(of(3, 1), [1, 4, 7]);
        assert_eq!(of(0, 1), [0_i32; 0]);
        assert_eq!(some_of(&[], 3, 1).count(), 0);
    }

    #[test]
    fn a_child_is_found_whose_parent_thread_ends_meanwhile() {
        // Thread 2 ends once the list of thread 1, which gets its child, has been read.
        let mut threads = [vec![1, 2], vec![1], vec![1]].into_iter();
        let mut lists = [(1, vec![10]), (2, vec![]), (1, vec![10, 20])].into_iter();
        let found = children_of_threads(
            || threads.next().unwrap(),
            |thread| {
                let (of, list) = lists.next().unwrap();
                assert_eq!(of, thread);
                list
            },
        );
        assert_eq!(found, [10, 20]);
        assert!(threads.next().is_none() && lists.next().is_none());
    }

    #[test]
    fn threads_that_never_stay_are_read_a_few_times() {
        let (mut next, mut readings) = (0, 0);
        let mut threads = || {
            next += 1;
            vec![next]
        };
        let found = children_of_threads(&mut threads, |thread| {
            readings += 1;
            vec![-thread]
        });
        assert_eq!((found.len(), readings), (MAX_READINGS, MAX_READINGS));
    }

    #[test]
    fn of_too_many_processes_those_that_are_seen_stand_for_all() {
        use std::io::Read;
        use std::process::{Command, Stdio};
        let many = "i=0; while [ $i -lt 40 ]; do cat & i=$((i + 1)); done; echo; wait";
        // They end with their input.
        let mut outer = Command::new("sh")
            .args(["-c", "exec 3<&0; sh -c \"exec <&3; $0\" <&3 & wait", &many.replace("cat", "cat <&3")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        outer.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let walked = |most| {
            let mut walk = Walk::new(i32::try_from(outer.id()).unwrap(), 7);
            while !walk.advance(Instant::now(), most) {}
            walk
        };
        let (all, some) = (walked(1000), walked(12));
        assert_eq!((all.found.len(), all.beyond, all.few), (42, 0, 2));
        assert_eq!((some.found.len(), some.beyond, some.at), (12, 30, 12));
        assert!(all.others > 0 && all.all_others() == all.others);
        assert!(some.all_others() == some.others * 4 && some.all_others() > all.others / 8);
        drop(outer.stdin.take());
        outer.wait().unwrap();
    }
}
