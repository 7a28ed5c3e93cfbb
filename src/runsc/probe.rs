//! Probes a binary: whether it is a runsc with the needed features.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;
use nix::unistd::geteuid;

use super::features::Features;
use super::subprocess::{End, Output, run_limited};
use crate::error::{Code, Error, Result};

/// `runsc flags` prints 16 KiB.
const OUTPUT_LIMIT: usize = 1024 * 1024;

/// Generous, for a cold 80 MB binary on a slow disk under load. It normally takes 30 ms.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where to get it.
pub(crate) const INSTALL: &str = "https://gvisor.dev/docs/user_guide/install/";

/// Identifies a file and its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A runsc that was probed and can be used. Immutable; it holds the file open, so that it stays the same one when an
/// upgrade replaces the path.
#[derive(Debug)]
pub(crate) struct Runsc {
    path: PathBuf,
    real: PathBuf,
    _file: File,
    identity: Identity,
    version: String,
    pub(super) features: Features,
}

impl Runsc {
    /// Where it was found.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path without links: the keeper follows none.
    pub(crate) fn real_path(&self) -> &Path {
        &self.real
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether it can start a sandbox on an image. If not, the error names it and the remedy.
    pub(crate) fn check_images(&self) -> Result<()> {
        self.features.check_images().map_err(|error| with_remedy(error, &self.path, &self.version))
    }

    /// The version that it reports; for people only.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// The directory of helper programs of its release, which newer ones look for next to themselves: its device and
    /// inode, or `None` if there is no such directory. An error says why the one that is there can't be used.
    pub(crate) fn sidecars(&self) -> Result<Option<(u64, u64)>> {
        sidecars(&self.real, geteuid().as_raw())
    }

    pub(super) fn is(&self, candidate: &Candidate) -> bool {
        (self.identity, &self.path, &self.real) == (candidate.identity, &candidate.path, &candidate.real)
    }
}

/// A file that could be runsc.
#[derive(Debug)]
pub(super) struct Candidate {
    path: PathBuf,
    /// The file itself, where `path` is or goes through a link.
    real: PathBuf,
    file: File,
    identity: Identity,
}

impl Candidate {
    /// Opens the file, if it is one that can be executed at all.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        if !path.is_absolute() {
            return Err(Error::invalid(format!("{shown}: must be an absolute path")));
        }
        // A fifo must not block, nor a terminal become ours.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|cause| unopened(path, &cause))?;
        let metadata = file.metadata().map_err(|cause| unopened(path, &cause))?;
        if metadata.is_dir() {
            return Err(unusable(path, "is a directory; name the runsc in it"));
        }
        if !metadata.is_file() {
            return Err(unusable(path, "is not a regular file"));
        }
        if metadata.mode() & 0o111 == 0 {
            return Err(unusable(path, &format!("is not executable; run: chmod 755 {shown}")));
        }
        let identity = Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        let real = path.canonicalize().map_err(|cause| unopened(path, &cause))?;
        Ok(Self { path: path.to_owned(), real, file, identity })
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    fn ask(&self, arguments: &[&str], timeout: Duration) -> Result<Output> {
        let question = arguments.join(" ");
        let output = run_limited(&self.file, arguments, OUTPUT_LIMIT, timeout).map_err(|cause| {
            let why = match cause.raw_os_error() {
                Some(libc::EACCES) => "not executable for this user, or on a file system mounted noexec",
                Some(libc::ENOEXEC) => "not a program this machine can run",
                _ => "the system refused",
            };
            Error::system(format!("{} can't be executed ({why})", self.path.display()), &cause)
                .with_code(Code::RunscUnusable)
        })?;
        match output.end {
            End::Complete => Ok(output),
            End::TooMuch => Err(unusable(
                &self.path,
                &format!("printed more than {OUTPUT_LIMIT} bytes when asked `{question}`: this is not runsc"),
            )),
            End::TimedOut => Err(unusable(
                &self.path,
                &format!("did not answer `{question}` within {} ms", timeout.as_millis()),
            )),
        }
    }
}

/// Finds out what the candidate can do.
pub(super) fn probe(candidate: Candidate) -> Result<Runsc> {
    probe_within(candidate, TIMEOUT, kernel())
}

fn probe_within(candidate: Candidate, timeout: Duration, kernel: (u32, u32)) -> Result<Runsc> {
    let flags = candidate.ask(&["flags"], timeout)?;
    let help = candidate.ask(&["help", "run"], timeout)?;
    let Some(features) = Features::parse(&flags.text, &help.text) else {
        return Err(not_runsc(&candidate.path, &flags));
    };
    let version = version(&candidate.ask(&["--version"], timeout)?.text);
    features.check(kernel).map_err(|error| with_remedy(error, &candidate.path, &version))?;
    let Candidate { path, real, file, identity } = candidate;
    Ok(Runsc { path, real, _file: file, identity, version, features })
}

/// Names the binary that lacks something, and where to get a newer one.
fn with_remedy(error: Error, path: &Path, version: &str) -> Error {
    error.context(format!("{} ({version})", path.display())).append(&format!(". Get a newer one: {INSTALL}"))
}

/// `runsc version release-20260817.0` and the OCI version on a second line.
fn version(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let version = line.strip_prefix("runsc version ").unwrap_or(line).trim();
    let printable: String = version.chars().filter(|c| !c.is_control()).take(80).collect();
    if printable.is_empty() { "of unknown version".to_owned() } else { printable }
}

/// The programs of a release's directory that start a sandbox. The others are for commands that the library doesn't use.
const SIDECARS: [&str; 2] = ["gvisor_sentry", "gvisor-sentry-prewarmer"];

/// They are looked for beside the real file, as runsc itself does by /proc/self/exe.
///
/// With one of the two, runsc would fail: without the sentry, the prewarmer would execute itself (it is given
/// /proc/self/exe), and a strict policy insists on both.
fn sidecars(real: &Path, user: u32) -> Result<Option<(u64, u64)>> {
    let Some(directory) = real.parent().map(|parent| parent.join("gvisor-bin")) else { return Ok(None) };
    let Ok(there) = fs::symlink_metadata(&directory) else { return Ok(None) };
    if !there.is_dir() {
        return Err(unusable(&directory, "is not used: it is not a directory"));
    }
    is_trusted(&directory, &there, user)?;
    for program in SIDECARS.map(|name| directory.join(name)) {
        let Ok(file) = fs::symlink_metadata(&program) else {
            return Err(unusable(&directory, &format!("is not used: {} is not there", program.display())));
        };
        if !file.is_file() || file.mode() & 0o111 == 0 {
            return Err(unusable(&program, "is not used: it is not an executable regular file"));
        }
        is_trusted(&program, &file, user)?;
    }
    Ok(Some((there.dev(), there.ino())))
}

/// Whether only root and this user can have made it.
fn is_trusted(path: &Path, metadata: &Metadata, user: u32) -> Result<()> {
    if [0, user].contains(&metadata.uid()) && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    let why = "is not used: it must belong to root or to this user, and no other user may write to it";
    Err(unusable(path, why))
}

/// The running kernel's (major, minor); (0, 0) if it has an odd name, so that nothing is refused for that.
pub(super) fn kernel() -> (u32, u32) {
    let name = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    parse_kernel(&name.unwrap_or_default())
}

pub(crate) fn parse_kernel(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn unopened(path: &Path, cause: &io::Error) -> Error {
    let shown = path.display();
    match cause.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => {
            Error::system(format!("{shown} does not exist; see {INSTALL}"), cause)
                .with_code(Code::RunscMissing)
        }
        Some(libc::EACCES) => Error::system(
            format!(
                "{shown} can't be read, but runsc and the directories above must be readable for this user"
            ),
            cause,
        )
        .with_code(Code::RunscUnusable),
        // Nothing is wrong with runsc then.
        Some(libc::EMFILE | libc::ENFILE) => Error::system(format!("{shown} can't be opened"), cause),
        _ => Error::system(format!("{shown} can't be opened"), cause).with_code(Code::RunscUnusable),
    }
}

fn unusable(path: &Path, why: &str) -> Error {
    Error::new(Code::RunscUnusable, format!("{}: {why}", path.display()))
}

fn not_runsc(path: &Path, output: &Output) -> Error {
    let first: String = output
        .text
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| !c.is_control())
        .take(100)
        .collect();
    let said = if first.is_empty() { "nothing".to_owned() } else { format!("{first:?}") };
    let status = output.status.map_or(String::new(), |status| format!(" and ended with {status}"));
    unusable(path, &format!("is not runsc: asked `flags`, it printed {said}{status}; see {INSTALL}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runsc::fake::Directory;

    #[test]
    fn helpers_beside_it_are_used_only_if_nobody_else_can_have_put_them_there() {
        let directory = Directory::new();
        let runsc = directory.path().join("runsc");
        let us = geteuid().as_raw();
        let find = |user| sidecars(&runsc, user);
        let refused = |user| find(user).unwrap_err().message().to_owned();
        assert_eq!(find(us).unwrap(), None);
        fs::create_dir(directory.path().join("gvisor-bin")).unwrap();
        directory.mode("gvisor-bin", 0o755);
        for program in SIDECARS {
            directory.file(&format!("gvisor-bin/{program}"), b"", 0o755);
        }
        let there = fs::metadata(directory.path().join("gvisor-bin")).unwrap();
        assert_eq!(find(us).unwrap(), Some((there.dev(), there.ino())));
        for path in ["gvisor-bin", "gvisor-bin/gvisor_sentry", "gvisor-bin/gvisor-sentry-prewarmer"] {
            for mode in [0o775, 0o757, 0o1777] {
                directory.mode(path, mode);
                assert!(refused(us).contains("no other user may write"), "{path} {mode:o}");
            }
            directory.mode(path, 0o755);
        }
        // Another user's, as seen by a user other than root.
        assert_eq!(find(us + 1).is_ok(), us == 0);
        // A link could lead anywhere.
        fs::rename(directory.path().join("gvisor-bin"), directory.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", directory.path().join("gvisor-bin")).unwrap();
        assert!(refused(us).contains("not a directory"));
    }

    #[test]
    fn half_of_the_helpers_are_not_used() {
        let directory = Directory::new();
        let find = || sidecars(&directory.path().join("runsc"), geteuid().as_raw());
        fs::create_dir(directory.path().join("gvisor-bin")).unwrap();
        directory.mode("gvisor-bin", 0o755);
        for (there, missing) in [(SIDECARS[0], SIDECARS[1]), (SIDECARS[1], SIDECARS[0])] {
            let path = directory.file(&format!("gvisor-bin/{there}"), b"", 0o755);
            let error = find().unwrap_err();
            assert_eq!(error.code(), Code::RunscUnusable);
            assert!(error.message().contains(missing), "{error}");
            directory.file(&format!("gvisor-bin/{missing}"), b"", 0o644);
            assert!(find().unwrap_err().message().contains("not an executable"));
            directory.mode(&format!("gvisor-bin/{missing}"), 0o755);
            assert!(find().unwrap().is_some());
            fs::remove_file(directory.path().join("gvisor-bin").join(missing)).unwrap();
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn one_that_hangs_is_killed_with_what_it_started() {
        let directory = Directory::new();
        let note = directory.path().join("pid");
        let script = format!("sleep 86399 & echo $! > {}; wait", note.display());
        let path = directory.script("runsc", &script);
        let error =
            probe_within(Candidate::open(&path).unwrap(), Duration::from_millis(500), (6, 18)).unwrap_err();
        assert_eq!(error.code(), Code::RunscUnusable);
        assert!(error.message().contains("did not answer `flags` within 500 ms"), "{error}");
        if kernel() >= (6, 9) {
            let pid: i32 = std::fs::read_to_string(note).unwrap().trim().parse().unwrap();
            while running(pid) {
                std::thread::yield_now();
            }
        }
    }

    /// Not a zombie and not gone.
    fn running(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
    }

    #[test]
    fn too_old_names_the_binary_the_flag_and_the_release() {
        let directory = Directory::new();
        let path = directory.good_without("directfs");
        let error = probe_within(Candidate::open(&path).unwrap(), TIMEOUT, (6, 18)).unwrap_err();
        for part in [&*path.display().to_string(), "release-20260101.0", "--directfs", "20230306", INSTALL] {
            assert!(error.message().contains(part), "{error} lacks {part}");
        }
    }

    #[test]
    fn one_that_can_not_start_images_can_be_used_for_the_rest() {
        let directory = Directory::new();
        let path = directory.good_without("gofer-network-namespace");
        let runsc = probe_within(Candidate::open(&path).unwrap(), TIMEOUT, (6, 18)).unwrap();
        let error = runsc.check_images().unwrap_err();
        assert_eq!(error.code(), Code::RunscUnusable);
        for part in [&*path.display().to_string(), "release-20260101.0", "image", INSTALL] {
            assert!(error.message().contains(part), "{error} lacks {part}");
        }
    }

    #[test]
    fn nothing_of_the_host_reaches_it() {
        let directory = Directory::new();
        let note = directory.path().join("note");
        // A host's descriptor without CLOEXEC must not arrive.
        let leaked = nix::fcntl::fcntl(File::open("/").unwrap(), nix::fcntl::FcntlArg::F_DUPFD(100));
        let script = format!(
            "{{ ls /proc/self/fd | tr '\\n' ' '; env | cut -d= -f1 | sort | tr '\\n' ' '; grep Sig /proc/self/status; }} > {}",
            note.display()
        );
        let path = directory.script("runsc", &script);
        let candidate = Candidate::open(&path).unwrap();
        candidate.ask(&["flags"], TIMEOUT).unwrap();
        nix::unistd::close(leaked.unwrap()).unwrap();
        let seen = std::fs::read_to_string(note).unwrap();
        assert!(!seen.contains("100"), "{seen}");
        assert!(!seen.contains("HOME") && !seen.contains("CARGO"), "{seen}");
        assert!(seen.contains("SigBlk:\t0000000000000000"), "{seen}");
        // 32 and 33 are the C library's own, which it doesn't let anyone change.
        let ignored = seen.split("SigIgn:\t").nth(1).unwrap().get(..16).unwrap();
        let ignored = u64::from_str_radix(ignored, 16).unwrap();
        assert_eq!(ignored & !(0b11 << 31), 0, "{seen}");
    }

    #[test]
    fn versions_and_kernels_are_read() {
        assert_eq!(version("runsc version release-20260817.0\nspec: 1.1.0\n"), "release-20260817.0");
        assert_eq!(version(""), "of unknown version");
        assert_eq!(version("\x1b[2Jx"), "[2Jx");
        assert_eq!(parse_kernel("6.1.0-45-amd64"), (6, 1));
        assert_eq!(parse_kernel("6.18-rc1"), (6, 18));
        assert_eq!(parse_kernel("odd"), (0, 0));
    }
}
