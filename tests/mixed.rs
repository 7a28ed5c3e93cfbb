//! Everything at the same time, for an hour: sandboxes created warm and cold, programs, tunnels, what leaves, changes of
//! policies, files, deaths. Nothing grows. A few seconds of it without `SBX_LONG`; `SBX_MIXED_SECONDS` sets another time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail the test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    children_of, client, command_line, config, eventually, is_sentry, output, runtime, script, servers,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sbx::{Config, Exec, ExitReason, FileOptions, Policy, PortKind, Runtime, Sandbox, Stdio, Stream, Tunnel};

/// The machine is busy.
const LONG: Option<Duration> = Some(Duration::from_secs(300));
/// Members of the warm pool.
const MEMBERS: u32 = 2;
/// How many more descriptors the process may have at the end, and how much more of its own memory: what a tunnel has in
/// stock, what an allocator keeps.
const SLACK_DESCRIPTORS: usize = 64;
const SLACK_KIB: u64 = 8 * 1024;
/// How many more processes gVisor may keep below its sentries: one for each address space that was in use at the same time.
const SLACK_STUBS: usize = 16;

fn seconds() -> u64 {
    let given = std::env::var("SBX_MIXED_SECONDS").ok().map(|text| text.parse().unwrap());
    given.unwrap_or(if std::env::var_os("SBX_LONG").is_some() { 3600 } else { 8 })
}

/// What all who work share.
struct Load {
    runtime: Runtime,
    /// The sandbox that stays, with its tunnel and what it says to a service of the host.
    standing: Sandbox,
    tunnel: Tunnel,
    service: u16,
    is_over: AtomicBool,
    /// Held while something is done, so that a look finds nothing under way.
    turn: RwLock<()>,
    done: [AtomicU64; KINDS.len()],
}

/// What each of them does, again and again.
type Work = fn(&Load, u64);
const KINDS: [(&str, Work); 8] = [
    ("cold", cold),
    ("warm", warm),
    ("execs", exec),
    ("tunnels", tunnel),
    ("egress", egress),
    ("policies", policy),
    ("files", files),
    ("deaths", death),
];

fn cold(load: &Load, count: u64) {
    let mut config = script(&format!("echo cold {count}"));
    config.set_hostname("cold").unwrap();
    let sandbox = load.runtime.create(&config).unwrap();
    assert_eq!(sandbox.wait(LONG).unwrap().code, 0);
    assert_eq!(output(&sandbox), format!("cold {count}\n"));
}

fn warm(load: &Load, count: u64) {
    let sandbox = load.runtime.create(&script(&format!("echo warm {count}; exit 3"))).unwrap();
    assert_eq!(sandbox.wait(LONG).unwrap().code, 3);
    assert_eq!(output(&sandbox), format!("warm {count}\n"));
}

fn exec(load: &Load, count: u64) {
    let mut exec = Exec::new();
    exec.set_command(["sh", "-c", &format!("echo {count}; exit {}", count % 100)]).unwrap();
    let process = if count.is_multiple_of(3) {
        exec.set_pty(24, 80).unwrap();
        let process = load.standing.exec(&exec).unwrap();
        drop(process.open_terminal().unwrap());
        process
    } else {
        exec.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
        load.standing.exec(&exec).unwrap()
    };
    let code = process.wait(LONG).unwrap().code;
    // A program whose terminal is closed may get SIGHUP before its end.
    assert!(
        u64::try_from(code).unwrap() == count % 100 || (count.is_multiple_of(3) && code == 129),
        "{code}"
    );
}

fn tunnel(load: &Load, _: u64) {
    let mut stream = client::tcp(&load.tunnel);
    assert_eq!(client::echo(&mut stream).unwrap(), "hello\n");
}

fn egress(load: &Load, _: u64) {
    // The service answers; what the policy denies is refused, whatever the policy is at the moment.
    let program = format!(
        "import socket\n\
         s = socket.create_connection(('192.0.0.1', {}), 60); assert s.recv(9) == b'served', 'service'\n\
         d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); d.sendto(b'x', ('10.9.9.9', 9))\n\
         try: socket.create_connection(('10.9.9.9', 80), 60); raise SystemExit(9)\n\
         except OSError: pass",
        load.service
    );
    let mut exec = Exec::new();
    exec.set_command(["python3", "-c", &program]).unwrap();
    exec.set_stdio(Stream::Stderr, Stdio::capture()).unwrap();
    let process = load.standing.exec(&exec).unwrap();
    let code = process.wait(LONG).unwrap().code;
    assert_eq!(code, 0, "{}", String::from_utf8_lossy(&process.captured(Stream::Stderr).unwrap().head));
}

fn policy(load: &Load, count: u64) {
    let mut policy = Policy::allowlist();
    let net = count % 200;
    policy.allow_cidr(&format!("198.51.{net}.0/24")).unwrap();
    policy.allow_domain("a.example").unwrap();
    load.standing.set_policy(&policy).unwrap();
    let (read, _) = load.standing.policy().unwrap();
    assert_eq!(read, policy);
}

fn files(load: &Load, count: u64) {
    let (path, options) = (format!("/tmp/file-{count}"), FileOptions::new());
    let content = vec![b'x'; 1 + usize::try_from(count % 100_000).unwrap()];
    load.standing.write_file(&path, &content, &options).unwrap();
    assert_eq!(load.standing.read_file(&path, &options).unwrap(), content);
    load.standing.remove_file(&path, &options).unwrap();
}

fn death(load: &Load, count: u64) {
    let mut config = config(&["sleep", "1000"]);
    config.set_hostname("dies").unwrap();
    let sandbox = load.runtime.create(&config).unwrap();
    if count.is_multiple_of(2) {
        sandbox.terminate().unwrap();
        assert_eq!(sandbox.wait(LONG).unwrap().reason, ExitReason::Terminated);
    } else {
        // Its sentry, its runsc: whatever has its id on the command line.
        for pid in processes_of(sandbox.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        assert_eq!(sandbox.wait(LONG).unwrap().reason, ExitReason::EngineLost);
    }
}

/// The processes whose command line has the id in it.
fn processes_of(id: &str) -> Vec<i32> {
    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(id)
    })
    .collect()
}

/// How many processes there are below this one, without and with those below a sentry.
fn below(pid: u32) -> (usize, usize) {
    let is_sentry = is_sentry(&command_line(pid));
    children_of(pid).into_iter().fold((0, 0), |(without, with), child| {
        let (own, all) = below(child);
        (if is_sentry { 0 } else { without + 1 + own }, with + 1 + all)
    })
}

/// What there is while nothing is under way.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    threads: u64,
    /// Processes of the sandboxes that stay, and of the pool: not those below sentries.
    processes: usize,
    /// Files where the library or runsc could leave some, and links of this network namespace.
    files: usize,
    links: usize,
    sandboxes: usize,
    /// Entries of the standing sandbox's rules.
    rules: usize,
}

fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn count_in(directory: impl AsRef<std::path::Path>) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

/// This process's descriptors by kind. A tunnel keeps sockets in stock, as many as it has needed of late.
fn descriptors() -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let link = fs::read_link(entry.path()).unwrap_or_default();
        let text = link.to_string_lossy();
        let kind = text.split(['[', '(']).next().unwrap_or_default().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// What may be a little more at a later look.
#[derive(Debug)]
struct Varying {
    descriptors: BTreeMap<String, usize>,
    kib: u64,
    /// All processes, those below sentries too.
    processes: usize,
}

impl Varying {
    fn now() -> Self {
        let processes = below(std::process::id()).1;
        Self { descriptors: descriptors(), kib: status("RssAnon:"), processes }
    }

    fn check(&self, first: &Self) {
        let [before, now] = [first, self].map(|of| of.descriptors.values().sum::<usize>());
        assert!(now <= before + SLACK_DESCRIPTORS, "descriptors grow: {first:?}, then {self:?}");
        assert!(self.kib <= first.kib + SLACK_KIB, "memory grows: {first:?}, then {self:?}");
        assert!(self.processes <= first.processes + SLACK_STUBS, "processes grow: {first:?}, then {self:?}");
    }
}

impl Load {
    fn held(&self) -> Held {
        Held {
            threads: status("Threads:"),
            processes: below(std::process::id()).0,
            files: count_in(std::env::temp_dir()) + count_in("/dev/shm"),
            links: count_in("/sys/class/net"),
            sandboxes: self.runtime.sandboxes().len(),
            rules: self.standing.policy().unwrap().0.entries().len(),
        }
    }

    /// Waits until nothing is under way and the pool is full, and looks.
    fn look(&self) -> (Held, Varying) {
        let _all = self.turn.write().unwrap();
        // Of the same size at each look.
        policy(self, 0);
        let begin = Instant::now();
        let mut last = self.held();
        loop {
            thread::sleep(Duration::from_millis(300));
            let stats = self.runtime.warm_stats(None);
            let now = self.held();
            // Threads for plans and the like end by themselves.
            if now == last && now.sandboxes == 1 && (stats.ready, stats.filling) == (MEMBERS, 0) {
                return (now, Varying::now());
            }
            assert!(begin.elapsed() < LONG.unwrap(), "it does not come to rest: {now:?}, {stats:?}");
            last = now;
        }
    }

    fn work(&self, kind: usize) {
        let (Some((_, work)), Some(done)) = (KINDS.get(kind), self.done.get(kind)) else { return };
        while !self.is_over.load(Ordering::Relaxed) {
            let turn: RwLockReadGuard<'_, ()> = self.turn.read().unwrap();
            work(self, done.load(Ordering::Relaxed));
            done.fetch_add(1, Ordering::Relaxed);
            drop(turn);
            // A lock that is read again at once would leave no gap to write.
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Ends the work, by a panic too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn under_mixed_load_nothing_grows() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().to_string();
    thread::spawn(move || listener.incoming().flatten().for_each(|mut one| drop(one.write_all(b"served"))));
    let runtime = runtime();
    let mut standing = servers(&["echo 7000"]);
    standing.add_port(7000, PortKind::Unencrypted).unwrap().set_hostname("standing").unwrap();
    standing.set_timeout(Duration::from_secs(1 << 20)).unwrap().add_host_service(8080, &here).unwrap();
    let standing = runtime.create(&standing).unwrap();
    standing.wait_ready(LONG).unwrap();
    let tunnel = standing.tunnels(LONG).unwrap().get(7000).unwrap().clone();
    runtime.keep_warm(&Config::new(), MEMBERS).unwrap();
    eventually("the pool is full", || runtime.warm_stats(None).ready == MEMBERS);
    let (is_over, turn, done) = (AtomicBool::new(false), RwLock::default(), Default::default());
    let load = Load { runtime, standing, tunnel, service: 8080, is_over, turn, done };
    let (begin, time) = (Instant::now(), Duration::from_secs(seconds()));
    thread::scope(|scope| {
        let _over = Over(&load.is_over);
        for kind in 0..KINDS.len() {
            let load = &load;
            scope.spawn(move || {
                let _over = Over(&load.is_over);
                load.work(kind);
            });
        }
        // What is made once is there after a while.
        thread::sleep(time / 8);
        let (first, first_varying) = load.look();
        println!("{:?}: {first:?}, {first_varying:?}", begin.elapsed());
        while begin.elapsed() < time && !load.is_over.load(Ordering::Relaxed) {
            thread::sleep((time / 8).min(Duration::from_secs(60)));
            let (held, varying) = load.look();
            println!("{:?}: {held:?}, {varying:?}", begin.elapsed());
            assert_eq!(held, first);
            varying.check(&first_varying);
        }
    });
    let stats = load.runtime.warm_stats(None);
    for ((name, _), done) in KINDS.iter().zip(&load.done) {
        let done = done.load(Ordering::Relaxed);
        println!("{name}: {done}");
        assert!(done > 0, "{name}");
    }
    println!("{stats:?}");
    assert!(stats.hits > 0 && stats.failures == 0, "{stats:?}");
    load.standing.terminate().unwrap();
    load.standing.wait(LONG).unwrap();
}
