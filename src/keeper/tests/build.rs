//! How the keeper's program is built.

/// The program is built with a lock file of its own; the workspace's is the one that clippy checks it with.
#[test]
fn both_lock_files_name_the_same_packages() {
    let packages = |lock: &'static str| lock.split("\n\n").filter(|part| part.starts_with("[[package]]"));
    let workspace: Vec<&str> = packages(include_str!("../../../Cargo.lock")).map(str::trim).collect();
    for package in packages(include_str!("../program/Cargo.lock")) {
        assert!(workspace.contains(&package.trim()), "another version in Cargo.lock:\n{package}");
    }
}
