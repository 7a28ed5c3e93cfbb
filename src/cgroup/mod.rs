//! Control groups: where the kernel holds a sandbox's limits of memory and processor.
//!
//! A sandbox's groups are below the host process's own, so that the host's limits apply to its sandboxes too.
//! This module locates the hierarchy and says what is written to a group; the keeper makes the groups, puts runsc in,
//! and removes them, because it outlives the host. Version 1, version 2 and hybrid layouts (where a controller belongs to
//! one of them) are all still in use.

mod delegated;
mod layout;
mod stale;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::Limits;
use crate::error::{Code, Error, Result};
use crate::keeper::wire::keeper::{Group, GroupSetting};
pub(crate) use delegated::REMEDY;
use delegated::{Host, failed};
use layout::Layout;

const REMEDY_OF_VERSION_1: &str = "groups of version 1 are root's: run as root, or boot with \
                                   systemd.unified_cgroup_hierarchy=1 and use Delegate=yes";

/// The most host tasks for one task inside, and gVisor's own tasks: a second limit behind the one that gVisor enforces.
const TASKS: (u64, u64) = (4, 512);
/// The period of the processor time quota, in microseconds.
const PERIOD: u64 = 100_000;

/// The directories of one sandbox's groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// The directories in which the keeper makes them.
    pub(crate) parents: Vec<OwnedFd>,
    /// Their own paths.
    paths: Vec<PathBuf>,
}

impl Groups {
    /// Removes the groups that a killed keeper has left; a keeper that ends normally removes its own. Returns whether all
    /// are gone: a group can't be removed while processes are still ending in it.
    pub(crate) fn remove(&mut self) -> bool {
        self.paths.retain(|path| match fs::remove_dir(path) {
            Ok(()) => {
                log::info!("the control group {} was left by its keeper; removed", path.display());
                false
            }
            Err(error) => error.raw_os_error() == Some(libc::EBUSY),
        });
        self.paths.is_empty()
    }

    /// Whether there are none to remove.
    pub(crate) fn are_gone(&self) -> bool {
        self.paths.is_empty()
    }

    /// Leaves them to the next sandbox that is created in the same place.
    pub(crate) fn give_up(&mut self) {
        if let Some(path) = self.paths.first() {
            log::error!("the control group {} can't be removed: something hangs in it", path.display());
            stale::look_again();
            self.paths.clear();
        }
    }
}

/// Where limits can be enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// Of version 2: the directory that the groups are made in.
    Unified(PathBuf),
    /// Of version 1: one directory for each controller, of memory, processor and processes (which may be missing).
    Legacy { memory: Option<PathBuf>, cpu: Option<PathBuf>, pids: Option<PathBuf> },
}

/// Finds where limits can be enforced for this process, or why they can't. Changes nothing.
pub(crate) fn find() -> Result<Hierarchy> {
    let layout = Layout::read().map_err(|cause| Error::system("/proc/self/cgroup and its mounts", &cause))?;
    locate(&layout, &Host::read())
}

/// Which limits can be enforced for this process, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Possible {
    /// Where.
    pub(crate) place: String,
    /// "memory", "cpu", or both.
    pub(crate) held: Vec<&'static str>,
    /// Why none can be.
    pub(crate) refusal: Option<String>,
    /// The remedy.
    pub(crate) remedy: &'static str,
}

impl Possible {
    /// For this process, now.
    pub(crate) fn read() -> Self {
        let known = ["memory", "cpu"];
        match find() {
            Ok(Hierarchy::Unified(base)) => {
                let there = delegated::controllers(&base);
                let held = known.into_iter().filter(|name| there.contains(*name)).collect();
                Self { place: format!("version 2, in {}", base.display()), held, refusal: None, remedy: "" }
            }
            Ok(Hierarchy::Legacy { memory, cpu, .. }) => {
                let places = known.into_iter().zip([memory, cpu]);
                let there: Vec<_> = places.filter_map(|(name, place)| Some((name, place?))).collect();
                let shown: Vec<_> = there.iter().map(|(_, place)| place.display().to_string()).collect();
                let held = there.iter().map(|(name, _)| *name).collect();
                Self {
                    place: format!("version 1, in {}", shown.join(" and ")),
                    held,
                    refusal: None,
                    remedy: "",
                }
            }
            Err(error) => {
                let known = [REMEDY, REMEDY_OF_VERSION_1].into_iter();
                let ends = known.map(|remedy| (remedy, error.message().strip_suffix(remedy)));
                let found =
                    ends.filter_map(|(remedy, rest)| Some((remedy, rest?.trim_end_matches(": ")))).next();
                let (remedy, why) = found.unwrap_or(("", error.message()));
                Self { refusal: Some(why.to_owned()), remedy, ..Self::default() }
            }
        }
    }
}

fn locate(layout: &Layout, host: &Host) -> Result<Hierarchy> {
    if let Some(own) = layout.unified.as_deref().filter(|own| delegated::controllers(own).contains("memory"))
    {
        return delegated::base(own, host).map(Hierarchy::Unified);
    }
    let (memory, cpu, pids) = (layout.of("memory"), layout.of("cpu"), layout.of("pids"));
    if memory.is_none() && cpu.is_none() {
        let text = match &layout.unified {
            Some(own) => format!("the control group {} is given no memory controller", own.display()),
            None => "no control groups are mounted (/sys/fs/cgroup)".to_owned(),
        };
        return Err(Error::new(Code::Host, text));
    }
    for own in [memory, cpu].into_iter().flatten() {
        host.writable(own, REMEDY_OF_VERSION_1)?;
    }
    let pids = pids.filter(|own| host.writable(own, "").is_ok());
    let owned = |path: Option<&Path>| path.map(Path::to_owned);
    Ok(Hierarchy::Legacy { memory: owned(memory), cpu: owned(cpu), pids: owned(pids) })
}

/// The groups for these limits: the requests for the keeper, and the directories. Empty if no limit needs a group.
pub(crate) fn plan(name: &str, limits: &Limits) -> Result<(Vec<Group>, Groups)> {
    if limits.memory.is_none() && limits.cpu.is_none() {
        return Ok(Default::default());
    }
    let hierarchy = find()?;
    let plans = match &hierarchy {
        Hierarchy::Unified(base) => {
            let wanted = [("memory", limits.memory.is_some()), ("cpu", limits.cpu.is_some())];
            let wanted: Vec<_> = wanted.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| *name).collect();
            let pids = delegated::enable(base, &wanted)?;
            vec![(base.as_path(), true, unified(limits, pids))]
        }
        Hierarchy::Legacy { memory, cpu, pids } => {
            legacy(limits, memory.as_deref(), cpu.as_deref(), pids.as_deref())?
        }
    };
    let (mut requests, mut made) = (Vec::new(), Groups::default());
    for (parent, is_unified, settings) in plans {
        stale::collect_once(parent);
        let memory = settings.iter().any(|setting| setting.file.starts_with(b"memory."));
        requests.push(Group { name: name.as_bytes().to_vec(), unified: is_unified, memory, settings });
        let flags = libc::O_DIRECTORY | libc::O_CLOEXEC;
        let opened = File::options().read(true).custom_flags(flags).open(parent);
        made.parents.push(opened.map_err(|cause| failed(parent, &cause))?.into());
        made.paths.push(parent.join(name));
    }
    Ok((requests, made))
}

fn setting(file: &str, value: impl ToString, optional: bool) -> GroupSetting {
    GroupSetting { file: file.as_bytes().to_vec(), value: value.to_string().into_bytes(), optional }
}

fn tasks(limits: &Limits) -> u64 {
    u64::from(limits.processes) * TASKS.0 + TASKS.1
}

fn quota(millicpus: u32) -> u64 {
    u64::from(millicpus) * PERIOD / 1000
}

fn unified(limits: &Limits, pids: bool) -> Vec<GroupSetting> {
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory {
        settings.push(setting("memory.max", bytes, false));
        // Not there without accounting of swap, or without swap.
        settings.push(setting("memory.swap.max", 0, true));
        // When one process of a sandbox is killed for memory, all are: the sandbox can't go on without it.
        settings.push(setting("memory.oom.group", 1, false));
    }
    if let Some(millicpus) = limits.cpu {
        settings.push(setting("cpu.max", format!("{} {PERIOD}", quota(millicpus)), false));
    }
    if pids {
        settings.push(setting("pids.max", tasks(limits), false));
    }
    settings
}

type Planned<'a> = (&'a Path, bool, Vec<GroupSetting>);

fn legacy<'a>(
    limits: &Limits,
    memory: Option<&'a Path>,
    cpu: Option<&'a Path>,
    pids: Option<&'a Path>,
) -> Result<Vec<Planned<'a>>> {
    let missing = |what: &str| {
        let text =
            format!("no control group of the {what} controller is mounted, so that {what} can't be limited");
        Error::new(Code::Host, text)
    };
    let mut plans = Vec::new();
    if let Some(bytes) = limits.memory {
        let settings = vec![
            setting("memory.limit_in_bytes", bytes, false),
            // With swap; not there without accounting of swap.
            setting("memory.memsw.limit_in_bytes", bytes, true),
        ];
        plans.push((memory.ok_or_else(|| missing("memory"))?, false, settings));
    }
    if let Some(millicpus) = limits.cpu {
        let settings = vec![
            setting("cpu.cfs_period_us", PERIOD, false),
            setting("cpu.cfs_quota_us", quota(millicpus), false),
        ];
        plans.push((cpu.ok_or_else(|| missing("cpu"))?, false, settings));
    }
    if let Some(pids) = pids {
        plans.push((pids, false, vec![setting("pids.max", tasks(limits), false)]));
    }
    // Controllers that are mounted together have one directory.
    let mut together: Vec<Planned<'a>> = Vec::new();
    for (path, unified, settings) in plans {
        match together.iter_mut().find(|(other, ..)| *other == path) {
            Some((.., all)) => all.extend(settings),
            None => together.push((path, unified, settings)),
        }
    }
    Ok(together)
}

#[cfg(test)]
mod tests;
