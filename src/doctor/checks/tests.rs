use super::*;
use crate::doctor::report::Status;

fn healthy() -> Host {
    Host {
        release: "6.1.0-45-amd64".into(),
        max_user_namespaces: Some("15000\n".into()),
        unprivileged_userns_clone: Some("1\n".into()),
        self_status: "Name:\tx\nSeccomp:\t0\n".into(),
        memfd_noexec: Some("0\n".into()),
        modules: MODULES.to_vec(),
        self_mounts: "proc /proc proc rw,nosuid 0 0\n".into(),
        limits: Possible {
            place: "/sys/fs/cgroup/x".into(),
            held: vec!["memory", "cpu"],
            ..Possible::default()
        },
        ipv6_routes: Some(format!(
            "{z} 00 {z} 00 {z} 00000400 00000001 00000000 00000003     eth0\n",
            z = "0".repeat(32)
        )),
        nofile: (65536, 65536),
        images: Images::In("/x/images".into()),
        ..Host::default()
    }
}

fn tried() -> LiveProbe {
    let fine = Some(Ok(()));
    LiveProbe {
        keeper: fine,
        user_namespace: fine,
        user_mapping: fine,
        namespaces: Some(Ok(())),
        mounts: Some(Ok(())),
        veth: fine,
        nf_tables: fine,
        tproxy: fine,
        refusals: fine,
        memfd_exec: fine,
        proc_sys_writable: fine,
    }
}

#[track_caller]
fn found(host: &Host, live: Option<&LiveProbe>, name: &str, status: Status, detail: &str, remedy: &str) {
    let report = judge(host, Ok("release-x at /y".into()), live);
    let finding = report.findings().iter().find(|finding| finding.name == name).unwrap();
    assert_eq!(finding.status, status, "{finding:?}");
    assert!(finding.detail.contains(detail), "{finding:?} lacks {detail}");
    assert!(finding.remedy.contains(remedy), "{finding:?} lacks {remedy}");
    assert_eq!(report.usable(), report.findings().iter().all(|finding| finding.status != Status::Missing));
}

#[test]
fn a_healthy_host_is_ok_throughout() {
    let report = judge(&healthy(), Ok("release-x at /y".into()), Some(&tried()));
    assert!(report.usable());
    assert!(report.findings().iter().all(|finding| finding.status == Status::Ok), "{report}");
}

#[test]
fn a_kernel_that_cant_tell_what_it_refused_is_limited() {
    let live = LiveProbe { refusals: Some(Err(libc::EINVAL)), ..tried() };
    found(&healthy(), Some(&live), "refusals", Status::Limited, "cause no event", "modprobe nfnetlink_log");
}

#[test]
fn settings_are_found_with_their_remedy() {
    use Status::{Limited, Missing, Ok as Fine};
    type Change = fn(&mut Host);
    let cases: &[(Change, &str, Status, &str, &str)] = &[
        (|host| host.release = "5.10.0-32-amd64".into(), "kernel", Missing, "5.10.0", "6.1"),
        (|host| host.release = "5.14.0-503.el9".into(), "kernel", Limited, "5.14.0-503.el9: older", ""),
        (|host| host.release = "odd".into(), "kernel", Limited, "odd", ""),
        (
            |host| host.max_user_namespaces = Some("0\n".into()),
            "user_namespaces",
            Missing,
            "is 0",
            "sysctl -w user.max_user_namespaces=",
        ),
        (
            |host| host.max_user_namespaces = None,
            "user_namespaces",
            Missing,
            "no user namespaces",
            "CONFIG_USER_NS",
        ),
        (
            |host| host.unprivileged_userns_clone = Some("0\n".into()),
            "user_namespaces",
            Missing,
            "is 0",
            "unprivileged_userns_clone=1",
        ),
        (
            |host| host.apparmor_restrict = Some("1\n".into()),
            "user_namespaces",
            Missing,
            "AppArmor",
            "SBX_KEEPER",
        ),
        (
            |host| host.self_status = "Seccomp:\t2\n".into(),
            "seccomp",
            Limited,
            "docker",
            "seccomp=seccomp.json",
        ),
        (|host| host.modules.clear(), "veth", Limited, "no trace", "modprobe veth"),
        (|host| host.modules.clear(), "nf_tables", Limited, "no trace", "modprobe nf_tables"),
        (|host| host.modules.clear(), "tproxy", Limited, "no trace", "modprobe nft_tproxy"),
        (|host| host.memfd_noexec = Some("2\n".into()), "memfd", Limited, "is 2", "vm.memfd_noexec=1"),
        (|host| host.memfd_noexec = Some("1\n".into()), "memfd", Fine, "", ""),
        (
            |host| host.self_mounts = "proc /proc/sys proc ro,nosuid 0 0\n".into(),
            "proc_sys",
            Limited,
            "read-only",
            "systempaths=unconfined",
        ),
        (|host| host.limits.held = vec!["memory"], "cgroups", Limited, "of memory only", "Delegate=yes"),
        (|host| host.limits.refusal = Some("/x is not yours".into()), "cgroups", Limited, "/x is not", ""),
        (|host| host.ipv6_routes = None, "ipv6", Limited, "switched off", ""),
        (|host| host.ipv6_routes = Some(String::new()), "ipv6", Limited, "no default route", ""),
        (|host| host.nofile = (1024, 524288), "descriptors", Limited, "19 sandboxes", "ulimit -n 65536"),
        (|host| host.nofile = (1024, 1024), "descriptors", Limited, "19 sandboxes", "limits.conf"),
        (|host| host.nofile = (256, 256), "descriptors", Missing, "about 0", "limits.conf"),
    ];
    for (change, name, status, detail, remedy) in cases {
        let mut host = healthy();
        change(&mut host);
        found(&host, None, name, *status, detail, remedy);
    }
}

#[test]
fn a_trial_decides_over_settings() {
    use Status::{Limited, Missing, Ok as Fine};
    let refused = Some(Err(nix::libc::EPERM));
    let mut host = healthy();
    host.unprivileged_userns_clone = Some("0".into());
    host.self_status = "Seccomp:\t2\n".into();
    // Root may make them all the same.
    found(&host, Some(&tried()), "user_namespaces", Fine, "made one", "");
    found(&host, Some(&tried()), "seccomp", Fine, "allows", "");
    let live = LiveProbe { user_namespace: refused, ..LiveProbe::default() };
    found(&host, Some(&live), "user_namespaces", Missing, "is 0", "unprivileged_userns_clone=1");
    found(&healthy(), Some(&live), "user_namespaces", Missing, "not permitted", "seccomp=seccomp.json");
    found(&host, Some(&live), "seccomp", Missing, "not permitted", "seccomp=seccomp.json");
    for (step, setting) in [
        ("network namespace S", "max_net_namespaces"),
        ("mount namespace", "max_mnt_namespaces"),
        ("ipc namespace", "max_ipc_namespaces"),
        ("pid namespace", "max_pid_namespaces"),
        ("uts namespace", "max_uts_namespaces"),
        ("NETLINK_ROUTE in G", ""),
    ] {
        let live = LiveProbe { namespaces: Some(Err((step.into(), libc::ENOSPC))), ..tried() };
        found(&healthy(), Some(&live), "namespaces", Missing, step, setting);
    }
    let live = LiveProbe { veth: refused, nf_tables: refused, tproxy: refused, ..tried() };
    found(&healthy(), Some(&live), "veth", Missing, "refused", "modprobe veth");
    found(&healthy(), Some(&live), "nf_tables", Missing, "refused", "modprobe nf_tables");
    found(&healthy(), Some(&live), "tproxy", Missing, "refused", "modprobe nft_tproxy");
    let live = LiveProbe { memfd_exec: refused, proc_sys_writable: refused, ..tried() };
    found(&healthy(), Some(&live), "memfd", Limited, "from a file", "memfd_noexec");
    found(&healthy(), Some(&live), "proc_sys", Limited, "read-only", "systempaths");
    found(&healthy(), None, "namespaces", Limited, "not tried", "");
}

#[test]
fn the_cause_of_a_refused_user_namespace_is_told_apart() {
    use Status::{Limited, Missing, Ok as Fine};
    let refused = Some(Err(libc::EPERM));
    // Uid 0 without CAP_SETFCAP makes one, and can't map itself.
    let mapping = LiveProbe { user_mapping: refused, namespaces: None, ..tried() };
    let root = Host { is_root: true, ..healthy() };
    found(&root, Some(&mapping), "user_namespaces", Missing, "CAP_SETFCAP", "ordinary user");
    found(&root, Some(&mapping), "seccomp", Fine, "no filter", "");
    // In a chroot it isn't docker's filter.
    let live = LiveProbe { user_namespace: refused, ..LiveProbe::default() };
    let chroot = Host { is_in_chroot: true, self_status: "Seccomp:\t2\n".into(), ..healthy() };
    found(&chroot, Some(&live), "user_namespaces", Missing, "chroot", "pivot_root");
    found(&chroot, Some(&live), "seccomp", Limited, "chroot", "");
    let without = process::Facts { has_proc: false, ..process::Facts::default() };
    let without = Host { process: without, max_user_namespaces: None, ..healthy() };
    found(&without, None, "user_namespaces", Missing, "/proc is not mounted", "mount -t proc");
}

#[test]
fn what_this_process_can_not_pass_on() {
    use Status::{Missing, Ok as Fine};
    let with = |process| Host { process, ..healthy() };
    found(&healthy(), Some(&tried()), "process", Fine, "are sufficient", "");
    let small = process::Facts { file_size: 100_000 << 10, ..process::Facts::default() };
    found(&with(small), Some(&tried()), "process", Missing, "RLIMIT_FSIZE", "ulimit -f");
    let narrow = process::Facts { address_space: 400_000 << 10, ..process::Facts::default() };
    found(&with(narrow.clone()), Some(&tried()), "process", Missing, "RLIMIT_AS", "ulimit -v");
    let crowded = Host { room: Some((7, "the control group /x".into())), ..healthy() };
    found(&crowded, Some(&tried()), "process", Missing, "/x allows 7", "pids-limit");
    let live = LiveProbe { keeper: Some(Err(libc::EAGAIN)), ..LiveProbe::default() };
    found(&healthy(), Some(&live), "process", Missing, "started", "ulimit -u");
    let unusable = Error::new(Code::RunscUnusable, "is not runsc");
    let report = judge(&with(narrow), Err(&unusable), None);
    let finding = report.findings().iter().find(|finding| finding.name == "runsc").unwrap();
    assert!(finding.remedy.contains("process"), "{finding:?}");
}

#[test]
fn a_runsc_that_can_not_start_images_is_a_limit() {
    let with = |images| Host { images, ..healthy() };
    let old = with(Images::TooOld("too old for images".into()));
    found(&old, Some(&tried()), "images", Status::Limited, "too old for images", "without an image");
    found(&old, Some(&tried()), "runsc", Status::Ok, "release-x", "");
    let read_only = with(Images::ReadOnly("/x/images".into(), libc::EROFS));
    found(&read_only, Some(&tried()), "images", Status::Limited, "/x/images: Read-only", "XDG_CACHE_HOME");
    let noexec = with(Images::NoExec("/x/images".into()));
    found(&noexec, Some(&tried()), "images", Status::Limited, "noexec", "--tmpfs");
    let nowhere = with(Images::Nowhere("no HOME".into()));
    found(&nowhere, Some(&tried()), "images", Status::Limited, "no HOME", "image_directory");
    found(&with(Images::Unknown), None, "images", Status::Limited, "no runsc", "");
}

#[test]
fn mounts_that_are_refused_are_missing() {
    use Status::{Limited, Missing};
    let with = |errno| LiveProbe { mounts: Some(Err(("/proc".into(), errno))), ..tried() };
    let docker = Host { place: Place::Docker, ..healthy() };
    found(&docker, Some(&with(libc::EPERM)), "mounts", Missing, "/proc: the kernel refused", "seccomp.json");
    let filtered = Host { self_status: "Seccomp:\t2\n".into(), ..healthy() };
    found(&filtered, Some(&with(libc::EPERM)), "seccomp", Limited, "`mounts`", "");
    found(&healthy(), Some(&with(libc::ENOSYS)), "mounts", Missing, "openat2", "DynamicUser=");
    let old = Host { release: "5.10.0".into(), ..healthy() };
    found(&old, Some(&with(libc::ENOSYS)), "mounts", Missing, "not implemented", "`kernel` first");
    found(&healthy(), None, "mounts", Limited, "not tried", "");
}

#[test]
fn the_remedy_is_the_places_own() {
    use Status::{Limited, Missing, Ok as Fine};
    let live = LiveProbe { user_namespace: Some(Err(libc::EPERM)), ..LiveProbe::default() };
    let at = |place| Host {
        place,
        self_status: "Seccomp:\t2\n".into(),
        self_mounts: "proc /proc/sys proc ro,nosuid 0 0\n".into(),
        limits: Possible { refusal: Some("not writable".into()), ..Possible::default() },
        ..healthy()
    };
    for (place, name, filter, proc_sys, groups) in [
        (Place::Docker, "docker", "--security-opt seccomp=seccomp.json", "systempaths", "watchdog"),
        (Place::Podman, "podman", "podman run --security-opt seccomp", "unmask=ALL", "watchdog"),
        (Place::Kubernetes, "Kubernetes", "type: Localhost", "procMount", "watchdog"),
        (Place::Service, "service", "RestrictNamespaces=", "ProtectKernelTunables=", ""),
    ] {
        found(&at(place), Some(&live), "place", Fine, name, "");
        found(&at(place), Some(&live), "seccomp", Missing, "a filter", filter);
        found(&at(place), Some(&live), "user_namespaces", Missing, "refused", filter);
        found(&at(place), Some(&live), "proc_sys", Limited, "read-only", proc_sys);
        found(&at(place), Some(&live), "cgroups", Limited, "not writable", groups);
    }
    found(&at(Place::Wsl(1)), None, "place", Missing, "WSL 1", "wsl --set-version");
    found(&at(Place::Wsl(2)), None, "place", Fine, "WSL 2", "");
}

#[test]
fn a_store_is_looked_for_from_the_directory_upwards() {
    let here = std::env::temp_dir();
    assert!(matches!(store(&here.join("not/there")), Images::In(path) if path.ends_with("not/there")));
    assert!(matches!(
        store(Path::new("/proc/self/status/x")),
        Images::ReadOnly(_, libc::EACCES | libc::ENOTDIR)
    ));
}

#[test]
fn helpers_that_are_not_used_are_a_limit() {
    let error = Error::new(Code::RunscUnusable, "/opt/gvisor-bin is not used");
    let host = Host { no_sidecars: Some(error), ..healthy() };
    found(&host, Some(&tried()), "runsc", Status::Limited, "but /opt/gvisor-bin", "whole release");
}

#[test]
fn runsc_and_architecture() {
    let missing = Error::new(Code::RunscMissing, "runsc (gVisor) was not found");
    let report = judge(&healthy(), Err(&missing), None);
    assert!(!report.usable());
    let finding = report.findings().iter().find(|finding| finding.name == "runsc").unwrap();
    assert!(finding.remedy.contains(crate::runsc::probe::INSTALL));
    assert_eq!(architecture("x86_64").status, Status::Ok);
    assert_eq!(architecture("aarch64").status, Status::Limited);
    assert_eq!(architecture("riscv64").status, Status::Missing);
}

#[test]
fn this_host() {
    let missing = Error::new(Code::RunscMissing, "not looked for");
    let report = examine(Err(&missing), &Ok("/x".into()), &Environment::default(), None);
    let text = report.to_string();
    assert_eq!(report.findings().len(), 19);
    for finding in report.findings() {
        assert!(text.contains(finding.name) && !finding.detail.is_empty(), "{finding:?}");
    }
    println!("{text}");
}

#[test]
fn the_descriptor_limit_is_read() {
    assert_eq!(
        nofile("Max open files            1024                 524288               files     \n"),
        (1024, 524288)
    );
    assert_eq!(nofile("Max open files  1024  unlimited  files\n"), (1024, u64::MAX));
    assert_eq!(nofile(""), (0, 0));
}
