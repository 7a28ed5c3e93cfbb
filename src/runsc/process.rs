//! The devices and limits of this process, which gVisor's programs inherit.

use std::fmt;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};
use crate::sys::limits;

/// The host's devices that sandboxes and the library use.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// The sentry's memory is a file, and gVisor takes it in chunks of this size.
const MEMORY_FILE: u64 = 1 << 30;
/// The least address space for the sentry: with 2 GiB it doesn't start.
const ADDRESS_SPACE: u64 = 4 << 30;
/// The processes and threads of an idle sandbox.
const TASKS: u64 = 24;
/// The most processes that are examined to count a user's.
const COUNTED: usize = 65_536;

/// The remedy where too few processes and threads are allowed.
pub(crate) const MORE_PROCESSES: &str = "raise docker's --pids-limit, TasksMax= of a service, or ulimit -u";

/// Why this process can't create sandboxes, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    pub(crate) what: String,
    pub(crate) remedy: &'static str,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.remedy)
    }
}

/// The facts about this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) has_proc: bool,
    /// A missing device.
    pub(crate) no_device: Option<PathBuf>,
    pub(crate) file_size: u64,
    pub(crate) address_space: u64,
}

impl Default for Facts {
    /// Facts without an obstacle.
    fn default() -> Self {
        Self { has_proc: true, no_device: None, file_size: u64::MAX, address_space: u64::MAX }
    }
}

impl Facts {
    pub(crate) fn read() -> Self {
        let is_device =
            |path: &PathBuf| fs::metadata(path).is_ok_and(|there| there.file_type().is_char_device());
        Self {
            has_proc: Path::new("/proc/self/fd").exists(),
            no_device: DEVICES.iter().map(|name| Path::new("/dev").join(name)).find(|path| !is_device(path)),
            file_size: limits::file_size(),
            address_space: limits::address_space(),
        }
    }

    /// The obstacle, if there is one.
    pub(crate) fn judge(&self) -> Option<Obstacle> {
        let obstacle = |what: String, remedy| Some(Obstacle { what, remedy });
        if !self.has_proc {
            return obstacle("/proc is not mounted here".to_owned(), "mount -t proc proc /proc");
        }
        if let Some(device) = &self.no_device {
            let what = format!("{} is not there, or no device", device.display());
            return obstacle(what, "give this process a /dev with null, zero, full, random and urandom");
        }
        if self.file_size < MEMORY_FILE {
            let what = format!(
                "the limit of file size (ulimit -f, RLIMIT_FSIZE) is {} bytes, and gVisor's memory is a file of {MEMORY_FILE} \
                 at least",
                self.file_size
            );
            return obstacle(what, "ulimit -f unlimited, the hard limit too, before the program starts");
        }
        if self.address_space < ADDRESS_SPACE {
            let what = format!(
                "the limit of address space (ulimit -v, RLIMIT_AS) is {} bytes, in which gVisor's programs don't start",
                self.address_space
            );
            return obstacle(what, "ulimit -v unlimited");
        }
        None
    }
}

/// Fails if this process can't create sandboxes.
pub(crate) fn check() -> Result<()> {
    match Facts::read().judge() {
        None => Ok(()),
        Some(obstacle) => Err(Error::new(Code::Host, obstacle.to_string())),
    }
}

/// How many more processes and threads are allowed, and by which limit; `None` without a limit.
pub(crate) fn room() -> Option<(u64, String)> {
    let (groups, user) = (room_in_groups(), room_of_user());
    groups.into_iter().chain(user).min_by_key(|(room, _)| *room)
}

/// Whether that is too few for a sandbox.
pub(crate) fn judge_room(room: Option<&(u64, String)>) -> Option<Obstacle> {
    let (room, by) = room.filter(|(room, _)| *room < TASKS)?;
    Some(Obstacle {
        what: format!("{by} allows {room} more processes and threads; a sandbox takes about 30"),
        remedy: MORE_PROCESSES,
    })
}

/// By this process's pids control group and those above it, as far as they are visible.
fn room_in_groups() -> Option<(u64, String)> {
    let lines = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut rooms = Vec::new();
    for line in lines.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "pids") => Path::new("/sys/fs/cgroup/pids"),
            _ => continue,
        };
        let group = root.join(path.trim_start_matches('/'));
        for group in group.ancestors().take_while(|group| group.starts_with(root)) {
            let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
            if let (Some(most), Some(now)) = (number("pids.max"), number("pids.current")) {
                rooms.push((most.saturating_sub(now), format!("the control group {}", group.display())));
            }
        }
    }
    rooms.into_iter().min_by_key(|(room, _)| *room)
}

/// By the user's limit. The machine's root has none; a container's root may have one.
fn room_of_user() -> Option<(u64, String)> {
    let most = limits::processes();
    let user = nix::unistd::getuid();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if most == u64::MAX || user.is_root() && is_machines_root(&map) {
        return None;
    }
    let line = |text: &str, name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let threads = |status: &str| {
        (line(status, "Uid:") == Some(u64::from(user.as_raw()))).then(|| line(status, "Threads:")).flatten()
    };
    let is_process =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit);
    let all = fs::read_dir("/proc").ok()?.flatten().filter(is_process).take(COUNTED);
    let now: u64 = all
        .filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok())
        .filter_map(|status| threads(&status))
        .sum();
    Some((most.saturating_sub(now), "the user's limit (ulimit -u, RLIMIT_NPROC)".to_owned()))
}

/// Whether uid 0 of a user namespace is uid 0 of the one above it, by its map.
fn is_machines_root(map: &str) -> bool {
    let mut numbers = map.split_ascii_whitespace();
    (numbers.next(), numbers.next()) == (Some("0"), Some("0"))
}

/// Whether this process's root is a directory within a file system: then no user namespace can be made
/// (user_namespaces(7)).
pub(crate) fn is_in_chroot() -> bool {
    fs::read_to_string("/proc/self/mounts").is_ok_and(|mounts| has_no_root(&mounts))
}

pub(super) fn has_no_root(mounts: &str) -> bool {
    !mounts.is_empty() && !mounts.lines().any(|line| line.split(' ').nth(1) == Some("/"))
}

/// Adds the limit to gVisor's error of a failed start.
pub(crate) fn explain(said: &str) -> &'static str {
    let said = said.to_ascii_lowercase();
    if said.contains("no space left on device")
        && (said.contains("gofer process") || said.contains("sandbox process"))
    {
        return ": too few namespaces are allowed here: raise user.max_pid_namespaces, max_net_namespaces, \
                max_ipc_namespaces, max_uts_namespaces and max_mnt_namespaces (sysctl)";
    }
    let threads =
        ["resource temporarily unavailable", "failed to create new os thread", "pthread_create failed"];
    if threads.iter().any(|words| said.contains(words)) {
        return ": too few processes and threads are allowed here: raise docker's --pids-limit, TasksMax= of a service, or \
                ulimit -u";
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_named_with_its_remedy() {
        assert_eq!(Facts::default().judge(), None);
        assert_eq!(
            Facts { file_size: MEMORY_FILE, address_space: 8 << 30, ..Facts::default() }.judge(),
            None
        );
        let cases = [
            (Facts { has_proc: false, ..Facts::default() }, "/proc is not mounted", "mount -t proc"),
            (Facts { no_device: Some("/dev/full".into()), ..Facts::default() }, "/dev/full", "/dev"),
            (Facts { file_size: MEMORY_FILE - 1, ..Facts::default() }, "RLIMIT_FSIZE", "ulimit -f"),
            (Facts { address_space: 400_000 << 10, ..Facts::default() }, "RLIMIT_AS", "ulimit -v"),
        ];
        for (facts, what, remedy) in cases {
            let obstacle = facts.judge().unwrap();
            assert!(obstacle.what.contains(what) && obstacle.remedy.contains(remedy), "{obstacle}");
        }
        assert_eq!(judge_room(None), None);
        assert_eq!(judge_room(Some(&(TASKS, "x".into()))), None);
        assert!(judge_room(Some(&(9, "the control group /x".into()))).unwrap().what.contains("/x allows 9"));
    }

    #[test]
    fn a_root_that_is_no_mount_is_a_chroot() {
        assert!(!has_no_root("/dev/vda / ext4 rw 0 0\nproc /proc proc rw 0 0\n"));
        assert!(has_no_root("proc /proc proc rw 0 0\n"));
        assert!(!has_no_root(""), "without /proc nothing is known");
        assert!(!is_in_chroot());
    }

    #[test]
    fn what_gvisor_says_is_explained() {
        let gofer = "creating container: cannot create gofer process: fork/exec: no space left on device";
        assert!(explain(gofer).contains("max_pid_namespaces"));
        assert!(
            explain("runtime: failed to create new OS thread (have 9 already; errno=11)")
                .contains("pids-limit")
        );
        assert_eq!(explain("open /x: no space left on device"), "");
    }

    #[test]
    fn root_of_a_container_is_told_from_the_machines() {
        assert!(is_machines_root("         0          0 4294967295\n"));
        assert!(!is_machines_root("         0      54321          1\n") && !is_machines_root(""));
    }

    #[test]
    fn this_process() {
        check().unwrap();
        assert!(judge_room(room().as_ref()).is_none());
    }
}
