//! Standard streams: descriptors, captures, floods, and what is written into them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::{PATIENCE, config, eventually, output, runtime, script, text};
use sbx::{Code, Config, Sandbox, Stdio, Stream};

fn with(mut config: Config, streams: &[(Stream, Stdio)]) -> Config {
    for (stream, stdio) in streams {
        config.set_stdio(*stream, *stdio).unwrap();
    }
    config
}

/// Reads a non-blocking pipe to its end.
fn read_all(sandbox: &Sandbox, stream: Stream) -> String {
    let mut pipe = std::fs::File::from(sandbox.open_stream(stream).unwrap());
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    let begin = Instant::now();
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return String::from_utf8(all).unwrap(),
            Ok(read) => all.extend_from_slice(&buffer[..read]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(begin.elapsed() < PATIENCE.unwrap(), "the stream never ended");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

#[test]
fn input_and_outputs_are_descriptors() {
    let Some(runtime) = runtime() else { return };
    let all = [Stream::Stdin, Stream::Stdout, Stream::Stderr].map(|stream| (stream, Stdio::Descriptor));
    let sandbox = runtime.create(&with(script("cat; echo end >&2"), &all)).unwrap();
    let mut stdin = UnixStream::from(sandbox.open_stream(Stream::Stdin).unwrap());
    assert_eq!(sandbox.open_stream(Stream::Stdin).unwrap_err().code(), Code::State, "it is given once");
    stdin.write_all(b"a line\n").unwrap();
    stdin.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&sandbox, Stream::Stdout), "a line\n");
    assert_eq!(read_all(&sandbox, Stream::Stderr), "end\n");
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0);
}

#[test]
fn without_an_input_the_program_reads_its_end() {
    let Some(runtime) = runtime() else { return };
    let sandbox = runtime.create(&script("cat; echo end")).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0);
    assert_eq!(output(&sandbox), "end\n");
    assert_eq!(sandbox.open_stream(Stream::Stdin).unwrap_err().code(), Code::NotFound);
}

#[test]
fn a_program_that_ends_without_reading_does_not_kill_the_writer() {
    let Some(runtime) = runtime() else { return };
    let sandbox = runtime.create(&with(config(&["true"]), &[(Stream::Stdin, Stdio::Descriptor)])).unwrap();
    let mut stdin = UnixStream::from(sandbox.open_stream(Stream::Stdin).unwrap());
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(stdin.write(b"late").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn outputs_can_be_one() {
    let Some(runtime) = runtime() else { return };
    let merged = with(script("echo 1; echo 2 >&2; echo 3"), &[(Stream::Stderr, Stdio::Merged)]);
    let sandbox = runtime.create(&merged).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(output(&sandbox), "1\n2\n3\n");
    assert_eq!(sandbox.captured(Stream::Stderr).unwrap_err().code(), Code::NotFound);
}

#[test]
fn the_outputs_can_be_opened_by_name() {
    let Some(runtime) = runtime() else { return };
    let sandbox = runtime.create(&script("echo out > /dev/stdout; echo err > /dev/stderr")).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0, "{}", text(&sandbox, Stream::Stderr));
    assert_eq!(output(&sandbox), "out\n");
    assert_eq!(text(&sandbox, Stream::Stderr), "err\n");
}

#[test]
fn a_capture_keeps_both_ends_of_ten_megabytes() {
    let Some(runtime) = runtime() else { return };
    let write = "i=0; echo first; head -c 10485760 /dev/zero; echo last";
    let small = Stdio::Capture { head: 100, tail: 50 };
    let sandbox = runtime.create(&with(script(write), &[(Stream::Stdout, small)])).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0);
    eventually("the capture is complete", || sandbox.captured(Stream::Stdout).unwrap().complete);
    let captured = sandbox.captured(Stream::Stdout).unwrap();
    assert_eq!((captured.head.len(), captured.tail.len()), (100, 50));
    assert!(captured.head.starts_with(b"first\n\0") && captured.tail.ends_with(b"\0last\n"));
    assert_eq!(captured.dropped, 10_485_760 + 6 + 5 - 150);
}

#[test]
fn odd_bytes_come_as_they_are() {
    let Some(runtime) = runtime() else { return };
    let sandbox = runtime.create(&script(r"printf '\000\377\n\r\033[2J\303\050'")).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    eventually("the capture is complete", || sandbox.captured(Stream::Stdout).unwrap().complete);
    assert_eq!(sandbox.captured(Stream::Stdout).unwrap().head, b"\0\xff\n\r\x1b[2J\xc3\x28");
}
