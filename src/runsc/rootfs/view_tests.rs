//! What is shown of a host, with directories that stand in for it.

use super::*;
use crate::runsc::fake::Directory;
use std::os::unix::fs::symlink;

fn host() -> Directory {
    let host = Directory::new();
    for path in [
        "usr/bin",
        "usr/lib/deep/er",
        "usr/share/doc",
        "usr/src/app",
        "usr/local/bin",
        "usr/local/etc",
        "usr/local/share",
        "etc/pki/tls/certs",
        "etc/ssl/private",
    ] {
        fs::create_dir_all(host.path().join(path)).unwrap();
    }
    host.file("usr/bin/sh", b"", 0o755);
    host.file("usr/share/doc/read", b"", 0o644);
    symlink("usr/bin", host.path().join("bin")).unwrap();
    host
}

fn look(host: &Directory) -> View {
    View::look(host.path(), Bounds::default())
}

fn covers<'a>(view: &'a View, at: &str) -> Vec<&'a str> {
    let of = |shown: &'a Shown| match shown {
        Shown::Tree { path, covers, .. } if path == Path::new(at) => Some(covers),
        _ => None,
    };
    view.shown.iter().find_map(of).unwrap().iter().map(|path| path.to_str().unwrap()).collect()
}

fn shows(view: &View, at: &str) -> bool {
    view.shown.iter().any(|shown| shown.path() == Path::new(at))
}

#[test]
fn listed_directories_only() {
    let view = look(&host());
    for path in ["/usr/bin", "/usr/lib", "/usr/share", "/usr/local/bin", "/etc/pki/tls/certs", "/bin"] {
        assert!(shows(&view, path), "{path} in {view:?}");
    }
    let stranger =
        |path: &Path| ["/usr/src", "/usr/local/etc", "/etc/ssl"].iter().any(|other| path.starts_with(other));
    assert!(!view.shown.iter().any(|shown| stranger(shown.path())), "{view:?}");
    assert!(view.shown.iter().all(|shown| match shown {
        Shown::Tree { covers, .. } => covers.is_empty(),
        _ => true,
    }));
}

#[test]
fn what_not_everybody_may_read_or_enter_is_covered() {
    let host = host();
    host.file("usr/share/secret", b"", 0o600);
    host.file("usr/share/doc/group", b"", 0o640);
    host.file("etc/pki/tls/certs/key.pem", b"", 0o600);
    host.mode("usr/lib/deep/er", 0o700);
    host.mode("usr/local/share", 0o711);
    let view = look(&host);
    assert_eq!(covers(&view, "/usr/share"), ["doc/group", "secret"]);
    assert_eq!(covers(&view, "/usr/lib"), ["deep/er"]);
    assert_eq!(covers(&view, "/etc/pki/tls/certs"), ["key.pem"]);
    assert!(!shows(&view, "/usr/local/share"));
    assert_eq!(view.left_out.len(), 1, "{view:?}");
    // What no other user can reach isn't shown either, whatever its own mode.
    host.mode("usr/local", 0o750);
    let view = look(&host);
    assert!(shows(&view, "/usr/share") && !shows(&view, "/usr/local/bin"));
    host.mode("usr/lib/deep/er", 0o755);
}

/// Looks until what was changed before is long enough ago.
fn settled(host: &Directory) -> View {
    loop {
        let view = look(host);
        if view.is_settled {
            return view;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_change_of_a_listed_directory_is_seen() {
    let host = host();
    assert!(!look(&host).is_current(), "it was made just now, and may change again in the same moment");
    let view = settled(&host);
    assert!(view.is_current());
    host.file("usr/share/secret", b"", 0o600);
    assert!(!view.is_current());
    let view = settled(&host);
    host.mode("usr/lib", 0o750);
    assert!(!view.is_current());
    let view = settled(&host);
    fs::create_dir(host.path().join("usr/local/go")).unwrap();
    assert!(!view.is_current());
}

#[test]
fn a_clock_that_was_set_back_is_no_reason_to_look_each_time() {
    let stamp = |seconds| Stamp { file: (0, 0), mode: 0, modified: (0, 0), changed: (seconds, 0) };
    let now = Duration::from_secs(1000);
    assert!(stamp(1000).is_fresh(now));
    assert!(!stamp(999).is_fresh(now) && !stamp(2000).is_fresh(now) && !stamp(-1).is_fresh(now));
}

#[test]
fn what_is_too_much_is_left_out() {
    let host = host();
    let few = Bounds { entries: 3, ..Bounds::default() };
    let view = View::look(host.path(), few);
    assert!(shows(&view, "/usr/bin") && !shows(&view, "/usr/share"), "{view:?}");
    assert!(view.left_out.iter().any(|(path, why)| path == Path::new("/usr/share") && why.contains("many")));
    assert!(view.cut_short.is_none());
    settled(&host);
    let view = View::look(host.path(), Bounds { time: Duration::ZERO, ..Bounds::default() });
    assert!(!shows(&view, "/usr/bin"), "{view:?}");
    let ended = view.cut_short.unwrap();
    assert!(view.is_current_at(ended) && view.is_current_at(ended + CUT_SHORT_VALID_FOR - TIMESTAMP_STEP));
    assert!(!view.is_current_at(ended + CUT_SHORT_VALID_FOR), "it is looked at again in a while");
    host.file("usr/share/other", b"", 0o644);
    assert!(!view.is_current_at(ended), "and after a change");
}

#[test]
fn many_private_entries_are_covered_by_their_directories() {
    let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
    let gathered = |names: &[&str], most| gather(paths(names), most);
    let crowd = ["one/a", "one/b", "one/c", "two/a", "top"];
    assert_eq!(gathered(&crowd, 5), Some(paths(&["one/a", "one/b", "one/c", "top", "two/a"])));
    assert_eq!(gathered(&crowd, 3), Some(paths(&["one", "top", "two/a"])));
    assert_eq!(gathered(&["a/b/1", "a/c/2", "d/e/3"], 2), Some(paths(&["a", "d"])));
    assert_eq!(gathered(&["a", "b", "c"], 2), None);
    assert_eq!(gathered(&[], 2), Some(vec![]));
    let nested = ["a/1", "a/2", "a/b/1", "a/b/2", "a/b/3"];
    assert_eq!(gathered(&nested, 3), Some(paths(&["a/1", "a/2", "a/b"])));
    assert_eq!(gathered(&nested, 1), Some(paths(&["a"])));
}

#[test]
fn python_is_a_link_where_there_is_only_python3() {
    let host = host();
    let link = |view: &View, at: &str| {
        view.shown.iter().find_map(|shown| match shown {
            Shown::Link { path, target } if path == Path::new(at) => Some(target.clone()),
            _ => None,
        })
    };
    assert_eq!(link(&look(&host), "/usr/local/sbin/python"), None);
    host.file("usr/bin/python3", b"", 0o755);
    assert_eq!(link(&look(&host), "/usr/local/sbin/python"), Some("/usr/bin/python3".into()));
    // In a directory that is a link on this host, the next one is put together.
    symlink("bin", host.path().join("usr/local/sbin")).unwrap();
    host.file("usr/local/bin/tool", b"", 0o755);
    host.file("usr/local/bin/private", b"", 0o700);
    symlink("tool", host.path().join("usr/local/bin/other")).unwrap();
    let view = look(&host);
    assert_eq!(link(&view, "/usr/local/bin/python"), Some("/usr/bin/python3".into()));
    assert_eq!(link(&view, "/usr/local/bin/other"), Some("tool".into()));
    assert!(shows(&view, "/usr/local/bin/tool") && !shows(&view, "/usr/local/bin/private"));
    host.file("usr/bin/python", b"", 0o755);
    assert_eq!(link(&look(&host), "/usr/local/bin/python"), None);
}
