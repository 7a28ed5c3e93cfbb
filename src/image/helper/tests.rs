//! The process as it is, and everything that it may meet: attacks, limits, a full disk, a host that is killed.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::process::{self, Stdio};
use std::thread;

use super::*;
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

/// Calls a step that nobody cancels.
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
    let Ok(fds) = fs::read_dir(format!("{directory}/fd")) else {
        assert!(!can_trace(), "root may look");
        return;
    };
    assert!(can_trace(), "an ordinary user can look into it");
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

/// Whether this process may look at processes that aren't dumpable.
fn can_trace() -> bool {
    const CAP_SYS_PTRACE: u32 = 19;
    let own = u64::from_str_radix(&status(process::id().cast_signed(), "CapEff"), 16).unwrap();
    own & (1 << CAP_SYS_PTRACE) != 0
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
}

#[test]
fn an_index_is_bounded_and_refuses_what_is_no_archive() {
    let index = |bytes: &[u8]| {
        let file = holding(bytes);
        let mut helper = start(&Limits::default());
        watched(|watch| helper.index(file.as_fd(), watch))
    };
    assert_eq!(index(b"").unwrap(), []);
    let many = |count| {
        let names = (0..count).map(|index| regular(&format!("f{index}"), b"x"));
        archive(&names.collect::<Vec<_>>())
    };
    assert_eq!(index(&many(MAX_ARCHIVE_ENTRIES)).unwrap().len(), MAX_ARCHIVE_ENTRIES);
    let mut sparse = regular("sparse", b"");
    sparse[156] = b'S';
    for (bytes, code) in [
        (many(MAX_ARCHIVE_ENTRIES + 1), Code::Limit),
        (archive(&[regular(&"n".repeat(2000), b"")]), Code::Limit),
        (vec![b'x'; 2000], crate::image::error("").code()),
        (regular("cut", &[1; 600])[..512].to_vec(), crate::image::error("").code()),
        (regular("cut", b"")[..300].to_vec(), crate::image::error("").code()),
        (archive(&[entry("fifo", Kind::Fifo, 0, "").header()]), crate::image::error("").code()),
        (archive(&[entry("huge", Kind::File, u64::MAX, "").header()]), crate::image::error("").code()),
        (sparse, crate::image::error("").code()),
    ] {
        let error = index(&bytes).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
}

/// A helper whose other end is in the test's hands; the process is `sleep`.
fn hostile(act: impl FnOnce(Channel) + Send + 'static) -> Helper {
    use crate::sys::spawn::{Command, EVERY_SIGNAL, Executable, spawn};
    let (ours, theirs) = channel::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let child = spawn(&mut Command {
        executable: Executable::Paths(&[c"/bin/sleep".into()]),
        arguments: &[c"sleep".into(), c"1000".into()],
        environment: &[],
        descriptors: &[null.as_fd(), null.as_fd(), null.as_fd()],
        dispositions: EVERY_SIGNAL,
        prepare: &mut || Ok(()),
    })
    .unwrap();
    thread::spawn(move || act(Channel::new(theirs)));
    let limits = Limits::default();
    Helper {
        channel: Channel::new(ours),
        child,
        limits,
        resources: limits.resources(),
        deadline: Instant::now() + PATIENCE,
        isolated: true,
        diff_ids: Vec::new(),
    }
}

/// Sends these replies, and holds the channel open until the library closes it.
fn says(replies: Vec<Reply>) -> impl FnOnce(Channel) + Send {
    move |mut channel| {
        for reply in replies {
            while channel.wants_write() {
                if channel.flush().is_err() {
                    return;
                }
            }
            if channel.send(&reply.encode(), vec![]).is_err() {
                return;
            }
        }
        loop {
            match channel.receive() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

#[test]
fn a_lost_helper_is_believed_nothing() {
    let entry =
        |offset, length, name: usize| ArchiveEntry { name: vec![b'n'; name], offset, length, link: None };
    let entries = |entries, last| Reply::Entries { entries, last };
    let finished = |bytes, diff_ids| {
        Reply::Finished(Summary { entries: 1, bytes, content_bytes: 1, dropped_xattrs: 0, diff_ids })
    };
    let index: Vec<Vec<Reply>> = vec![
        vec![Reply::Done],
        vec![Reply::Ready { isolated: true }],
        vec![finished(1, vec![])],
        vec![entries(vec![entry(0, 11, 1)], true)],
        vec![entries(vec![entry(u64::MAX, 2, 1)], true)],
        vec![entries(vec![entry(0, 1, MAX_ARCHIVE_NAME + 1)], true)],
        vec![entries(vec![entry(0, 1, 1); 2048], false); 3],
        vec![entries(vec![], false); 1000],
        vec![Reply::Progress { bytes: u64::MAX }; 1000],
    ];
    for replies in index {
        let shown = format!("{:.80}", format!("{replies:?}"));
        let mut helper = hostile(says(replies));
        let pid = helper.pid();
        let archive = holding(b"0123456789");
        let error = watched(|watch| helper.index(archive.as_fd(), watch)).unwrap_err();
        assert!(error.message().contains("broke the rules"), "{shown}: {error}");
        drop(helper);
        assert!(!runs(pid));
    }
    for (diff_ids, believed) in
        [(vec![[1; 32]], true), (vec![], false), (vec![[2; 32]], false), (vec![[1; 32], [1; 32]], false)]
    {
        let mut helper = hostile(says(vec![Reply::Done, finished(1, diff_ids)]));
        let input = LayerInput { fd: file().into(), range: None };
        watched(|watch| helper.layer(input, Some([1; 32]), Whiteouts::Oci, watch)).unwrap();
        assert_eq!(watched(|watch| helper.finish(watch)).is_ok(), believed);
    }
    let helper = hostile(says(vec![finished(u64::MAX, vec![])]));
    assert!(watched(|watch| helper.finish(watch)).is_err());
    // Raw noise, and an end of the channel without an end of the process.
    let mut helper = hostile(|mut channel| drop(channel.send(&[99, 1, 2], vec![])));
    let error = layer(&mut helper, file()).unwrap_err();
    assert!(error.message().contains("broke the rules"), "{error}");
    let mut helper = hostile(|mut channel| {
        let null = File::open("/dev/null").unwrap();
        let _ = channel.send(&Reply::Done.encode(), vec![null.into()]);
    });
    let error = layer(&mut helper, file()).unwrap_err();
    assert!(error.message().contains("broke the rules"), "{error}");
}

#[test]
fn a_lost_helpers_text_is_made_harmless() {
    let text = [b"\x1b[31m a\nb \xff ".to_vec(), vec![b'x'; 5000]].concat();
    for failure in [Failure::Malformed, Failure::Limit, Failure::Digest, Failure::System, Failure::Internal] {
        for errno in [i32::MIN, -1, 0, libc::ENOSPC, i32::MAX] {
            let reply = Reply::Failed { failure, errno, text: text.clone() };
            let mut helper = hostile(says(vec![reply]));
            let error = layer(&mut helper, file()).unwrap_err();
            assert!(!error.message().contains(char::is_control), "{error}");
            assert!(error.message().len() < 2000, "{error}");
        }
    }
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
