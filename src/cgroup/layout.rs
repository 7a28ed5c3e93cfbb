//! Which control groups this process is in, and where they are mounted (cgroups(7), proc_pid_mountinfo(5)).

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::sys::mountinfo::path;

/// The directories of this process's own control groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Of version 2.
    pub(super) unified: Option<PathBuf>,
    /// Of version 1, by controller.
    legacy: Vec<(String, PathBuf)>,
}

/// A mounted hierarchy: its root within the hierarchy, where it is mounted, and its controllers, which version 2
/// doesn't name there.
struct Mount {
    root: PathBuf,
    point: PathBuf,
    controllers: Option<Vec<String>>,
}

impl Layout {
    /// Of this process.
    pub(super) fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/cgroup")?, &fs::read("/proc/self/mountinfo")?))
    }

    /// From the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`. What isn't mounted where it could be seen
    /// is left out.
    pub(super) fn parse(own: &str, mountinfo: &[u8]) -> Self {
        let mounts: Vec<Mount> = mountinfo.split(|byte| *byte == b'\n').filter_map(mount).collect();
        let mut layout = Self::default();
        for line in own.lines() {
            // "4:memory:/some/path"; version 2 has "0::/some/path".
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            if controllers.is_empty() {
                let mut unified = mounts.iter().filter(|mount| mount.controllers.is_none());
                layout.unified = unified.find_map(|mount| mount.directory(path));
            }
            for controller in controllers.split(',').filter(|name| !name.is_empty()) {
                let mut those = mounts.iter().filter(|mount| mount.has(controller));
                if let Some(directory) = those.find_map(|mount| mount.directory(path)) {
                    layout.legacy.push((controller.to_owned(), directory));
                }
            }
        }
        layout
    }

    /// The directory of a controller of version 1.
    pub(super) fn of(&self, controller: &str) -> Option<&Path> {
        self.legacy.iter().find_map(|(name, path)| (name == controller).then_some(path.as_path()))
    }
}

impl Mount {
    fn has(&self, controller: &str) -> bool {
        self.controllers.as_ref().is_some_and(|all| all.iter().any(|name| name == controller))
    }

    /// Where a path of the hierarchy is to be seen, if it is below what is mounted.
    fn directory(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(&self.root).ok()?;
        // A process outside of its namespace's part of the hierarchy has a path with ".." in it.
        below
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
            .then(|| self.point.join(below).components().collect())
    }
}

/// A line of mountinfo, if it is of a control group:
/// "35 31 0:32 /root /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory".
fn mount(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let controllers = match *fields.get(separator + 1)? {
        b"cgroup2" => None,
        b"cgroup" => {
            let options = String::from_utf8_lossy(fields.get(separator + 3)?);
            Some(options.split(',').map(str::to_owned).collect())
        }
        _ => return None,
    };
    Some(Mount { root: path(fields.get(3)?), point: path(fields.get(4)?), controllers })
}
