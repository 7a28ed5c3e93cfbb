//! The namespaces of a sandbox: user, mount, ipc, and two of the network, G (gateway) and S (sandbox).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use super::{Failure, Step};
use crate::system;
use crate::wire::keeper::{Setup, Sysctl};

/// The namespaces that the keeper holds. It lives in G itself.
#[derive(Debug)]
pub(super) struct Namespaces {
    /// S, which runsc's processes enter.
    pub(super) sandbox: Option<OwnedFd>,
}

/// The result of [`enter`].
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) namespaces: Namespaces,
    /// The optional settings of G that could not be written.
    pub(super) refused: Vec<Vec<u8>>,
    /// For the library: NETLINK_ROUTE of G, two of NETLINK_NETFILTER of G, NETLINK_ROUTE of S, the namespace S.
    pub(super) fds: Vec<OwnedFd>,
}

/// Creates the namespaces and enters them.
pub(super) fn enter(setup: &Setup) -> Result<Entered, Failure> {
    // SAFETY: geteuid takes nothing.
    let user = unsafe { libc::geteuid() };
    // SAFETY: getegid takes nothing.
    let group = unsafe { libc::getegid() };
    let network = if setup.network { libc::CLONE_NEWNET } else { 0 };
    if setup.user_namespace {
        unshare(libc::CLONE_NEWUSER).step("user namespace")?;
        // Without this an unprivileged user may not write gid_map (user_namespaces(7)).
        fs::write("/proc/self/setgroups", "deny").step("/proc/self/setgroups")?;
        fs::write("/proc/self/uid_map", format!("0 {user} 1")).step("/proc/self/uid_map")?;
        fs::write("/proc/self/gid_map", format!("0 {group} 1")).step("/proc/self/gid_map")?;
    }
    unshare(libc::CLONE_NEWNS).step("mount namespace")?;
    unshare(libc::CLONE_NEWIPC).step("ipc namespace")?;
    if network == 0 {
        return Ok(Entered {
            namespaces: Namespaces { sandbox: None },
            refused: Vec::new(),
            fds: Vec::new(),
        });
    }
    unshare(network).step("network namespace G")?;
    let gateway = current()?;
    let route_g = netlink(libc::NETLINK_ROUTE).step("NETLINK_ROUTE in G")?;
    let filter_g = netlink(libc::NETLINK_NETFILTER).step("NETLINK_NETFILTER in G (nf_tables)")?;
    let log_g = netlink(libc::NETLINK_NETFILTER).step("NETLINK_NETFILTER in G (nf_tables)")?;
    let refused = write_settings(&setup.sysctls)?;

    unshare(network).step("network namespace S")?;
    let sandbox = current()?;
    let route_s = netlink(libc::NETLINK_ROUTE).step("NETLINK_ROUTE in S")?;

    // SAFETY: setns takes numbers.
    system::check(unsafe { libc::setns(gateway.as_raw_fd(), libc::CLONE_NEWNET) }).step("back into G")?;
    let copy = sandbox.try_clone().step("descriptor of S")?;
    let fds = vec![route_g, filter_g, log_g, route_s, copy];
    Ok(Entered { namespaces: Namespaces { sandbox: Some(sandbox) }, refused, fds })
}

/// Tests whether runsc could create as many namespaces again for its gofer and its sentry, and the process for
/// snapshots its own (the doctor's trial).
pub(super) fn try_more(network: bool) -> Result<(), Failure> {
    // Without G the process for snapshots has one, too.
    let network = if network { 1 } else { 3 };
    let kinds = [
        (libc::CLONE_NEWNS, "mount namespace", c"/proc/self/ns/mnt", 2),
        (libc::CLONE_NEWIPC, "ipc namespace", c"/proc/self/ns/ipc", 2),
        (libc::CLONE_NEWUTS, "uts namespace", c"/proc/self/ns/uts", 2),
        (libc::CLONE_NEWNET, "network namespace", c"/proc/self/ns/net", network),
    ];
    // Only namespaces that are held count against the limits.
    let mut held = Vec::new();
    for (kind, name, path, count) in kinds {
        for _ in 0..count {
            held.push(system::open(path, libc::O_RDONLY).step(name)?);
            unshare(kind).step(name)?;
        }
    }
    unshare(libc::CLONE_NEWPID).step("pid namespace")?;
    // A process in the first has to create the second.
    // SAFETY: the program has one thread, so its fork may do whatever it may.
    let child = system::check(unsafe { libc::fork() }).step("a process")?;
    if child == 0 {
        let errno = unshare(libc::CLONE_NEWPID).err().and_then(|error| error.raw_os_error()).unwrap_or(0);
        // SAFETY: _exit takes a number.
        unsafe { libc::_exit(errno) };
    }
    let mut status = 0;
    // SAFETY: the status is written to a live integer.
    system::check(unsafe { libc::waitpid(child, &raw mut status, 0) }).step("a process")?;
    match libc::WEXITSTATUS(status) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)).step("pid namespace"),
    }
}

pub(super) fn unshare(what: i32) -> io::Result<()> {
    // SAFETY: unshare takes a number; the program has one thread.
    system::check(unsafe { libc::unshare(what) }).map(|_| ())
}

fn current() -> Result<OwnedFd, Failure> {
    system::open(c"/proc/self/ns/net", libc::O_RDONLY).step("/proc/self/ns/net")
}

fn netlink(protocol: i32) -> io::Result<OwnedFd> {
    let socket = system::socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
    // Short acknowledgements with the kernel's error text (netlink(7)). Optional.
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let yes = 1_i32;
        let length = libc::socklen_t::try_from(size_of::<i32>()).unwrap_or(0);
        let value = (&raw const yes).cast();
        // SAFETY: the value is live and as long as said.
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_NETLINK, option, value, length) };
    }
    Ok(socket)
}

/// Writes the settings and reads them back. `/proc/sys` may be read-only (in many containers): that is an
/// error for mandatory settings, and the others are returned.
fn write_settings(settings: &[Sysctl]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut refused = Vec::new();
    for setting in settings {
        let path = format!("/proc/sys/{}", String::from_utf8_lossy(&setting.name));
        let written = fs::read(&path).and_then(|now| {
            if same(&now, &setting.value) {
                return Ok(());
            }
            fs::write(&path, &setting.value)?;
            match same(&fs::read(&path)?, &setting.value) {
                true => Ok(()),
                false => Err(io::Error::from_raw_os_error(libc::EROFS)),
            }
        });
        match written {
            Ok(()) => {}
            Err(_) if !setting.mandatory => refused.push(setting.name.clone()),
            Err(error) => return Err(error).step(path),
        }
    }
    Ok(refused)
}

/// Compares settings. The kernel separates several numbers by tabs and appends a newline.
fn same(one: &[u8], other: &[u8]) -> bool {
    let words = |text: &[u8]| -> Vec<Vec<u8>> {
        text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
    };
    words(one) == words(other)
}
