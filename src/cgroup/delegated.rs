//! Control groups of version 2: the delegated part of the tree.
//!
//! A group with controllers for its sub-groups may have no processes of its own. So the processes of a delegated group,
//! the host among them, move to a sub-group first, and the sandboxes' groups are made beside it. The manager of the tree
//! (systemd) reverts changes elsewhere, so it must have marked the part as delegated.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::unistd::{AccessFlags, access};

use crate::error::{Code, Error, Result};
use crate::sys::xattr;

/// How an ordinary user gets limits.
pub(crate) const REMEDY: &str = "start the program with: systemd-run --user --scope -p Delegate=yes PROGRAM (as root \
                                 without --user), or give its service Delegate=yes";

/// The sub-group for the host's own processes.
const HOST_GROUP: &str = "sbx-host";
/// How often to repeat the move, for processes that start meanwhile.
const MAX_MOVE_ROUNDS: u32 = 20;

/// What decides whether a part of the tree is delegated to this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    /// Whether systemd manages the tree.
    systemd: bool,
    /// Whether it has marked a group as delegated.
    marked: fn(&Path) -> bool,
}

impl Host {
    /// Of this machine.
    pub(super) fn read() -> Self {
        // sd_booted(3).
        Self { systemd: Path::new("/run/systemd/system").is_dir(), marked }
    }

    #[cfg(test)]
    pub(super) fn fake(systemd: bool, marked: fn(&Path) -> bool) -> Self {
        Self { systemd, marked }
    }

    /// Whether a group can be made there.
    pub(super) fn writable(self, group: &Path, remedy: &str) -> Result<()> {
        let files = [group.to_owned(), group.join("cgroup.procs")];
        for file in files {
            access(&file, AccessFlags::W_OK).map_err(|cause| {
                let text =
                    format!("the control group {} can't be written to ({cause}): {remedy}", group.display());
                Error::new(Code::Host, text)
            })?;
        }
        Ok(())
    }
}

/// systemd's mark: the extended attribute `user.delegate`, since version 251.
fn marked(group: &Path) -> bool {
    xattr::get(group, c"user.delegate").is_ok_and(|value| value == b"1")
}

/// The controllers that a group has.
pub(super) fn controllers(group: &Path) -> BTreeSet<String> {
    words(&group.join("cgroup.controllers")).unwrap_or_default()
}

fn words(file: &Path) -> io::Result<BTreeSet<String>> {
    Ok(fs::read_to_string(file)?.split_ascii_whitespace().map(str::to_owned).collect())
}

/// The group in which sub-groups may be made, found from the process's own.
pub(super) fn base(own: &Path, host: &Host) -> Result<PathBuf> {
    let parent = own.parent().filter(|parent| parent.join("cgroup.controllers").exists());
    let base = match parent {
        // Moved there by this library before, or put there by systemd (DelegateSubgroup=).
        Some(parent) if own.ends_with(HOST_GROUP) || ((host.marked)(parent) && !(host.marked)(own)) => parent,
        _ => own,
    };
    host.writable(base, REMEDY)?;
    // The tree's root can't be delegated.
    let is_root = !base.join("cgroup.type").exists();
    if host.systemd && !is_root && !(host.marked)(base) {
        let text = format!("the control group {} is systemd's and not delegated: {REMEDY}", base.display());
        return Err(Error::new(Code::Host, text));
    }
    Ok(base.to_owned())
}

/// Enables these controllers for sub-groups of the base. Returns whether the optional pids controller is enabled, too.
pub(super) fn enable(base: &Path, wanted: &[&str]) -> Result<bool> {
    static LOCK: Mutex<()> = Mutex::new(());
    let there = controllers(base);
    if let Some(missing) = wanted.iter().find(|wanted| !there.contains(**wanted)) {
        let text =
            format!("the control group {} is not given the {missing} controller: {REMEDY}", base.display());
        return Err(Error::new(Code::Host, text));
    }
    let _one = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let pids = there.contains("pids");
    let wanted = wanted.iter().copied().chain(pids.then_some("pids"));
    let control = base.join("cgroup.subtree_control");
    let enabled = words(&control).map_err(|cause| failed(&control, &cause))?;
    let more: Vec<_> =
        wanted.filter(|name| !enabled.contains(*name)).map(|name| format!("+{name}")).collect();
    if more.is_empty() {
        return Ok(pids);
    }
    let more = more.join(" ");
    let mut written = fs::write(&control, &more);
    for _ in 0..MAX_MOVE_ROUNDS {
        match &written {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            _ => break,
        }
        make_room(base)?;
        written = fs::write(&control, &more);
    }
    written.map(|()| pids).map_err(|cause| failed(&control, &cause))
}

/// Moves the processes of a group to a sub-group of it.
fn make_room(base: &Path) -> Result<()> {
    let host = base.join(HOST_GROUP);
    match fs::create_dir(&host) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&host, &error)),
        _ => {}
    }
    let processes = base.join("cgroup.procs");
    let target = host.join("cgroup.procs");
    for process in words(&processes).map_err(|cause| failed(&processes, &cause))? {
        if process == "0" {
            let text = format!("there are processes of another process namespace in {}", base.display());
            return Err(Error::new(Code::Host, text));
        }
        match fs::write(&target, &process) {
            // It has ended.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            moved => moved.map_err(|cause| failed(&target, &cause))?,
        }
    }
    Ok(())
}

pub(super) fn failed(path: &Path, cause: &io::Error) -> Error {
    Error::system(format!("the control group {}", path.display()), cause).with_code(Code::Host)
}
