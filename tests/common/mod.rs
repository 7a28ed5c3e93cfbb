//! What the integration tests share.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use sbx::{Config, Runtime, RuntimeConfig, Sandbox, Stdio, Stream};

/// Longer than anything here takes; who waits for it fails.
pub const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

/// A runtime, or `None` where there is no runsc (which fails under CI).
pub fn runtime() -> Option<Runtime> {
    if std::env::var_os("SBX_RUNSC").is_none() {
        assert!(std::env::var_os("CI").is_none(), "SBX_RUNSC is not set");
        return None;
    }
    Some(Runtime::new(&RuntimeConfig::default()).expect("a runtime"))
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
