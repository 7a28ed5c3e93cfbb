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
use sbx::{Code, Config, Exec, Process, Sandbox, State, Stdio, Stream};

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
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn input_and_outputs_are_descriptors() {
    let runtime = runtime();
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
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn without_an_input_the_program_reads_its_end() {
    let runtime = runtime();
    let sandbox = runtime.create(&script("cat; echo end")).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0);
    assert_eq!(output(&sandbox), "end\n");
    assert_eq!(sandbox.open_stream(Stream::Stdin).unwrap_err().code(), Code::NotFound);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_program_that_ends_without_reading_does_not_kill_the_writer() {
    let runtime = runtime();
    let sandbox = runtime.create(&with(config(&["true"]), &[(Stream::Stdin, Stdio::Descriptor)])).unwrap();
    let mut stdin = UnixStream::from(sandbox.open_stream(Stream::Stdin).unwrap());
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(stdin.write(b"late").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn outputs_can_be_one() {
    let runtime = runtime();
    let merged = with(script("echo 1; echo 2 >&2; echo 3"), &[(Stream::Stderr, Stdio::Merged)]);
    let sandbox = runtime.create(&merged).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    assert_eq!(output(&sandbox), "1\n2\n3\n");
    assert_eq!(sandbox.captured(Stream::Stderr).unwrap_err().code(), Code::NotFound);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_outputs_can_be_opened_by_name() {
    let runtime = runtime();
    let sandbox = runtime.create(&script("echo out > /dev/stdout; echo err > /dev/stderr")).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0, "{}", text(&sandbox, Stream::Stderr));
    assert_eq!(output(&sandbox), "out\n");
    assert_eq!(text(&sandbox, Stream::Stderr), "err\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_capture_keeps_both_ends_of_ten_megabytes() {
    let runtime = runtime();
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
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn odd_bytes_come_as_they_are() {
    let runtime = runtime();
    let sandbox = runtime.create(&script(r"printf '\000\377\n\r\033[2J\303\050'")).unwrap();
    sandbox.wait(PATIENCE).unwrap();
    eventually("the capture is complete", || sandbox.captured(Stream::Stdout).unwrap().complete);
    assert_eq!(sandbox.captured(Stream::Stdout).unwrap().head, b"\0\xff\n\r\x1b[2J\xc3\x28");
}

/// Starts a program of which the host has standard input and output.
fn exec_with_input(sandbox: &Sandbox, command: &[&str]) -> (Process, UnixStream) {
    let mut exec = Exec::new();
    exec.set_command(command).unwrap();
    exec.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
    exec.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
    let process = sandbox.exec(&exec).unwrap();
    let stdin = UnixStream::from(process.open_stream(Stream::Stdin).unwrap());
    stdin.set_nonblocking(false).unwrap();
    (process, stdin)
}

fn said(process: &Process) -> String {
    let captured = process.captured(Stream::Stdout).unwrap();
    String::from_utf8([captured.head, captured.tail].concat()).unwrap()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn standard_input_can_be_opened_by_name() {
    let runtime = runtime();
    let node = "command -v node >/dev/null || exec cat; \
                exec node -e 'process.stdout.write(require(\"fs\").readFileSync(\"/dev/stdin\"))'";
    for user in ["0", "1000"] {
        let mut config = Config::new();
        config.set_user(user).unwrap();
        let sandbox = runtime.create(&config).unwrap();
        for (command, wanted) in [
            (&["cat", "/dev/stdin"][..], "a line\nand more\n"),
            (&["head", "-c", "3", "/dev/stdin"], "a l"),
            (&["sh", "-c", "read -r line < /dev/stdin; echo $line"], "a line\n"),
            (&["python3", "-c", "print(open('/dev/stdin').read(), end='')"], "a line\nand more\n"),
            (&["sh", "-c", node], "a line\nand more\n"),
            (&["cat", "/proc/self/fd/0"], "a line\nand more\n"),
        ] {
            let (process, mut stdin) = exec_with_input(&sandbox, command);
            stdin.write_all(b"a line\nand more\n").unwrap();
            drop(stdin);
            let code = process.wait(PATIENCE).unwrap().code;
            assert_eq!((said(&process).as_str(), code), (wanted, 0), "{command:?} as {user}");
        }
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_hundred_megabytes_come_through_unchanged() {
    let runtime = runtime();
    let both = [Stream::Stdin, Stream::Stdout].map(|stream| (stream, Stdio::Descriptor));
    let sandbox = runtime.create(&with(config(&["cat"]), &both)).unwrap();
    let mut stdin = UnixStream::from(sandbox.open_stream(Stream::Stdin).unwrap());
    let mut stdout = std::fs::File::from(sandbox.open_stream(Stream::Stdout).unwrap());
    stdin.set_nonblocking(false).unwrap();
    let block: Vec<u8> = (0..1_000_003_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let (sent, count) = (block.clone(), 105);
    let writer = std::thread::spawn(move || (0..count).for_each(|_| stdin.write_all(&sent).unwrap()));
    let (mut got, mut buffer, begin) = (0_usize, vec![0; 1 << 16], Instant::now());
    loop {
        match stdout.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                let wanted = block.iter().cycle().skip(got % block.len()).take(read);
                assert!(buffer[..read].iter().eq(wanted), "after {got} bytes");
                got += read;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                assert!(begin.elapsed() < 4 * PATIENCE.unwrap(), "the stream never ended");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    writer.join().unwrap();
    assert_eq!(got, block.len() * count);
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_input_that_is_closed_inside_is_broken_outside() {
    let runtime = runtime();
    // With a time to be idle the library has the stream open too.
    for idle in [None, Some(Duration::from_secs(1000))] {
        let mut config =
            with(script("exec 0<&-; echo closed; sleep 1000"), &[(Stream::Stdin, Stdio::Descriptor)]);
        if let Some(idle) = idle {
            config.set_idle_timeout(idle).unwrap();
        }
        let sandbox = runtime.create(&config).unwrap();
        let mut stdin = UnixStream::from(sandbox.open_stream(Stream::Stdin).unwrap());
        eventually("the writer is told", || {
            stdin.write(b"x").is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
        });
        assert_eq!(sandbox.state(), State::Running);
    }
    let sandbox = runtime.create(&Config::new()).unwrap();
    let (process, mut stdin) = exec_with_input(&sandbox, &["true"]);
    process.wait(PATIENCE).unwrap();
    assert_eq!(stdin.write(b"late").unwrap_err().kind(), ErrorKind::BrokenPipe, "at once");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_input_outlives_its_program_with_who_still_reads_it() {
    let runtime = runtime();
    let sandbox = runtime.create(&Config::new()).unwrap();
    let behind = "exec 3<&0; { cat; echo end; } <&3 >/tmp/got &";
    let (process, mut stdin) = exec_with_input(&sandbox, &["sh", "-c", behind]);
    assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
    stdin.write_all(b"to what is left ").unwrap();
    drop((stdin, process));
    let wait = "until grep -q end /tmp/got; do sleep 0.05; done; cat /tmp/got";
    let (process, _stdin) = exec_with_input(&sandbox, &["sh", "-c", wait]);
    process.wait(PATIENCE).unwrap();
    assert_eq!(said(&process), "to what is left end\n");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn fifty_inputs_at_once_are_kept_apart_and_leave_nothing() {
    let runtime = runtime();
    let sandbox = runtime.create(&Config::new()).unwrap();
    let count = |sandbox: &Sandbox| {
        let (process, _stdin) = exec_with_input(sandbox, &["sh", "-c", "ls /proc/1/fd | wc -l"]);
        process.wait(PATIENCE).unwrap();
        said(&process).trim().parse::<usize>().unwrap()
    };
    let before = count(&sandbox);
    for round in 0..2 {
        let all: Vec<_> = (0..50)
            .map(|number| {
                let (process, mut stdin) =
                    exec_with_input(&sandbox, &["sh", "-c", "read -r line; echo $line"]);
                stdin.write_all(format!("number {number}").as_bytes()).unwrap();
                (number, process, stdin)
            })
            .collect();
        for (number, process, mut stdin) in all {
            stdin.write_all(b"\n").unwrap();
            // Once the host ends it, once the program.
            let _kept = (round == 0).then_some(stdin);
            assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
            assert_eq!(said(&process), format!("number {number}\n"));
        }
        eventually("init has no descriptor more than before", || count(&sandbox) == before);
    }
}
