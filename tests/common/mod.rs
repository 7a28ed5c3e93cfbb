//! What the integration tests share.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

pub mod busybox;
pub mod client;
pub mod files;
pub mod images;
pub mod peer;
pub mod registry;

use std::time::Duration;

use sbx::{Config, Runtime, RuntimeConfig, Sandbox, Stdio, Stream};

/// How long tests wait for what has to come, however busy the machine is; what has not come by then doesn't come. Where a time is
/// what is tested, it is written there. An emulated machine takes longer: built with `SBX_TEST_PATIENCE`, tests wait so many seconds.
pub const PATIENCE: Option<Duration> = Some(Duration::from_secs(match option_env!("SBX_TEST_PATIENCE") {
    Some(seconds) => match u64::from_str_radix(seconds, 10) {
        Ok(seconds) => seconds,
        Err(_) => panic!("SBX_TEST_PATIENCE is a number of seconds"),
    },
    None => 30,
}));

/// The runsc to test with. The build ignores tests that need one where `SBX_RUNSC` isn't set (build.rs).
pub fn runsc() -> String {
    std::env::var("SBX_RUNSC").expect("SBX_RUNSC names no runsc: sh tests/run.sh installs one")
}

/// A runtime with that runsc.
pub fn runtime() -> Runtime {
    runsc();
    Runtime::new(&RuntimeConfig::default()).expect("a runtime")
}

/// A sandbox that runs a command and captures what it says.
pub fn config(command: &[&str]) -> Config {
    let mut config = Config::new();
    config.set_command(command.iter().copied()).unwrap();
    config.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    config.set_stdio(Stream::Stderr, Stdio::capture()).unwrap();
    config
}

/// A sandbox that runs a script.
pub fn script(text: &str) -> Config {
    config(&["sh", "-c", text])
}

/// What it said on standard output. It has ended.
pub fn output(sandbox: &Sandbox) -> String {
    text(sandbox, Stream::Stdout)
}

/// What it said on a stream. It has ended, but the library may still be reading.
pub fn text(sandbox: &Sandbox, stream: Stream) -> String {
    let begin = std::time::Instant::now();
    loop {
        let captured = sandbox.captured(stream).unwrap();
        if captured.complete {
            return String::from_utf8_lossy(&[captured.head, captured.tail].concat()).into_owned();
        }
        assert!(begin.elapsed() < PATIENCE.unwrap(), "the output never ended");
        std::thread::yield_now();
    }
}

/// The small servers of `server.py`, each as `KIND PORT [ADDRESS]`.
pub fn servers(which: &[&str]) -> Config {
    config(&[&["python3", "-c", include_str!("server.py")], which].concat())
}

/// A directory of the test's own, gone at its end.
pub struct Scratch(pub std::path::PathBuf);

impl Scratch {
    /// Makes one.
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sbx-test-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// The path of something in it.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Writes a file in it and returns its path.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Looks again and again until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE.unwrap(), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes whose command line has the text in it (a sandbox's id is in that of its runsc).
pub fn processes_with(text: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter(|entry| entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit))
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

/// Runs a test's body in a process of its own, which has no sandboxes but its own. `before` is shell text that comes first.
pub fn alone(name: &str, before: &str, body: impl FnOnce()) {
    const CHILD: &str = "SBX_TEST_ALONE";
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let script = format!("{before} exec \"$0\" --exact \"$1\" --nocapture");
    let status = std::process::Command::new("sh")
        .args(["-c", &script])
        .args([std::env::current_exe().unwrap().as_os_str(), name.as_ref()])
        .env(CHILD, "1")
        .status()
        .unwrap();
    assert!(status.success());
}

/// A process's children, whichever of its threads started them. None of a process that has ended.
pub fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// This process's children, by name.
pub fn children() -> Vec<String> {
    let pids = children_of(std::process::id()).into_iter();
    pids.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()).collect()
}

/// The words of a process's command line.
pub fn command_line(pid: impl std::fmt::Display) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Whether that is a sentry's command line.
pub fn is_sentry(command_line: &[String]) -> bool {
    command_line.iter().any(|word| word == "boot")
}
