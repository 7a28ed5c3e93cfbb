//! An init that says about programs and files what it likes: a program in the place of runsc, which speaks on init's
//! channel. And what a program can do to the real one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::process::Command;
use std::time::Duration;

use common::images::{Tar, TestStore};
use common::{PATIENCE, Scratch, eventually};
use sbx::{
    Code, Config, Event, Exec, ExitReason, FileOptions, Image, ImageOptions, LimitMode, Queue, Runtime,
    RuntimeConfig, Sandbox, State, Stdio, Stream,
};

/// A static program, as runsc has to be: the real one for every question, a hostile init when it is to run a
/// sandbox. Each message has a byte before it that says that it is whole.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static unsigned char message[70000];
/* The helper's two sockets of an operation on files: what it answers on, and the archive's stream. */
static int answers, stream;
static void answer(const void *bytes, int length) {
    send(answers, bytes, length, MSG_NOSIGNAL);
}
static void done(uint64_t count) {
    unsigned char bytes[26] = {0};
    for (int i = 0; i < 3; i++) memcpy(bytes + 2 + 8 * i, &count, 8);
    answer(bytes, sizeof bytes);
}
static int put(const void *bytes, int length) {
    return send(stream, bytes, length, MSG_NOSIGNAL) == length;
}
/* The header of a tar archive's entry, with a size in twelve digits of its own. */
static int entry(const char *name, char kind, const char *size) {
    unsigned char header[512] = {0};
    unsigned sum = 8 * ' ';
    strncpy((char *)header, name, 99);
    memcpy(header + 100, "0000644\0" "0000000\0" "0000000\0", 24);
    memcpy(header + 124, size, 12);
    memcpy(header + 136, "00000000000", 12);
    header[156] = kind;
    memcpy(header + 257, "ustar\0" "00", 8);
    for (int i = 0; i < 512; i++) sum += i >= 148 && i < 156 ? 0 : header[i];
    snprintf((char *)header + 148, 8, "%06o", sum);
    return put(header, sizeof header);
}
static void on_files(int what) {
    unsigned char chunk[65536];
    memset(chunk, 0xa5, sizeof chunk);
    switch (what) {
        /* No archive. */
        case 'a': for (int i = 0; i < 16; i++) put(chunk, sizeof chunk); done(1); break;
        /* One that ends in the middle of a file. */
        case 'b': entry("x", '0', "00000010000"); put(chunk, 10); done(1); break;
        /* A file of eight exabytes. */
        case 'c': entry("x", '0', "\x80\0\0\0\x7f\0\0\0\0\0\0"); put(chunk, sizeof chunk); done(1); break;
        /* Names without an end. */
        case 'd': for (unsigned i = 0; ; i++) {
            char name[32];
            snprintf(name, sizeof name, "%u", i);
            if (!entry(name, '0', "00000000000")) break;
        } break;
        /* A long name that is longer than any. */
        case 'e': entry("x", 'L', "77777777777"); while (put(chunk, sizeof chunk)); break;
        /* An answer that is none. */
        case 'f': answer(chunk, 3000); break;
        /* Two answers, with numbers that can't be. */
        case 'g': done(UINT64_MAX); done(UINT64_MAX); entry("x", '0', "00000010000"); break;
        /* A failure that it makes up, with a path that isn't one. */
        case 'h': answer("\0\2\4\34\0\0\0\4\0\0\0/\x1b[m", 15); break;
        /* The end at once. */
        case 'i': break;
        /* All of it, as an honest one, with sums that can't be. */
        case 'j': while (recv(stream, chunk, sizeof chunk, 0) > 0); done(UINT64_MAX); break;
        /* All of an archive, and then only that it works. */
        case 'x': memset(chunk, 0, 1024); put(chunk, 1024); close(stream);
            for (;;) { answer("\0\3", 2); usleep(500000); } break;
        /* Nothing any more. */
        case 'y': entry("x", '0', "00000010000"); pause(); break;
        /* Nothing any more, but that it works. */
        case 'z': entry("x", '0', "00000010000"); for (;;) { answer("\0\3", 2); usleep(500000); } break;
    }
}
/* A message with its descriptors. */
static ssize_t next(void) {
    char control[CMSG_SPACE(32 * sizeof(int))];
    struct iovec bytes = {message, sizeof message};
    struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(0, &header, 0);
    answers = stream = -1;
    struct cmsghdr *found = length > 0 ? CMSG_FIRSTHDR(&header) : 0;
    if (found && found->cmsg_type == SCM_RIGHTS) {
        int count = (found->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (count > 0) memcpy(&answers, CMSG_DATA(found), sizeof(int));
        if (count > 1) memcpy(&stream, CMSG_DATA(found) + sizeof(int), sizeof(int));
    }
    return length;
}
static void say(unsigned char kind, uint32_t id, int32_t status, int length) {
    unsigned char bytes[16] = {0, kind};
    memcpy(bytes + 2, &id, 4);
    if (kind == 2) { bytes[6] = 4; memcpy(bytes + 7, &status, 4); } else memcpy(bytes + 6, &status, 4);
    while (write(0, bytes, length) < 0) usleep(100);
}
static void counted(uint32_t ticket, uint64_t count) {
    unsigned char bytes[15] = {0, 6, 0, 0, 0, 0, 1};
    memcpy(bytes + 2, &ticket, 4);
    memcpy(bytes + 7, &count, 8);
    while (write(0, bytes, sizeof bytes) < 0) usleep(100);
}
#define STARTED(id) say(1, id, 0, 6)
#define NOT_STARTED(id) say(2, id, 2, 11)
#define EXITED(id, status) say(3, id, status, 10)
int main(int argc, char **argv) {
    int run = 0, bundle = 0;
    for (int i = 1; i < argc; i++) {
        run |= !strcmp(argv[i], "run");
        bundle |= !strncmp(argv[i], "--bundle", 8) || !strncmp(argv[i], "-bundle", 7);
    }
    if (!run || !bundle) { execv(REAL, argv); return 127; }
    write(0, "\0\0", 2);
    for (;;) {
        uint32_t id;
        ssize_t length = next();
        if (length == 0) return 0;
        if (length < 6) { usleep(1000); continue; }
        memcpy(&id, message + 2, 4);
        if (message[1] == 0) { ACT; }
        if (message[1] == 6) say(7, id, 0, 6);
        if (message[1] == 5) { counted(id + 1, 5); counted(id, 65537); counted(id, 5); }
        if (message[1] == 16 && FILES) {
            unsigned char *path = memmem(message, length, "/hostile-", 9);
            if (path && fork() == 0) { on_files(path[9]); _exit(0); }
            close(answers);
            close(stream);
        }
    }
}
"#;

/// A sandbox without a command whose init does this when it is to start a program.
fn sandbox(scratch: &Scratch, act: &str) -> (Runtime, Sandbox) {
    let runtime = Runtime::new(&RuntimeConfig::new().runsc(program(scratch, act, 0))).unwrap();
    let sandbox = runtime.create(&Config::new()).unwrap();
    (runtime, sandbox)
}

/// The program, for runsc's place. `files` says whether it does what a path asks for.
fn program(scratch: &Scratch, act: &str, files: u8) -> String {
    let (source, path) = (scratch.file("runsc.c", PROGRAM), scratch.path("runsc"));
    let built = Command::new("cc")
        .args([
            "-static",
            "-o",
            &path,
            &format!("-DACT={act}"),
            &format!("-DFILES={files}"),
            &format!("-DREAL={:?}", common::runsc()),
            &source,
        ])
        .status()
        .unwrap();
    assert!(built.success());
    path
}

fn exec() -> Exec {
    let mut exec = Exec::new();
    exec.set_command(["true"]).unwrap();
    exec
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_says_nothing_keeps_no_time_out() {
    let scratch = Scratch::new("says-nothing");
    let (_runtime, sandbox) = sandbox(&scratch, "STARTED(id)");
    let mut short = exec();
    short.set_timeout(Duration::from_millis(20)).unwrap();
    let exit = sandbox.exec(&short).unwrap().wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::TimedOut, 124));
    // It may go on inside: so the sandbox doesn't.
    assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, ExitReason::EngineLost);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_does_not_answer_holds_nobody_beyond_the_sandbox() {
    let scratch = Scratch::new("no-answer");
    let (_runtime, sandbox) = sandbox(&scratch, "id = 0");
    let begun: Vec<_> = (0..100).map(|_| sandbox.exec_begin(&exec()).unwrap()).collect();
    for process in &begun {
        process.signal(9).unwrap();
        assert_eq!(process.wait_started(Some(Duration::ZERO)).unwrap_err().code(), Code::TimedOut);
    }
    sandbox.terminate().unwrap();
    for process in &begun {
        assert_eq!(process.wait(PATIENCE).unwrap_err().code(), Code::State);
    }
    assert_eq!(sandbox.wait(PATIENCE).unwrap().reason, ExitReason::Terminated);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_says_that_it_is_there_and_answers_nothing_else_is_lost() {
    let scratch = Scratch::new("only-there");
    let (_runtime, sandbox) = sandbox(&scratch, "id = 0");
    let begun = sandbox.exec_begin(&exec()).unwrap();
    // Nor does one live that was asked to kill a program, and says nothing of its end.
    let (_second, other) = self::sandbox(&scratch, "STARTED(id)");
    let killed = other.exec(&exec()).unwrap();
    killed.signal(9).unwrap();
    assert_eq!(killed.wait(PATIENCE.map(|patience| patience * 5)).unwrap().reason, ExitReason::EngineLost);
    // Half a minute, and what a busy machine adds.
    let exit = sandbox.wait(PATIENCE.map(|patience| patience * 5)).unwrap();
    assert_eq!((exit.reason, exit.code), (ExitReason::EngineLost, 137));
    assert!(begun.wait(PATIENCE).is_err());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn one_that_stops_reading_holds_up_its_own_files_and_nobody_elses() {
    let scratch = Scratch::new("stops-reading");
    let (_runtime, sandbox) = sandbox(&scratch, "pause()");
    let runtime = common::runtime();
    let other = runtime.create(&Config::new()).unwrap();
    let _begun = sandbox.exec_begin(&exec()).unwrap();
    let options = FileOptions::new().time_limit(Duration::from_millis(1));
    for _ in 0..500 {
        let code = sandbox.read_file("/x", &options).unwrap_err().code();
        assert!(matches!(code, Code::TimedOut | Code::Limit), "{code:?}");
    }
    assert_eq!(other.exec(&exec()).unwrap().wait(PATIENCE).unwrap().code, 0);
    other.write_file("/x", b"x", &FileOptions::default()).unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_limit_of_memory_that_can_not_be_watched_is_an_error() {
    let scratch = Scratch::new("unwatched");
    let (runtime, _) = sandbox(&scratch, "STARTED(id)");
    let mut config = Config::new();
    config.set_memory(64 << 20).unwrap();
    if runtime.create(&config).is_ok() {
        // A control group holds the limit here.
        return;
    }
    config.set_limit_mode(LimitMode::Watchdog);
    let refused = runtime.create(&config).unwrap_err();
    assert_eq!(refused.code(), Code::Host);
    assert!(refused.to_string().contains("can't be held by watching"), "{refused}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_first_word_on_an_end_counts_and_there_is_one_event() {
    let scratch = Scratch::new("many-words");
    let act = "STARTED(id); STARTED(id); EXITED(id, 7 << 8); EXITED(id, 0); NOT_STARTED(id); STARTED(id)";
    let (_runtime, sandbox) = sandbox(&scratch, act);
    let queue = Queue::new(64).unwrap();
    for cookie in 0..50 {
        let mut exec = exec();
        exec.set_queue(&queue, cookie).unwrap();
        assert_eq!(sandbox.exec(&exec).unwrap().wait(PATIENCE).unwrap().code, 7);
    }
    let mut events = Vec::new();
    eventually("all ends are told", || {
        events.extend(std::iter::from_fn(|| queue.next()));
        events.len() >= 100
    });
    assert_eq!(events.len(), 100);
    let is_due =
        |event: &Event| matches!(event, Event::ProcessStarted | Event::ProcessExited { code: 7, .. });
    assert!(events.iter().all(|queued| is_due(&queued.event)), "{events:?}");
    assert_eq!(sandbox.state(), State::Running);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_end_before_the_start_is_an_end() {
    let scratch = Scratch::new("early-end");
    let (_runtime, sandbox) = sandbox(&scratch, "EXITED(id, 9)");
    let exit = sandbox.exec(&exec()).unwrap().wait(PATIENCE).unwrap();
    assert_eq!((exit.reason, exit.code, exit.signal), (ExitReason::Signalled, 137, 9));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn words_on_programs_that_nobody_asked_for_mean_nothing() {
    let scratch = Scratch::new("strangers");
    let act = "for (uint32_t at = 1000; at < 9000; at++) { STARTED(at); EXITED(at * 77777u | 1024, 0); NOT_STARTED(~at); } \
               STARTED(id); EXITED(id, 0)";
    let (_runtime, sandbox) = sandbox(&scratch, act);
    for _ in 0..5 {
        assert_eq!(sandbox.exec(&exec()).unwrap().wait(PATIENCE).unwrap().code, 0);
    }
    assert_eq!(sandbox.state(), State::Running);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn more_processes_than_there_can_be_are_not_believed() {
    let scratch = Scratch::new("many-processes");
    let (_runtime, sandbox) = sandbox(&scratch, "STARTED(id)");
    for _ in 0..5 {
        assert_eq!(sandbox.stats().unwrap().processes, None);
    }
    assert_eq!(sandbox.state(), State::Running);
}

/// A store of images, and a sandbox whose init does with a directory's archive what the directory's name asks for.
struct Hostile {
    store: TestStore,
    sandbox: Sandbox,
    image: Image,
    _runtime: Runtime,
}

impl Hostile {
    fn new(name: &str) -> Self {
        let store = TestStore::new(name);
        let path = store.scratch.0.join("root.tar");
        let large: Vec<u8> = (0..4_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
        std::fs::write(&path, Tar::default().file("large", 0o644, (0, 0), &large).finish()).unwrap();
        let image = store.runtime.import_image(path, &ImageOptions::new()).unwrap();
        let program = program(&store.scratch, "STARTED(id)", 1);
        let config = RuntimeConfig::new().runsc(program).image_directory(store.scratch.0.join("images"));
        let runtime = Runtime::new(&config).unwrap();
        let mut config = Config::new();
        config.set_timeout(Duration::from_secs(1800)).unwrap();
        let sandbox = runtime.create(&config).unwrap();
        Self { store, sandbox, image, _runtime: runtime }
    }

    /// Nothing is left of an operation, and what was there is.
    fn nothing_is_left(&self, what: &str) {
        eventually(what, || self.store.left().0.is_empty());
        assert_eq!(self.store.left().1.len(), 2, "{what}: the image's file and its record");
        let helpers = || common::children().iter().filter(|name| name.contains("sbx-image")).count();
        eventually(what, || helpers() == 0);
        self.store.runtime.find_image(self.image.id()).unwrap();
        assert_eq!(self.sandbox.state(), State::Running, "{what}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_forged_archive_of_a_directory_is_an_error_and_leaves_nothing() {
    let hostile = Hostile::new("forges");
    for (what, codes) in [
        ('a', &[Code::Image][..]),
        ('b', &[Code::Image]),
        ('c', &[Code::Limit, Code::Image]),
        // The library has read enough, and the other end does not say what it makes of that.
        ('d', &[Code::Limit, Code::Engine]),
        ('e', &[Code::Limit, Code::Image, Code::Engine]),
        ('f', &[Code::Engine]),
        ('g', &[Code::Engine, Code::Image]),
        ('h', &[Code::System]),
        ('i', &[Code::Engine]),
    ] {
        let taken = hostile.sandbox.snapshot_directory(format!("/hostile-{what}"), Some("forged:1"));
        let error = taken.map(|taken| panic!("{what}: {taken:?}")).unwrap_err();
        assert!(codes.contains(&error.code()), "{what}: {:?} {error}", error.code());
        assert!(error.message().contains("/hostile-") && error.message().len() < 2000, "{what}: {error}");
        assert!(!error.message().contains(char::is_control), "{what}: {error}");
        hostile.nothing_is_left(&format!("{what} has left something"));
        assert_eq!(hostile.store.runtime.find_image("forged:1").unwrap_err().code(), Code::NotFound);
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_image_that_is_copied_to_a_hostile_init_is_an_error_or_what_it_says() {
    let hostile = Hostile::new("copies");
    for (what, codes) in [('f', &[Code::Engine][..]), ('h', &[Code::System]), ('i', &[Code::Engine])] {
        let error = hostile.sandbox.copy_image(&hostile.image, format!("/hostile-{what}")).unwrap_err();
        assert!(codes.contains(&error.code()), "{what}: {:?} {error}", error.code());
        hostile.nothing_is_left(&format!("{what} has left something"));
    }
    // It says that it has them. The counts are its own, and reach nothing else.
    let copied = hostile.sandbox.copy_image(&hostile.image, "/hostile-j").unwrap();
    assert_eq!((copied.bytes, copied.skipped), (u64::MAX, 0));
    // It says so before it has them.
    let copied = hostile.sandbox.copy_image(&hostile.image, "/hostile-g");
    assert!(copied.is_err(), "{copied:?}");
    hostile.nothing_is_left("a forged answer has left something");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_archive_that_stalls_is_given_up_at_once() {
    let hostile = Hostile::new("stalls");
    for what in ['y', 'z'] {
        let path = format!("/hostile-{what}");
        let taken = hostile.sandbox.snapshot_directory_begin(&path, None, None).unwrap();
        let copied = hostile.sandbox.copy_image_begin(&hostile.image, &path, None).unwrap();
        assert_eq!(taken.wait(Some(Duration::from_millis(300))).unwrap_err().code(), Code::TimedOut);
        taken.cancel();
        copied.cancel();
        assert_eq!(taken.wait(PATIENCE).unwrap_err().code(), Code::Closed);
        assert_eq!(copied.wait(PATIENCE).unwrap_err().code(), Code::Closed);
        hostile.nothing_is_left("what was given up has left something");
    }
}

#[test]
#[ignore = "lasts five minutes"]
fn an_archive_that_stalls_ends_by_itself() {
    let hostile = Hostile::new("stands");
    let begun: Vec<_> = ['x', 'y', 'z']
        .map(|what| {
            let path = format!("/hostile-{what}");
            let taken = hostile.sandbox.snapshot_directory_begin(&path, None, None).unwrap();
            (what, taken, hostile.sandbox.copy_image_begin(&hostile.image, &path, None).unwrap())
        })
        .into();
    // Some of them wait for others.
    let patience = Some(Duration::from_secs(900));
    for (what, taken, copied) in begun {
        let ended = [taken.wait(patience).unwrap_err(), copied.wait(patience).unwrap_err()];
        for error in ended {
            assert!(
                matches!(error.code(), Code::TimedOut | Code::Image | Code::Engine),
                "{what}: {:?} {error}",
                error.code()
            );
        }
    }
    hostile.nothing_is_left("what has stalled has left something");
}

/// Tries every way to another process's descriptors and memory, and prints what worked.
const REACH: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if libc.syscall(*arguments) >= 0: print(name)
def opened(name, flags=os.O_RDONLY):
    try: print("opened", name, os.open("/proc/1/" + name, flags))
    except OSError: pass
for number in range(64):
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR): opened("fd/%d" % number, flags)
    try: print(os.readlink("/proc/1/fd/%d" % number))
    except OSError: pass
for name in ("mem", "environ", "maps", "auxv", "root/etc/passwd", "cwd/etc/passwd"): opened(name)
PIDFD_OPEN, PIDFD_GETFD, PTRACE, READ, WRITE = 434, 438, *NUMBERS
call("attached", PTRACE, 16, 1, 0, 0)
call("seized", PTRACE, 0x4206, 1, 0, 0)
pidfd = libc.syscall(PIDFD_OPEN, 1, 0)
if pidfd >= 0:
    for number in range(64): call("got %d" % number, PIDFD_GETFD, pidfd, number, 0)
class Vector(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
buffer = ctypes.create_string_buffer(8)
local, remote = Vector(ctypes.addressof(buffer), 8), Vector(0x400000, 8)
for number in (READ, WRITE): call("moved", number, 1, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
held = [fd for fd in os.listdir("/proc/self/fd") if fd not in ("0", "1", "2", str(pidfd))]
# The last is of the listing itself.
print("tried", len(held))
"#;

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn the_real_init_is_out_of_a_programs_reach() {
    let runtime = common::runtime();
    let sandbox = runtime.create(&Config::new()).unwrap();
    // ptrace, process_vm_readv and process_vm_writev.
    let numbers = if cfg!(target_arch = "aarch64") { "117, 270, 271" } else { "101, 310, 311" };
    let script = REACH.replace("*NUMBERS", numbers);
    for user in ["0", "1000"] {
        let mut exec = Exec::new();
        exec.set_command(["python3", "-c", &script]).unwrap().set_user(user).unwrap();
        exec.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
        exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
        exec.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
        let process = sandbox.exec(&exec).unwrap();
        assert_eq!(process.wait(PATIENCE).unwrap().code, 0);
        let said = String::from_utf8(process.captured(Stream::Stdout).unwrap().head).unwrap();
        assert_eq!(said, "tried 1\n", "as {user}");
    }
}
