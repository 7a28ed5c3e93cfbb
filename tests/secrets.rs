//! Secrets: environment values that are in nobody's view but the program's.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail the test")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use common::{PATIENCE, processes_with, runtime};
use sbx::{Config, Exec, Stdio, Stream};

/// A value like no other, put together at run time: the text is in no file of the program.
fn secret(number: u32) -> String {
    format!("{}-{}-{number}", "hunter", std::process::id().wrapping_mul(2_654_435_761))
}

fn holds(bytes: &[u8], value: &str) -> bool {
    bytes.windows(value.len()).any(|window| window == value.as_bytes())
}

/// What everybody can look at of all processes.
fn in_proc(value: &str) -> Vec<PathBuf> {
    let pids = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let pids = pids.filter(|path| path.join("status").exists());
    pids.flat_map(|path| ["environ", "cmdline", "comm", "stat"].map(|name| path.join(name)))
        .filter(|path| fs::read(path).is_ok_and(|bytes| holds(&bytes, value)))
        .collect()
}

/// What has come into a directory since then, and is ours.
fn new_in(directory: &Path, since: std::time::SystemTime) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_new = |path: &PathBuf| {
        let data = fs::symlink_metadata(path).ok();
        data.is_some_and(|data| data.uid() == own_uid() && data.modified().is_ok_and(|at| at >= since))
    };
    entries.map(|entry| entry.path()).filter(is_new).collect()
}

fn own_uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

/// All small files below a directory, in whatever mount namespace.
fn in_files(directory: &Path, value: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            in_files(&entry.path(), value, found);
        } else if kind.is_file()
            && fs::metadata(entry.path()).is_ok_and(|data| data.size() < 1 << 20)
            && fs::read(entry.path()).is_ok_and(|bytes| holds(&bytes, value))
        {
            found.push(entry.path());
        }
    }
}

/// Everything that the library logs, at the finest level.
struct Log(std::sync::Mutex<Vec<u8>>);

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        use std::io::Write;
        let mut text = self.0.lock().unwrap();
        writeln!(text, "{} {}", record.target(), record.args()).unwrap();
    }

    fn flush(&self) {}
}

static LOG: Log = Log(std::sync::Mutex::new(Vec::new()));

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn secrets_are_seen_by_their_program_and_by_nobody_else() {
    let begin = std::time::SystemTime::now();
    let runtime = runtime();
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let (base, own, plain) = (secret(1), secret(2), secret(3));
    let mut config = Config::new();
    config.set_command(["sleep", "1000"]).unwrap();
    config.set_secret("BASE", &base).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let mut exec = Exec::new();
    exec.set_command(["sh", "-c", "echo $BASE $OWN $PLAIN; read line"]).unwrap();
    exec.set_secret("OWN", &own).unwrap().set_env("PLAIN", &plain).unwrap();
    exec.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    common::eventually("it has said so", || {
        process.captured(Stream::Stdout).unwrap().head == format!("{base} {own} {plain}\n").into_bytes()
    });
    // Errors of every kind, and what is shown of the objects.
    let mut wrong = exec.clone();
    wrong.set_command(["no-such-program"]).unwrap();
    let failure = sandbox.exec(&wrong).unwrap_err();
    wrong.set_secret("OWN", &format!("{own}\0")).unwrap_err();
    let error = wrong.check().unwrap_err();
    let shown = format!("{failure:?} {error:?} {config:?} {exec:?} {sandbox:?} {process:?}");
    let keepers = processes_with(sandbox.id());
    assert!(!keepers.is_empty(), "the processes of the sandbox can be looked at");
    for value in [&base, &own, &plain] {
        assert_eq!(in_proc(value), Vec::<PathBuf>::new());
        let mut files = Vec::new();
        let own_view = std::env::temp_dir();
        let runtime_directory = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        for directory in [Some(own_view), Some("/dev/shm".into()), runtime_directory].into_iter().flatten() {
            for path in new_in(&directory, begin).iter().filter(|path| path.to_string_lossy().contains("sbx"))
            {
                in_files(path, value, &mut files);
                let is_small = fs::metadata(path).is_ok_and(|data| data.is_file() && data.size() < 1 << 20);
                files.extend(
                    fs::read(path).ok().filter(|bytes| is_small && holds(bytes, value)).map(|_| path.clone()),
                );
            }
        }
        // The keeper's own view: bundle, state, logs of runsc.
        for keeper in fs::read_dir("/proc").unwrap().flatten() {
            let is_ours =
                fs::read(keeper.path().join("cmdline")).is_ok_and(|line| line.starts_with(b"sbx-keeper"));
            for place in ["state", "bundle"].iter().filter(|_| is_ours) {
                in_files(&keeper.path().join("root").join(place), value, &mut files);
            }
        }
        assert_eq!(files, Vec::<PathBuf>::new());
        assert!(!holds(shown.as_bytes(), value), "{shown}");
    }
    process.signal(9).unwrap();
    process.wait(PATIENCE).unwrap();
    sandbox.terminate().unwrap();
    sandbox.wait(PATIENCE).unwrap();
    let log = LOG.0.lock().unwrap();
    for value in [&base, &own, &plain] {
        assert!(!holds(&log, value), "it was logged");
    }
}
