//! The checks: what the host has, what it lacks, and the remedy.
//!
//! The checks are pure functions of texts and numbers, which [`Host::read`] gathers. Whether a namespace can really be
//! made shows only by trying, which a multi-threaded host can't: the keeper tries, and the result is a [`LiveProbe`].
//! If there is one it decides; settings then only explain a refusal.
//!
//! One file: each check is a few lines, and all read the same [`Host`].

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, Statvfs, statvfs};
use nix::unistd::{AccessFlags, access};

use super::place::{Environment, Place};
use super::report::{Finding, Report};
use crate::cgroup::Possible;
use crate::error::{Code, Error};
use crate::limits;
use crate::runsc::probe::{INSTALL, Runsc, parse_kernel};
use crate::runsc::process;

/// The oldest kernel that has every system call which sandboxes need: mount_setattr(2).
const KERNEL_MIN: (u32, u32) = (5, 12);

/// The oldest kernel that this is tested on.
const KERNEL_TESTED: (u32, u32) = (6, 1);

/// The descriptors of a sandbox with one port, without its connections.
const DESCRIPTORS_A_SANDBOX: u64 = (limits::SANDBOX + limits::LISTENER + limits::KEPT) as u64;

/// Fewer sandboxes than this are reported as limited.
const SANDBOXES_EXPECTED: u64 = 64;

/// The outcome of the keeper's trial: `None` where it was not tried (because an earlier step failed), else success
/// or the errno.
#[derive(Clone, Debug, Default)]
pub(crate) struct LiveProbe {
    /// Whether the keeper could be started at all.
    pub(crate) keeper: Option<Result<(), i32>>,
    pub(crate) user_namespace: Option<Result<(), i32>>,
    /// Its user and group in the user namespace.
    pub(crate) user_mapping: Option<Result<(), i32>>,
    /// All others, as many as a sandbox takes; else the one that failed.
    pub(crate) namespaces: Option<Result<(), (String, i32)>>,
    /// A root of mounts, and the step that failed.
    pub(crate) mounts: Option<Result<(), (String, i32)>>,
    pub(crate) veth: Option<Result<(), i32>>,
    pub(crate) nf_tables: Option<Result<(), i32>>,
    pub(crate) tproxy: Option<Result<(), i32>>,
    pub(crate) refusals: Option<Result<(), i32>>,
    pub(crate) memfd_exec: Option<Result<(), i32>>,
    pub(crate) proc_sys_writable: Option<Result<(), i32>>,
}

/// The facts about a host, as texts of /proc and /sys; `None` where there is no such file.
#[derive(Clone, Debug, Default)]
struct Host {
    release: String,
    max_user_namespaces: Option<String>,
    unprivileged_userns_clone: Option<String>,
    apparmor_restrict: Option<String>,
    apparmor_profile: Option<String>,
    self_status: String,
    memfd_noexec: Option<String>,
    /// Modules that are loaded or can be, among those asked for.
    modules: Vec<&'static str>,
    self_mounts: String,
    limits: Possible,
    ipv6_routes: Option<String>,
    nofile: (u64, u64),
    process: process::Facts,
    /// How many more processes there may be, and by what.
    room: Option<(u64, String)>,
    is_root: bool,
    is_in_chroot: bool,
    place: Place,
    /// Why the runsc that was found can't start sandboxes on images, or where they would be.
    images: Images,
    /// Why the helper programs beside it can't be used.
    no_sidecars: Option<Error>,
}

/// What sandboxes on images need.
#[derive(Clone, Debug, Default)]
enum Images {
    /// There is no runsc.
    #[default]
    Unknown,
    /// The directory of the store, in which files can be made.
    In(PathBuf),
    /// It is named so, and that directory, or what would be made into it, can't be written to.
    ReadOnly(PathBuf, i32),
    /// It is on a file system that is mounted noexec.
    NoExec(PathBuf),
    /// No directory is named.
    Nowhere(String),
    /// Why this runsc can't start them.
    TooOld(String),
}

const MODULES: &[&str] = &["veth", "nf_tables", "nft_tproxy"];

impl Host {
    fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let release = read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        Self {
            max_user_namespaces: read("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restrict: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            apparmor_profile: read("/proc/self/attr/apparmor/current"),
            self_status: read("/proc/self/status").unwrap_or_default(),
            memfd_noexec: read("/proc/sys/vm/memfd_noexec"),
            modules: modules(&release),
            self_mounts: read("/proc/self/mounts").unwrap_or_default(),
            limits: Possible::read(),
            ipv6_routes: read("/proc/net/ipv6_route"),
            nofile: nofile(&read("/proc/self/limits").unwrap_or_default()),
            process: process::Facts::read(),
            room: process::room(),
            is_root: nix::unistd::geteuid().is_root(),
            is_in_chroot: process::is_in_chroot(),
            place: Place::Machine,
            images: Images::Unknown,
            no_sidecars: None,
            release,
        }
    }
}

/// The soft and the hard limit of descriptors.
fn nofile(limits: &str) -> (u64, u64) {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let mut numbers = line.split_ascii_whitespace().map(|text| text.parse().unwrap_or(u64::MAX));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Which of [`MODULES`] the kernel has, built in, loaded, or on disk.
fn modules(release: &str) -> Vec<&'static str> {
    let directory = Path::new("/lib/modules").join(release);
    let lists: String = ["modules.builtin", "modules.dep"]
        .iter()
        .filter_map(|list| fs::read_to_string(directory.join(list)).ok())
        .collect();
    let loaded = fs::read_to_string("/proc/modules").unwrap_or_default();
    MODULES
        .iter()
        .copied()
        .filter(|name| {
            lists.contains(&format!("/{name}.ko"))
                || loaded.lines().any(|line| line.split(' ').next() == Some(name))
                || Path::new("/sys/module").join(name).exists()
        })
        .collect()
}

/// Looks at this host. `runsc` is what locating it gave, `images` the directory of the store.
pub(super) fn examine(
    runsc: Result<&Runsc, &Error>,
    images: &Result<PathBuf, Error>,
    environment: &Environment,
    live: Option<LiveProbe>,
) -> Report {
    let images = match (runsc.map(Runsc::check_images), images) {
        (Err(_), _) => Images::Unknown,
        (Ok(Err(error)), _) => Images::TooOld(error.message().to_owned()),
        (Ok(Ok(())), Err(error)) => Images::Nowhere(error.message().to_owned()),
        (Ok(Ok(())), Ok(directory)) => store(directory),
    };
    let sidecars = runsc.map_or(Ok(None), Runsc::sidecars);
    let helpers = match sidecars {
        Ok(Some(_)) => ", with its helpers in gvisor-bin",
        Ok(None) | Err(_) => "",
    };
    let runsc = runsc.map(|runsc| format!("{} at {}{helpers}", runsc.version(), runsc.path().display()));
    let host = Host::read();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let place = Place::find(environment, &host.release, &groups);
    let host = Host { place, images, no_sidecars: sidecars.err(), ..host };
    judge(&host, runsc, live.as_ref())
}

/// Whether the store can be made or written to: the directory, or the nearest above it that exists.
fn store(directory: &Path) -> Images {
    let nearest = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    let is_noexec = |found: Statvfs| found.flags().contains(FsFlags::ST_NOEXEC);
    match access(nearest, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) if statvfs(nearest).is_ok_and(is_noexec) => Images::NoExec(directory.to_owned()),
        Ok(()) => Images::In(directory.to_owned()),
        Err(errno) => Images::ReadOnly(directory.to_owned(), errno as i32),
    }
}

fn judge(host: &Host, runsc: Result<String, &Error>, live: Option<&LiveProbe>) -> Report {
    let none = LiveProbe::default();
    let live = live.unwrap_or(&none);
    Report::new(vec![
        place(host.place),
        kernel_version(&host.release),
        architecture(std::env::consts::ARCH),
        user_namespaces(host, live),
        seccomp(host, live),
        namespaces(live),
        mounts(host, live),
        module("veth", "veth", host, live.veth),
        module("nf_tables", "nf_tables", host, live.nf_tables),
        module("tproxy", "nft_tproxy", host, live.tproxy),
        refusals(live),
        memfd(host, live),
        proc_sys(host, live),
        engine(host, runsc),
        images(&host.images),
        cgroups(&host.limits, host.place),
        ipv6(host.ipv6_routes.as_deref()),
        descriptors(host.nofile),
        process(host, live),
    ])
}

fn place(place: Place) -> Finding {
    const NAME: &str = "place";
    match place {
        Place::Wsl(1) => Finding::missing(NAME, place.name(), "wsl --set-version DISTRIBUTION 2"),
        _ => Finding::ok(NAME, place.name()),
    }
}

fn kernel_version(release: &str) -> Finding {
    let detail = format!("Linux {release}");
    let (major, minor) = KERNEL_TESTED;
    match parse_kernel(release) {
        (0, _) => Finding::limited("kernel", format!("can't read the version in {release:?}"), ""),
        version if version >= KERNEL_TESTED => Finding::ok("kernel", detail),
        version if version >= KERNEL_MIN => Finding::limited(
            "kernel",
            format!("{detail}: older than the {major}.{minor} that sandboxes are tested on"),
            "",
        ),
        _ => Finding::missing("kernel", detail, format!("boot Linux {major}.{minor} or newer")),
    }
}

fn architecture(name: &str) -> Finding {
    match name {
        "x86_64" => Finding::ok("architecture", name),
        "aarch64" => Finding::limited("architecture", "aarch64: compiled, not tested", ""),
        _ => Finding::missing("architecture", name, "use an x86-64 machine"),
    }
}

fn user_namespaces(host: &Host, live: &LiveProbe) -> Finding {
    const NAME: &str = "user_namespaces";
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.trim().parse::<i64>().ok());
    let confined = host.apparmor_profile.as_deref().is_none_or(|profile| profile.trim() == "unconfined");
    let cause = if number(&host.max_user_namespaces) == Some(0) {
        Some(("user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces=15000"))
    } else if host.max_user_namespaces.is_none() {
        Some(("the kernel has no user namespaces", "boot a kernel with CONFIG_USER_NS=y"))
    } else if number(&host.unprivileged_userns_clone) == Some(0) {
        Some(("kernel.unprivileged_userns_clone is 0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"))
    } else if number(&host.apparmor_restrict) == Some(1) && confined {
        Some((
            "AppArmor restricts them to programs with a profile",
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or install the keeper with a profile \
             that has `userns,` and name it in SBX_KEEPER",
        ))
    } else {
        None
    };
    if !host.process.has_proc {
        return Finding::missing(NAME, "not tried: /proc is not mounted here", "mount -t proc proc /proc");
    }
    match (live.user_namespace, cause) {
        (Some(Ok(())), cause) => match (live.user_mapping, cause) {
            (Some(Err(error)), Some((why, remedy))) => {
                Finding::missing(NAME, format!("{}; {why}", refused(error)), remedy)
            }
            (Some(Err(error)), None) if host.is_root => Finding::missing(
                NAME,
                format!("{}; uid 0 needs CAP_SETFCAP to map itself (user_namespaces(7))", refused(error)),
                "run as an ordinary user, or add that capability (docker: --cap-add SETFCAP)",
            ),
            (Some(Err(error)), None) => Finding::missing(
                NAME,
                format!("its user can't be mapped: {}", refused(error)),
                host.place.allow_namespaces(),
            ),
            _ => Finding::ok(NAME, "made one"),
        },
        (Some(Err(error)), _) if host.is_in_chroot => Finding::missing(
            NAME,
            format!(
                "{}; this process is in a chroot, where there are none (user_namespaces(7))",
                refused(error)
            ),
            "start it outside of the chroot, or change its root by pivot_root",
        ),
        (Some(Err(error)), Some((why, remedy))) => {
            Finding::missing(NAME, format!("{}; {why}", refused(error)), remedy)
        }
        (Some(Err(error)), None) => Finding::missing(NAME, refused(error), host.place.allow_namespaces()),
        // Root may make them whatever the two settings for ordinary users are.
        (None, Some((why, remedy))) => Finding::missing(NAME, why, remedy),
        (None, None) => Finding::ok(NAME, "no setting forbids them (not tried)"),
    }
}

fn seccomp(host: &Host, live: &LiveProbe) -> Finding {
    const NAME: &str = "seccomp";
    let mode = host.self_status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map(str::trim);
    match (mode, live.user_namespace) {
        (None | Some("0"), _) => Finding::ok(NAME, "no filter on this process"),
        (Some(_), Some(Ok(()))) if matches!(live.mounts, Some(Err(_))) => {
            Finding::limited(NAME, "a filter; the finding `mounts` says what is refused", "")
        }
        (Some(_), Some(Ok(()))) => Finding::ok(NAME, "a filter that allows what is needed"),
        (Some(_), Some(Err(_))) if host.is_in_chroot => {
            Finding::limited(NAME, "a filter, and a chroot that forbids user namespaces", "")
        }
        (Some(_), Some(Err(error))) => {
            Finding::missing(NAME, format!("a filter; {}", refused(error)), host.place.allow_namespaces())
        }
        (Some(_), None) => Finding::limited(
            NAME,
            "a filter is on this process; docker's default one forbids user namespaces (not tried)",
            host.place.allow_namespaces(),
        ),
    }
}

fn namespaces(live: &LiveProbe) -> Finding {
    const NAME: &str = "namespaces";
    match &live.namespaces {
        Some(Ok(())) => Finding::ok(NAME, "made those of the network, mounts, processes, IPC and names"),
        Some(Err((step, error))) => {
            let kinds =
                [("mount", "mnt"), ("network", "net"), ("pid", "pid"), ("ipc", "ipc"), ("uts", "uts")];
            let kind = kinds.iter().find(|(name, _)| step.starts_with(name));
            let remedy = kind.map(|(_, kind)| format!("sudo sysctl -w user.max_{kind}_namespaces=15000"));
            Finding::missing(NAME, format!("{step}: {}", refused(*error)), remedy.unwrap_or_default())
        }
        None => Finding::limited(NAME, "not tried", ""),
    }
}

fn mounts(host: &Host, live: &LiveProbe) -> Finding {
    const NAME: &str = "mounts";
    match &live.mounts {
        Some(Ok(())) => Finding::ok(NAME, "made a root of mounts"),
        // The seccomp rules of RestrictSUIDSGID= answer so.
        Some(Err((step, libc::ENOSYS))) if parse_kernel(&host.release) >= KERNEL_MIN => Finding::missing(
            NAME,
            format!("{step}: {}; a filter refuses openat2 or mount_setattr", refused(libc::ENOSYS)),
            "in a service of systemd, use User= instead of DynamicUser=, which implies RestrictSUIDSGID=; in a \
             container, a filter that allows what examples/deploy/seccomp.json allows",
        ),
        Some(Err((step, libc::ENOSYS))) => Finding::missing(
            NAME,
            format!("{step}: {}", refused(libc::ENOSYS)),
            "fix the finding `kernel` first",
        ),
        Some(Err((step, error))) => {
            Finding::missing(NAME, format!("{step}: {}", refused(*error)), host.place.allow_namespaces())
        }
        None => Finding::limited(NAME, "not tried", ""),
    }
}

fn module(name: &'static str, module: &'static str, host: &Host, tried: Option<Result<(), i32>>) -> Finding {
    let remedy =
        format!("sudo modprobe {module} && echo {module} | sudo tee -a /etc/modules-load.d/sbx.conf");
    match tried {
        Some(Ok(())) => Finding::ok(name, "made one"),
        Some(Err(error)) => Finding::missing(name, refused(error), remedy),
        None if host.modules.contains(&module) => Finding::ok(name, format!("{module} is there (not tried)")),
        // A kernel without modules shows none of what is built in.
        None => Finding::limited(name, format!("no trace of {module} (not tried)"), remedy),
    }
}

fn refusals(live: &LiveProbe) -> Finding {
    const NAME: &str = "refusals";
    match live.refusals {
        Some(Ok(())) => Finding::ok(NAME, "packets that a gateway refuses are logged"),
        Some(Err(error)) => Finding::limited(
            NAME,
            format!("{}: packets that a gateway refuses are counted, but cause no event", refused(error)),
            "sudo modprobe nfnetlink_log nft_log && \
             printf 'nfnetlink_log\\nnft_log\\n' | sudo tee -a /etc/modules-load.d/sbx.conf",
        ),
        None => Finding::ok(NAME, "not tried"),
    }
}

fn memfd(host: &Host, live: &LiveProbe) -> Finding {
    const NAME: &str = "memfd";
    let forbidden = host.memfd_noexec.as_deref().map(str::trim) == Some("2");
    let detail = "programs can't be run from memory, so the keeper is run from a file in the state directory";
    let remedy = "sudo sysctl -w vm.memfd_noexec=1";
    match (live.memfd_exec, forbidden) {
        (Some(Err(error)), _) => Finding::limited(NAME, format!("{}: {detail}", refused(error)), remedy),
        (None, true) => Finding::limited(NAME, format!("vm.memfd_noexec is 2: {detail}"), remedy),
        _ => Finding::ok(NAME, "programs can be run from memory"),
    }
}

fn proc_sys(host: &Host, live: &LiveProbe) -> Finding {
    const NAME: &str = "proc_sys";
    let read_only = host.self_mounts.lines().any(|line| {
        let mut fields = line.split(' ');
        let (path, options) = (fields.nth(1), fields.nth(1));
        path == Some("/proc/sys")
            && options.is_some_and(|options| options.split(',').any(|option| option == "ro"))
    });
    let detail = "/proc/sys is read-only: the gateway keeps the host's settings for ports and ICMP, which limits \
                  new connections a second";
    let remedy = host.place.uncover_proc();
    match (live.proc_sys_writable, read_only) {
        (Some(Ok(())), _) => Finding::ok(NAME, "writable in a namespace of one's own"),
        (Some(Err(_)), _) | (None, true) => Finding::limited(NAME, detail, remedy),
        (None, false) => Finding::ok(NAME, "not mounted read-only"),
    }
}

fn engine(host: &Host, runsc: Result<String, &Error>) -> Finding {
    match runsc {
        Ok(found) => match &host.no_sidecars {
            None => Finding::ok("runsc", found),
            Some(error) => {
                let remedy = "install the whole release, as root or as this user; releases after October 2026 don't \
                              start without it";
                Finding::limited("runsc", format!("{found}, but {}", error.message()), remedy)
            }
        },
        Err(error) => {
            let remedy = match error.code() {
                // Most likely runsc is not at fault.
                Code::RunscUnusable if host.process.judge().is_some() => {
                    "fix the finding `process` first".to_owned()
                }
                Code::RunscMissing => format!("install gVisor ({})", INSTALL),
                _ => format!("replace it with a current release ({}), or name another in SBX_RUNSC", INSTALL),
            };
            Finding::missing("runsc", error.message(), remedy)
        }
    }
}

/// Sandboxes on images need a newer runsc than others, and a directory for the store.
fn images(images: &Images) -> Finding {
    const NAME: &str = "images";
    const ELSEWHERE: &str =
        "name another directory: XDG_CACHE_HOME, or image_directory of the runtime's configuration";
    match images {
        Images::Unknown => Finding::limited(NAME, "not tried: there is no runsc", ""),
        Images::In(directory) => Finding::ok(NAME, format!("stored in {}", directory.display())),
        Images::ReadOnly(directory, error) => {
            let detail =
                format!("can't be stored in {}: {}", directory.display(), Errno::from_raw(*error).desc());
            Finding::limited(NAME, detail, ELSEWHERE)
        }
        Images::NoExec(directory) => {
            let detail =
                format!("can't be stored in {}: that file system is mounted noexec", directory.display());
            let remedy = format!("mount it without noexec (docker: --tmpfs DIRECTORY:exec), or {ELSEWHERE}");
            Finding::limited(NAME, detail, remedy)
        }
        Images::Nowhere(why) => Finding::limited(NAME, why, ELSEWHERE),
        Images::TooOld(why) => Finding::limited(NAME, why, "sandboxes without an image work"),
    }
}

/// Sandboxes work without control groups; memory and processor limits need them.
fn cgroups(limits: &Possible, place: Place) -> Finding {
    const NAME: &str = "cgroups";
    match &limits.refusal {
        None if limits.held == ["memory", "cpu"] => {
            Finding::ok(NAME, format!("limits of memory and cpu are held by {}", limits.place))
        }
        None => {
            let held = limits.held.join(" and ");
            let detail = format!("{} holds limits of {held} only", limits.place);
            Finding::limited(NAME, detail, crate::cgroup::REMEDY)
        }
        Some(why) => {
            let remedy = match limits.remedy {
                _ if place.is_container() => {
                    "limit the container itself, and ask for the watchdog where a sandbox has a limit of memory"
                }
                remedy => remedy,
            };
            Finding::limited(NAME, format!("limits of memory and cpu can't be held: {why}"), remedy)
        }
    }
}

/// What this process passes on to its children.
fn process(host: &Host, live: &LiveProbe) -> Finding {
    const NAME: &str = "process";
    if let Some(obstacle) = host.process.judge().or_else(|| process::judge_room(host.room.as_ref())) {
        return Finding::missing(NAME, obstacle.what, obstacle.remedy);
    }
    match live.keeper {
        Some(Err(error)) => Finding::missing(
            NAME,
            format!("no process can be started: {}", refused(error)),
            if error == libc::EAGAIN { process::MORE_PROCESSES } else { "" },
        ),
        _ => Finding::ok(NAME, "its devices and limits are sufficient"),
    }
}

/// A default route: destination of length 0, through a device that isn't lo, not a rejecting one.
fn ipv6(routes: Option<&str>) -> Finding {
    const RTF_REJECT: u32 = 0x200;
    let default = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let flags = fields.get(8).and_then(|flags| u32::from_str_radix(flags, 16).ok()).unwrap_or(RTF_REJECT);
        fields.get(1) == Some(&"00") && fields.last() != Some(&"lo") && flags & RTF_REJECT == 0
    };
    match routes {
        Some(routes) if routes.lines().any(default) => Finding::ok("ipv6", "there is a default route"),
        Some(_) => Finding::limited("ipv6", "no default route: sandboxes are given IPv4 only", ""),
        None => Finding::limited("ipv6", "switched off on this host: sandboxes are given IPv4 only", ""),
    }
}

fn descriptors((soft, hard): (u64, u64)) -> Finding {
    let fit = soft.saturating_sub(limits::RESERVE as u64) / DESCRIPTORS_A_SANDBOX;
    let detail = format!("limit {soft} (hard {hard}): about {fit} sandboxes without connections");
    if fit >= SANDBOXES_EXPECTED {
        return Finding::ok("descriptors", detail);
    }
    let wanted = hard.min(65536);
    let remedy = if wanted > soft {
        format!("before the program starts: ulimit -n {wanted}")
    } else {
        "raise LimitNOFILE of the service, or the user's nofile in /etc/security/limits.conf, to 65536"
            .to_owned()
    };
    if fit == 0 {
        Finding::missing("descriptors", detail, remedy)
    } else {
        Finding::limited("descriptors", detail, remedy)
    }
}

fn refused(error: i32) -> String {
    format!("the kernel refused: {}", Errno::from_raw(error).desc())
}

#[cfg(test)]
mod tests;
