//! The default root file system: the host's programs and libraries, and nothing else of the host's.
//!
//! Visible: programs and libraries in /usr, /usr/local, /bin, /sbin, /lib*; of /etc the linker's files, public certificates,
//! alternatives, fonts, names of services, adduser's files, and the time zone. Never visible: home directories, /var, the
//! rest of /etc, /run, /opt, /usr/src, /usr/local/etc, sockets, and files that not every user may read. This is an
//! allowlist, so that a distribution's additions stay out. [`View`] has the list.

use std::fs;
use std::path::{Path, PathBuf};

use super::view::{Shown, TOP, View, public_etc};
use super::{Entry, Names, OURS, Plan, etc};
use crate::error::{Code, Error, Result};

/// Empty directories for programs to write to.
const EMPTY: &[(&str, u32)] = &[
    ("/home", 0o755),
    ("/mnt", 0o755),
    ("/opt", 0o755),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/run/lock", 0o1777),
    ("/srv", 0o755),
    ("/var", 0o755),
    ("/var/cache", 0o755),
    ("/var/lib", 0o755),
    ("/var/log", 0o755),
    ("/var/tmp", 0o1777),
];

/// Directories that the sentry mounts over.
pub(super) const MOUNTED: &[(&str, u32)] =
    &[("/proc", 0o555), ("/dev", 0o755), ("/sys", 0o555), ("/tmp", 0o1777)];

/// The plan for the host that runs this.
pub(super) fn host(names: &Names<'_>) -> Result<Vec<Entry>> {
    let base = Path::new("/");
    check_layout(base)?;
    plan(base, names, &View::current())
}

fn plan(base: &Path, names: &Names<'_>, view: &View) -> Result<Vec<Entry>> {
    let mut plan = Plan::default();
    check_view(view)?;
    for (path, mode) in MOUNTED.iter().chain(EMPTY).chain(&[(OURS, 0o755)]) {
        plan.dir(*path, *mode);
    }
    plan.symlink("/var/run", "/run");
    for path in ["/usr", "/usr/local", "/etc"] {
        plan.dir(path, 0o755);
    }
    etc::accounts(&mut plan);
    names.identity(&mut plan);
    for shown in &view.shown {
        show(shown, &mut plan);
    }
    etc::fill(&mut plan);
    time_zone(base, &mut plan);
    plan.symlink("/etc/mtab", "/proc/mounts");
    plan.finish()
}

/// Adds a file or directory of the host, with the directories above it.
fn show(shown: &Shown, plan: &mut Plan) {
    let (Shown::Link { path, .. }
    | Shown::Directory { path }
    | Shown::File { path, .. }
    | Shown::Tree { path, .. }) = shown;
    let above: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
    for directory in above.into_iter().rev() {
        if directory.parent().is_some() && !plan.has(&directory) {
            plan.dir(directory, 0o755);
        }
    }
    match shown {
        Shown::Link { path, target } => plan.symlink(path, target),
        Shown::Directory { path } => plan.dir(path, 0o755),
        Shown::File { path, source } => plan.bind(source, path),
        Shown::Tree { path, source, covers } => {
            plan.bind(source, path);
            for cover in covers {
                plan.cover(path.join(cover));
            }
        }
    }
}

/// Fails if programs or libraries are missing: no program would start, and its error would be misleading.
fn check_view(view: &View) -> Result<()> {
    let needed = |path: &Path| {
        let name = path.strip_prefix("/usr").or_else(|_| path.strip_prefix("/")).unwrap_or(path);
        TOP.iter().any(|top| Path::new(top) == name)
    };
    match view.left_out.iter().find(|(path, _)| needed(path)) {
        None => Ok(()),
        Some((path, why)) => {
            let text = format!(
                "{} of this host can't be shown to a sandbox: {why}; give the sandbox a root file system directory",
                path.display()
            );
            Err(Error::new(Code::Host, text))
        }
    }
}

/// Fails if the host keeps its programs elsewhere (NixOS and Guix keep theirs in a store).
fn check_layout(base: &Path) -> Result<()> {
    let shell = base.join("bin/sh");
    let real = shell.canonicalize().unwrap_or_default();
    let inside = TOP
        .iter()
        .chain(&["usr"])
        .any(|name| base.join(name).canonicalize().is_ok_and(|directory| real.starts_with(directory)));
    if inside && base.join("usr").is_dir() {
        return Ok(());
    }
    let found = if real.as_os_str().is_empty() { "missing".to_owned() } else { real.display().to_string() };
    Err(Error::new(
        Code::Host,
        format!(
            "this host's programs are not in /usr and /bin ({} is {found}), so its file system can't serve as \
             the sandbox's; give the sandbox a root file system directory",
            shell.display()
        ),
    ))
}

/// Keeps a link into /usr/share/zoneinfo, because programs read the zone's name from it.
fn time_zone(base: &Path, plan: &mut Plan) {
    let here = base.join("etc/localtime");
    match fs::read_link(&here) {
        Ok(target) => {
            let text = target.to_string_lossy();
            if let Some((_, zone)) = text.split_once("/usr/share/zoneinfo/") {
                plan.symlink("/etc/localtime", Path::new("/usr/share/zoneinfo").join(zone));
            }
        }
        Err(_) if here.is_file() => {
            if let Some(source) = public_etc(base, "localtime") {
                plan.bind(source, "/etc/localtime");
            }
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runsc::fake::Directory;
    use crate::runsc::rootfs::assert_closed;
    use crate::runsc::rootfs::view::Bounds;
    use std::os::unix::fs::symlink;

    const NAMES: Names<'_> = Names { hostname: "box", network: true };

    fn find<'a>(plan: &'a [Entry], path: &str) -> Option<&'a Entry> {
        plan.iter().find(|entry| entry.path() == Path::new(path))
    }

    fn plan(base: &Path, names: &Names<'_>) -> Result<Vec<Entry>> {
        check_layout(base)?;
        super::plan(base, names, &View::look(base, Bounds::default()))
    }

    fn merged() -> Directory {
        let directory = Directory::new();
        let at = |path: &str| directory.path().join(path);
        for path in ["usr/bin", "usr/lib", "etc/ssl/private", "etc/ssl/certs", "etc/alternatives", "home/me"]
        {
            fs::create_dir_all(at(path)).unwrap();
        }
        directory.file("usr/bin/sh", b"", 0o755);
        directory.file("etc/shadow", b"secret", 0o600);
        symlink("usr/bin", at("bin")).unwrap();
        symlink("usr/lib", at("lib")).unwrap();
        directory
    }

    #[test]
    fn a_merged_usr() {
        let host = merged();
        let plan = plan(host.path(), &NAMES).unwrap();
        assert_closed(&plan);
        assert_eq!(
            find(&plan, "/bin"),
            Some(&Entry::Symlink { path: "/bin".into(), target: "usr/bin".into() })
        );
        assert!(matches!(find(&plan, "/usr"), Some(Entry::Dir { .. })));
        for path in ["/usr/bin", "/usr/lib"] {
            let Some(Entry::Bind { writable: false, recursive: true, .. }) = find(&plan, path) else {
                panic!("{path}: {plan:?}");
            };
        }
        assert!(find(&plan, "/sbin").is_none());
    }

    #[test]
    fn a_split_usr() {
        let host = merged();
        fs::remove_file(host.path().join("bin")).unwrap();
        fs::create_dir(host.path().join("bin")).unwrap();
        host.file("bin/sh", b"", 0o755);
        let plan = plan(host.path(), &NAMES).unwrap();
        assert_closed(&plan);
        assert!(matches!(find(&plan, "/bin"), Some(Entry::Bind { .. })));
    }

    #[test]
    fn what_is_private_is_covered_after_it_is_bound() {
        let host = merged();
        host.file("usr/lib/secret", b"", 0o600);
        let plan = plan(host.path(), &NAMES).unwrap();
        assert_closed(&plan);
        let at = |path: &str| plan.iter().position(|entry| entry.path() == Path::new(path)).unwrap();
        assert!(matches!(plan[at("/usr/lib/secret")], Entry::Cover { .. }));
        assert!(at("/usr/lib") < at("/usr/lib/secret"));
        host.mode("usr/lib", 0o700);
        let error = self::plan(host.path(), &NAMES).unwrap_err();
        assert!(
            error.message().contains("/usr/lib") && error.message().contains("root file system"),
            "{error}"
        );
    }

    #[test]
    fn nothing_private_is_in_it() {
        let host = merged();
        let plan = plan(host.path(), &NAMES).unwrap();
        for entry in &plan {
            let Entry::Bind { source, .. } = entry else { continue };
            for private in ["home/me", "etc/shadow", "etc/ssl/private"] {
                assert!(!host.path().join(private).starts_with(source), "{entry:?} shows {private}");
            }
        }
        assert!(find(&plan, "/etc/ssl/certs").is_some());
    }

    #[test]
    fn a_link_of_etc_to_a_private_place_is_left_out() {
        let host = merged();
        fs::remove_dir(host.path().join("etc/alternatives")).unwrap();
        symlink(host.path().join("home/me"), host.path().join("etc/alternatives")).unwrap();
        assert!(find(&plan(host.path(), &NAMES).unwrap(), "/etc/alternatives").is_none());
    }

    #[test]
    fn the_time_zone_stays_a_link() {
        let host = merged();
        let here = host.path().join("etc/localtime");
        symlink("../usr/share/zoneinfo/Europe/Bern", &here).unwrap();
        let target = "/usr/share/zoneinfo/Europe/Bern".into();
        assert_eq!(
            find(&plan(host.path(), &NAMES).unwrap(), "/etc/localtime"),
            Some(&Entry::Symlink { path: "/etc/localtime".into(), target })
        );
        fs::remove_file(&here).unwrap();
        symlink("/home/me/zone", &here).unwrap();
        assert!(find(&plan(host.path(), &NAMES).unwrap(), "/etc/localtime").is_none());
        fs::remove_file(&here).unwrap();
        host.file("etc/localtime", b"TZif", 0o644);
        assert!(matches!(
            find(&plan(host.path(), &NAMES).unwrap(), "/etc/localtime"),
            Some(Entry::Bind { .. })
        ));
    }

    #[test]
    fn a_host_that_keeps_its_programs_in_a_store() {
        let host = merged();
        let shell = host.path().join("usr/bin/sh");
        fs::remove_file(&shell).unwrap();
        fs::create_dir_all(host.path().join("nix/store")).unwrap();
        host.file("nix/store/sh", b"", 0o755);
        symlink(host.path().join("nix/store/sh"), &shell).unwrap();
        let error = plan(host.path(), &NAMES).unwrap_err();
        assert_eq!(error.code(), Code::Host);
        assert!(error.message().contains("root file system directory"), "{error}");
    }

    #[test]
    fn the_resolver_is_the_gateway_and_only_with_a_network() {
        let content = |network, path: &str| {
            let plan = host(&Names { hostname: "box", network }).unwrap();
            match find(&plan, path) {
                Some(Entry::File { content, .. }) => String::from_utf8(content.clone()).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(content(true, "/etc/resolv.conf"), "nameserver 192.0.0.1\n");
        assert_eq!(content(false, "/etc/resolv.conf"), "");
        assert!(content(true, "/etc/hosts").contains("192.0.0.2\tbox\n"));
        assert_eq!(content(true, "/etc/hostname"), "box\n");
    }

    #[test]
    fn this_host() {
        assert_closed(&host(&NAMES).unwrap());
    }
}
