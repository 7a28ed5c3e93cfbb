//! The process as it is, and what it may meet: archives, cancellation, a host that is killed. One file: each test runs the same
//! process with steps of its own.

mod limits;
mod lost;

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::{self, Stdio};
use std::thread;

use super::*;
use crate::image::convert;
use crate::keeper::Origin;
use crate::keeper::tar::{Entry, Kind, padding};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Set for the program that plays the host.
const HOST: &str = "SBX_TEST_IMAGE_HOST";

fn program() -> Program {
    Program::new(&Origin::new(None)).unwrap()
}

/// A file without a name.
fn file() -> File {
    let directory = std::env::temp_dir();
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(directory).unwrap()
}

fn holding(bytes: &[u8]) -> File {
    let file = file();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn output(file: &File) -> OwnedFd {
    file.try_clone().unwrap().into()
}

fn start(limits: &Limits) -> Helper {
    Helper::start(&program(), file().into(), limits).unwrap()
}

fn start_with(output: &File, change: impl FnOnce(&mut Resources)) -> Helper {
    let limits = Limits::default();
    let mut resources = limits.resources();
    change(&mut resources);
    Helper::start_with(&program(), output.try_clone().unwrap().into(), &limits, resources).unwrap()
}

/// Calls a step that isn't cancelled.
fn watched<T>(step: impl FnOnce(&mut Watch<'_>) -> Result<T>) -> Result<T> {
    step(&mut Watch { cancelled: &AtomicBool::new(false), progress: &mut |_| () })
}

fn layer(helper: &mut Helper, fd: impl Into<OwnedFd>) -> Result<()> {
    let input = LayerInput { fd: fd.into(), range: None };
    watched(|watch| helper.layer(input, None, Whiteouts::Oci, watch))
}

fn entry(path: &str, kind: Kind, size: u64, target: &str) -> Entry {
    Entry { path: path.into(), target: target.into(), kind, mode: 0o644, owner: (0, 0), size, modified: 0 }
}

fn regular(path: &str, content: &[u8]) -> Vec<u8> {
    let size = content.len() as u64;
    [entry(path, Kind::File, size, "").header(), content.to_vec(), vec![0; padding(size)]].concat()
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

/// Whether a process runs.
fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_until_gone(pid: i32) {
    let begin = Instant::now();
    while runs(pid) {
        assert!(begin.elapsed() < PATIENCE, "{pid} runs on");
        thread::sleep(Duration::from_millis(2));
    }
}

fn status(pid: i32, key: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
}

#[test]
fn the_limits_are_those_of_the_manual() {
    let (bytes, entries, ratio) = (16 << 30, 1_000_000, 200);
    let (depth, layers, memory) = (64, 127, 512 << 20);
    assert_eq!(Limits::default(), convert::Limits { bytes, entries, ratio, depth, layers, memory });
}

#[test]
fn it_is_confined_before_it_reads_anything() {
    let helper = start(&Limits::default());
    let pid = helper.pid();
    assert_eq!(status(pid, "Seccomp"), "2");
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(status(pid, "Threads"), "1");
    assert_eq!(status(pid, "Name"), "sbx-image");
    assert!(helper.is_isolated(), "this machine has namespaces for sandboxes");
    // It isn't dumpable, so only root may look further.
    let directory = format!("/proc/{pid}");
    let may_look = fs::read_link(format!("{directory}/fd/3")).is_ok();
    assert_eq!(may_look, can_trace(), "only a tracer may look into it");
    if !may_look {
        return;
    }
    let fds = fs::read_dir(format!("{directory}/fd")).unwrap();
    let fds: Vec<_> =
        fds.map(|fd| fs::read_link(fd.unwrap().path()).unwrap().display().to_string()).collect();
    assert_eq!(fds.len(), 6, "{fds:?}");
    assert_eq!(fds.iter().filter(|fd| *fd == "/dev/null").count(), 3, "{fds:?}");
    assert_eq!(fds.iter().filter(|fd| fd.starts_with("socket:")).count(), 1, "{fds:?}");
    assert_eq!(fds.iter().filter(|fd| fd.contains("pidfd")).count(), 1, "{fds:?}");
    for namespace in ["user", "mnt", "net", "ipc", "uts", "cgroup", "pid_for_children"] {
        let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{namespace}"));
        let Ok(its) = of(&pid.to_string()) else {
            // Nothing was started in the new one.
            assert_eq!(namespace, "pid_for_children");
            continue;
        };
        assert_ne!(its, of("self").unwrap(), "{namespace}");
    }
    for map in ["uid_map", "gid_map"] {
        assert_eq!(fs::read_to_string(format!("{directory}/{map}")).unwrap(), "", "it has no id");
    }
    let root = format!("{directory}/root/");
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "its root is empty");
    let refused = fs::write(format!("{root}file"), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "{refused}");
    let mounts = fs::read_to_string(format!("{directory}/mounts")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    let limits = fs::read_to_string(format!("{directory}/limits")).unwrap();
    let resources = Limits::default().resources();
    for (name, value) in [
        ("Max cpu time", resources.cpu_seconds),
        ("Max file size", resources.file_size),
        ("Max address space", resources.address_space),
        ("Max core file size", 0),
        ("Max open files", 16),
    ] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains(&format!(" {value} ")), "{line} is not {value}");
    }
}

#[test]
#[ignore = "run by another test, where there are no namespaces"]
fn without_namespaces() {
    if std::env::var_os(HOST).is_none() {
        return;
    }
    let mut helper = start(&Limits::default());
    assert!(!helper.is_isolated());
    assert_eq!(status(helper.pid(), "Seccomp"), "2");
    assert_eq!(status(helper.pid(), "CapEff"), "0000000000000000");
    layer(&mut helper, holding(&archive(&[regular("a", b"hello")]))).unwrap();
    watched(|watch| helper.finish(watch)).unwrap();
}

#[test]
fn where_no_namespaces_can_be_had_the_filter_is_alone() {
    // A user namespace's owner may forbid more of them in it.
    let script =
        "for kind in user mnt; do echo 0 >/proc/sys/user/max_${kind}_namespaces; done; exec \"$0\" \"$@\"";
    let output = process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-ec", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "image::helper::tests::without_namespaces", "--ignored", "--nocapture"])
        .env(HOST, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

/// Whether this process may look at processes that aren't dumpable.
fn can_trace() -> bool {
    const CAP_SYS_PTRACE: u32 = 19;
    let own = u64::from_str_radix(&status(process::id().cast_signed(), "CapEff"), 16).unwrap();
    own & (1 << CAP_SYS_PTRACE) != 0
}

#[test]
fn it_makes_an_image_and_ends() {
    let out = file();
    let mut helper = Helper::start(&program(), output(&out), &Limits::default()).unwrap();
    let pid = helper.pid();
    layer(&mut helper, holding(&archive(&[regular("a", b"hello"), regular("b", &[7; 9000])]))).unwrap();
    layer(&mut helper, holding(&archive(&[regular(".wh.a", b"")]))).unwrap();
    let summary = watched(|watch| helper.finish(watch)).unwrap();
    assert!(!runs(pid));
    assert_eq!(summary.diff_ids.len(), 2);
    assert_eq!((summary.bytes, summary.content_bytes), (out.metadata().unwrap().len(), 9000));
    let mut magic = [0; 4];
    out.read_exact_at(&mut magic, 1024).unwrap();
    assert_eq!(u32::from_le_bytes(magic), 0xe0f5_e1e2);
}

#[test]
fn a_layer_may_be_a_part_of_a_file_or_come_through_a_pipe() {
    let bytes = archive(&[regular("a", b"hello")]);
    let images = [false, true].map(|piped| {
        let out = file();
        let mut helper = Helper::start(&program(), output(&out), &Limits::default()).unwrap();
        if piped {
            let (read, mut write) = io::pipe().unwrap();
            let bytes = bytes.clone();
            let writer = thread::spawn(move || {
                bytes.chunks(100).for_each(|chunk| write.write_all(chunk).unwrap());
            });
            layer(&mut helper, read).unwrap();
            writer.join().unwrap();
        } else {
            let whole = holding(&[&[0xff; 77][..], &bytes, &[0xff; 50]].concat());
            let input = LayerInput { fd: whole.into(), range: Some((77, bytes.len() as u64)) };
            watched(|watch| helper.layer(input, None, Whiteouts::Oci, watch)).unwrap();
        }
        watched(|watch| helper.finish(watch)).unwrap();
        let mut image = Vec::new();
        (&out).read_to_end(&mut image).unwrap();
        image
    });
    assert!(images[0] == images[1] && images[0].len() >= 8192);
}

#[test]
fn progress_is_the_input_and_comes_seldom() {
    let mut helper = start(&Limits::default());
    let (read, mut write) = io::pipe().unwrap();
    let whole = archive(&[regular("a", &[1; 3_000_000])]);
    let length = whole.len() as u64;
    let writer = thread::spawn(move || {
        for chunk in whole.chunks(100_000) {
            write.write_all(chunk).unwrap();
            thread::sleep(Duration::from_millis(15));
        }
    });
    let mut seen = Vec::new();
    let begin = Instant::now();
    let cancelled = AtomicBool::new(false);
    let mut progress = |bytes| seen.push(bytes);
    let mut watch = Watch { cancelled: &cancelled, progress: &mut progress };
    let input = LayerInput { fd: read.into(), range: None };
    helper.layer(input, None, Whiteouts::Oci, &mut watch).unwrap();
    let most = begin.elapsed().as_millis() / 100 + 1;
    writer.join().unwrap();
    assert!(!seen.is_empty() && seen.len() as u128 <= most, "{seen:?} in {:?}", begin.elapsed());
    assert!(seen.is_sorted() && seen.iter().all(|bytes| *bytes <= length), "{seen:?}");
}

#[test]
fn a_step_is_cancelled_in_the_middle() {
    let mut helper = start(&Limits::default());
    let pid = helper.pid();
    let (read, mut write) = io::pipe().unwrap();
    write.write_all(&regular("a", &[1; 1000])).unwrap();
    let cancelled = AtomicBool::new(false);
    let begin = Instant::now();
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            cancelled.store(true, Ordering::Relaxed);
        });
        let mut watch = Watch { cancelled: &cancelled, progress: &mut |_| () };
        let input = LayerInput { fd: read.into(), range: None };
        helper.layer(input, None, Whiteouts::Oci, &mut watch).unwrap_err()
    });
    assert_eq!(error.code(), Code::Closed, "{error}");
    assert!(begin.elapsed() < PATIENCE);
    drop(helper);
    assert!(!runs(pid));
}

#[test]
fn every_death_has_its_reason_and_leaves_nothing() {
    for (signal, reason) in [
        (Signal::SIGSYS, "forbidden"),
        (Signal::SIGXCPU, "processor time"),
        (Signal::SIGABRT, "more memory"),
        (Signal::SIGKILL, "SIGKILL"),
        (Signal::SIGILL, "SIGILL"),
    ] {
        for idle in [true, false] {
            let mut helper = start(&Limits::default());
            let pid = helper.pid();
            let kill = || pidfd::signal(helper.child.pidfd.as_fd(), signal as i32).unwrap();
            let (read, write) = io::pipe().unwrap();
            if idle {
                kill();
                wait_until_gone(pid);
            } else {
                let process = helper.child.pidfd.try_clone().unwrap();
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(50));
                    pidfd::signal(process.as_fd(), signal as i32).unwrap();
                });
            }
            let error = layer(&mut helper, read).unwrap_err();
            drop(write);
            assert_eq!(error.code(), crate::image::error("").code(), "{error}");
            assert!(error.message().contains(reason), "{error}");
            drop(helper);
            assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "it is reaped");
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Applies these layers and completes the image; returns the outcome and the file.
fn image(limits: &Limits, layers: &[Vec<u8>]) -> (Result<Summary>, File) {
    let out = file();
    let mut helper = Helper::start(&program(), output(&out), limits).unwrap();
    let pid = helper.pid();
    let applied = layers.iter().try_for_each(|bytes| layer(&mut helper, holding(bytes)));
    let outcome = match applied {
        Ok(()) => watched(|watch| helper.finish(watch)),
        Err(error) => {
            drop(helper);
            Err(error)
        }
    };
    assert!(!runs(pid));
    (outcome, out)
}

#[test]
fn layers_may_be_compressed_and_their_digests_are_checked() {
    let plain = archive(&[regular("a", &[1; 100_000])]);
    let mut made = Vec::new();
    for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
        let (summary, mut out) = image(&Limits::default(), std::slice::from_ref(&bytes));
        let summary = summary.unwrap();
        let mut written = Vec::new();
        out.read_to_end(&mut written).unwrap();
        made.push((summary.diff_ids.clone(), written));
        // The digest is of what is decompressed.
        for (change, good) in [(0, true), (1, false)] {
            let mut wanted = summary.diff_ids[0];
            wanted[31] ^= change;
            let mut helper = start(&Limits::default());
            let input = LayerInput { fd: holding(&bytes).into(), range: None };
            let applied = watched(|watch| helper.layer(input, Some(wanted), Whiteouts::Oci, watch));
            assert_eq!(applied.is_ok(), good);
            if let Err(error) = applied {
                assert!(error.message().contains("sha256:"), "{error}");
            }
        }
    }
    assert!(made[0] == made[1] && made[1] == made[2], "the same layer makes the same file");
}

#[test]
fn an_image_can_be_the_base_of_another() {
    let lower = archive(&[regular("kept", b"kept"), regular("gone", b"gone")]);
    let upper = archive(&[regular("new", b"new"), regular(".wh.gone", b"")]);
    let (_, base) = image(&Limits::default(), std::slice::from_ref(&lower));
    let out = file();
    let mut helper = Helper::start(&program(), output(&out), &Limits::default()).unwrap();
    watched(|watch| helper.base(base.into(), watch)).unwrap();
    layer(&mut helper, holding(&upper)).unwrap();
    let summary = watched(|watch| helper.finish(watch)).unwrap();
    let (both, _) = image(&Limits::default(), &[lower, upper]);
    let both = both.unwrap();
    assert_eq!((summary.entries, summary.content_bytes), (both.entries, both.content_bytes));
    // What is no image is none as a base.
    for bytes in [vec![], vec![0; 8192], vec![0xff; 8192]] {
        let mut helper = start(&Limits::default());
        let error = watched(|watch| helper.base(holding(&bytes).into(), watch)).unwrap_err();
        assert_eq!(error.code(), crate::image::error("").code(), "{error}");
    }
}

#[test]
fn an_archive_that_is_compressed_as_a_whole_is_decompressed() {
    let plain = archive(&[regular("manifest.json", b"[]")]);
    for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
        let mut helper = start(&Limits::default());
        let into = file();
        let length = watched(|watch| helper.inflate(holding(&bytes).into(), output(&into), watch)).unwrap();
        assert_eq!(length, plain.len() as u64);
        let entries = watched(|watch| helper.index(into.as_fd(), watch)).unwrap();
        assert_eq!(entries.len(), 1);
    }
    let cut = gzip(&plain);
    let mut helper = start(&Limits::default());
    let input = holding(&cut[..cut.len() / 2]);
    let error = watched(|watch| helper.inflate(input.into(), file().into(), watch)).unwrap_err();
    assert_eq!(error.code(), crate::image::error("").code(), "{error}");
}

/// Every trick of an attacker's archive is refused, or has its effect inside the image alone.
#[test]
fn no_trick_of_an_archive_gets_further_than_its_error() {
    let malformed = crate::image::error("").code();
    let depth = "d/".repeat(70);
    let refused: Vec<(&str, Vec<Vec<u8>>, Code)> = vec![
        ("out by ..", vec![archive(&[regular("../../etc/passwd", b"x")])], malformed),
        (
            "out by a hard link",
            vec![archive(&[entry("l", Kind::HardLink, 0, "../../etc/passwd").header()])],
            malformed,
        ),
        (
            "a hard link to nothing",
            vec![archive(&[entry("l", Kind::HardLink, 0, "nothing").header()])],
            malformed,
        ),
        ("a whiteout of the root", vec![archive(&[regular(".wh.", b"")])], malformed),
        ("a whiteout of ..", vec![archive(&[regular(".wh...", b"")])], malformed),
        ("deep", vec![archive(&[regular(&format!("{depth}f"), b"")])], Code::Limit),
        ("a petabyte", vec![entry("f", Kind::File, 1 << 50, "").header()], Code::Limit),
        ("cut", vec![regular("f", &[1; 5000])[..3000].to_vec()], malformed),
        ("cut gzip", vec![gzip(&archive(&[regular("f", &[1; 5000])]))[..60].to_vec()], malformed),
        ("noise", vec![vec![0x5a; 5000]], malformed),
        ("a long name", vec![archive(&[regular(&"n".repeat(300), b"")])], malformed),
        ("a link over /proc", vec![archive(&[entry("proc", Kind::Symlink, 0, "/etc").header()])], malformed),
        ("many layers", vec![archive(&[]); 128], Code::Limit),
    ];
    for (name, layers, code) in refused {
        let (outcome, _) = image(&Limits::default(), &layers);
        let error = outcome.err().unwrap_or_else(|| panic!("{name} is accepted"));
        assert_eq!(error.code(), code, "{name}: {error}");
    }
    let accepted: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("nothing", vec![]),
        ("no layer's entries", vec![archive(&[])]),
        ("absolute", vec![archive(&[regular("/etc/passwd", b"x")])]),
        (
            "through a link",
            vec![archive(&[entry("l", Kind::Symlink, 0, "/../../etc").header(), regular("l/passwd", b"x")])],
        ),
        ("a fifo", vec![archive(&[entry("fifo", Kind::Fifo, 0, "").header()])]),
        ("twice", vec![archive(&[regular("f", b"1"), regular("f", b"22")])]),
    ];
    for (name, layers) in accepted {
        let (outcome, _) = image(&Limits::default(), &layers);
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn an_index_has_every_file_and_its_place() {
    let long = "n".repeat(300);
    let whole = archive(&[
        entry("d/", Kind::Directory, 0, "").header(),
        regular("manifest.json", b"[]"),
        regular(&long, &[1; 600]),
        entry("link", Kind::Symlink, 0, "manifest.json").header(),
        entry("hard", Kind::HardLink, 0, &long).header(),
        regular("empty", b""),
    ]);
    let file = holding(&whole);
    let mut helper = start(&Limits::default());
    let entries = watched(|watch| helper.index(file.as_fd(), watch)).unwrap();
    let names: Vec<_> =
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
    assert_eq!(names, ["manifest.json", &long, "link", "hard", "empty"]);
    let content = |entry: &ArchiveEntry| {
        let mut content = vec![0; usize::try_from(entry.length).unwrap()];
        file.read_exact_at(&mut content, entry.offset).unwrap();
        content
    };
    assert_eq!((content(&entries[0]), content(&entries[1])), (b"[]".to_vec(), vec![1; 600]));
    let links: Vec<_> = entries.iter().map(|entry| entry.link.clone()).collect();
    assert_eq!(links[2..4], [Some(b"manifest.json".to_vec()), Some(long.into_bytes())]);
    assert_eq!((&links[0], &links[1], &links[4]), (&None, &None, &None));
    // The same process then reads a layer out of it.
    let range = Some((entries[0].offset, 0));
    let input = LayerInput { fd: output(&file), range };
    watched(|watch| helper.layer(input, None, Whiteouts::Oci, watch)).unwrap_err();
}

#[test]
#[ignore = "the host in another test, which starts and kills it"]
fn host() {
    if std::env::var_os(HOST).is_none() {
        return;
    }
    let mut helper = start(&Limits::default());
    println!("\nhost says: {}", helper.pid());
    let (read, _write) = io::pipe().unwrap();
    let _ = layer(&mut helper, read);
}

#[test]
fn it_ends_with_its_host_in_the_middle_of_a_step() {
    let mut host = process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "image::helper::tests::host", "--ignored", "--nocapture"])
        .env(HOST, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let pid = lines.find_map(|line| line.unwrap().strip_prefix("host says: ")?.parse().ok()).unwrap();
    assert!(runs(pid));
    thread::sleep(Duration::from_millis(50));
    host.kill().unwrap();
    host.wait().unwrap();
    wait_until_gone(pid);
}

#[test]
fn it_starts_fast_enough() {
    let program = program();
    let mut times: Vec<Duration> = (0..20)
        .map(|_| {
            let begin = Instant::now();
            let helper = Helper::start(&program, file().into(), &Limits::default()).unwrap();
            let time = begin.elapsed();
            drop(helper);
            time
        })
        .collect();
    times.sort();
    println!("an image helper is confined after {:?} (median of 20)", times[10]);
    assert!(times[10] < Duration::from_secs(2));
}

#[test]
fn an_image_that_is_exported_is_the_same_when_it_is_read_again() {
    let directory = |path: &str| entry(path, Kind::Directory, 0, "").header();
    let owned = |path: &str| {
        let entry =
            Entry { mode: 0o4751, owner: (1000, 70_000), modified: 9, ..entry(path, Kind::File, 0, "") };
        entry.header()
    };
    let long = format!("{}/{}", "x".repeat(200), "y".repeat(200));
    let entries = [
        Entry { mode: 0o2750, owner: (5, 6), ..entry("./", Kind::Directory, 0, "") }.header(),
        regular("dev", &[7; 5000]),
        regular(".wh.kept", b"no whiteout"),
        directory("deep"),
        owned("deep/owned"),
        regular("deep/data", &[9; 300_000]),
        entry("link", Kind::HardLink, 0, "deep/data").header(),
        entry("dangling", Kind::Symlink, 0, "/nowhere").header(),
        entry("fifo", Kind::Fifo, 0, "").header(),
        entry("disk", Kind::Other(b'4'), 0, "").header(),
        directory(&long[..200]),
        regular(&long, b"long"),
    ];
    let convert = |archive: &[u8]| {
        let image = file();
        let mut helper = start_with(&image, |_| ());
        let input = LayerInput { fd: holding(archive).into(), range: None };
        watched(|watch| helper.layer(input, None, Whiteouts::None, watch)).unwrap();
        let summary = watched(|watch| helper.finish_as_it_is(watch)).unwrap();
        (image, summary)
    };
    let (first, summary) = convert(&archive(&entries));
    let export = |image: &File| {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let reads = thread::spawn(move || {
            let mut all = Vec::new();
            ours.read_to_end(&mut all).unwrap();
            all
        });
        let mut helper = start(&Limits::default());
        let exported = watched(|watch| helper.export(output(image), theirs.into(), watch));
        drop(helper);
        (exported, reads.join().unwrap())
    };
    let (exported, written) = export(&first);
    let exported = exported.unwrap();
    assert_eq!((exported.skipped, exported.bytes), (1, summary.content_bytes), "the device");
    let (second, again) = convert(&written);
    assert_eq!((again.entries + 1, again.content_bytes), (summary.entries, summary.content_bytes));
    assert_eq!(export(&second).1, written);
    // One that isn't an image is refused, and so is what an image may not be.
    let refused = |image: &File| export(image).0.unwrap_err();
    assert_eq!(refused(&holding(&[0; 8192])).code(), Code::Image);
    let mut helper = start(&Limits { bytes: 1000, ..Limits::default() });
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = watched(|watch| helper.export(output(&first), theirs.into(), watch)).unwrap_err();
    assert_eq!(error.code(), Code::Limit, "{error}");
    // A reader that is gone is an error, and no signal.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    drop(ours);
    let mut helper = start(&Limits::default());
    let error = watched(|watch| helper.export(output(&first), theirs.into(), watch)).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EPIPE), "{error}");
}
