//! A step that runs a program: in a sandbox on the image so far, whose changes are what the step adds.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::dockerfile::{Run, SecretMount};
use super::options::{Build, Secret};
use super::output::Output;
use super::settings::Settings;
use crate::config::{Config, Exec, Stdio, Stream};
use crate::error::{Code, Context, Error, Result};
use crate::event::{Exit, ExitReason};
use crate::image::tar::{Archive, Entry, Kind};
use crate::image::{Changes, Image, Workshop};
use crate::policy::PolicyMode;
use crate::runtime::Creator;
use crate::sandbox::Sandbox;
use crate::sandbox::files::{FileOperation, FileOptions, FileRequest};
use crate::sys::{memfd, wait};

/// How often it is looked whether the operation has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How much longer than the build its sandboxes may live: that the build's own time is over is the better error.
const MARGIN: Duration = Duration::from_secs(60);
/// How long an operation on files may take.
const FILE_TIMEOUT: Duration = Duration::from_secs(60);
/// What is still read of a program's output after its end: others may hold the stream.
const MAX_REST: usize = 1 << 20;
/// What is read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Where secrets are in a sandbox: in memory, and in no snapshot.
const SECRETS: &str = "/dev/shm/.sbx-secrets";
/// How much longer an archive of one file is than the file.
const ARCHIVE_MARGIN: usize = 16 << 10;

/// The sandboxes of a build's steps.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    pub(super) build: &'a Build,
    pub(super) workshop: &'a Workshop<'a>,
    pub(super) creator: &'a Creator,
}

impl Steps<'_> {
    /// Runs a program on an image; returns what it has changed. `before` and `after` are directories that are made before
    /// and after it.
    pub(super) fn run(
        &self,
        image: &Image,
        run: &Run,
        [before, after]: [&[String]; 2],
        settings: &Settings,
        output: &mut Output,
    ) -> Result<Changes> {
        let variables = settings.env().iter().chain(&run.args).chain(&run.proxies);
        let sandbox =
            self.start(image, variables.map(|(name, value)| format!("{name}={value}")).collect())?;
        self.make_directories(&sandbox, before)?;
        let mut placed = Vec::new();
        for (number, mount) in run.secrets.iter().enumerate() {
            placed.extend(self.place(&sandbox, mount, number)?);
        }
        let exit = self.execute(&sandbox, run, settings, output)?;
        if (exit.reason, exit.code) != (ExitReason::Exited, 0) {
            return Err(self.failed(exit, output));
        }
        for link in placed {
            self.take_away(&sandbox, link)?;
        }
        self.make_directories(&sandbox, after)?;
        self.workshop.changes(&*sandbox.snapshot_source()?)
    }

    fn make_directories(&self, sandbox: &Sandbox, directories: &[String]) -> Result<()> {
        let options = FileOptions::new().parents(true);
        directories.iter().try_for_each(|directory| {
            self.files(sandbox, FileRequest::MakeDirectory(directory.into()), &options).map(drop)
        })
    }

    /// Reads a file of an image.
    pub(super) fn read(&self, image: &Image, path: &str, limit: u64) -> Result<Vec<u8>> {
        let sandbox = self.start(image, Vec::new())?;
        self.files(&sandbox, FileRequest::Read(path.into()), &FileOptions::new().limit(limit))?.bytes()
    }

    fn start(&self, image: &Image, env: Vec<String>) -> Result<Sandbox> {
        let mut config: Config = self.build.config.clone();
        let mut root = image.files();
        root.env = env;
        config.set_root_image(root).set_no_command()?;
        config.keep_tmp_in_root();
        config.set_timeout(self.workshop.deadline().saturating_duration_since(Instant::now()) + MARGIN)?;
        let sandbox = self.creator.create_begin(&config)?;
        loop {
            self.workshop.check()?;
            match sandbox.wait_started(Some(POLL_INTERVAL)) {
                Err(error) if error.code() == Code::TimedOut => {}
                started => return started.map(|()| sandbox),
            }
        }
    }

    /// Runs the program until it ends, and passes on what it says.
    fn execute(
        &self,
        sandbox: &Sandbox,
        run: &Run,
        settings: &Settings,
        output: &mut Output,
    ) -> Result<Exit> {
        let mut exec = Exec::new();
        exec.set_command(&run.argv)?.set_workdir(settings.working_dir())?;
        exec.set_stdio(Stream::Stdout, Stdio::Descriptor)?.set_stdio(Stream::Stderr, Stdio::Merged)?;
        if !settings.user().is_empty() {
            exec.set_user(settings.user())?;
        }
        let process = sandbox.exec_begin(&exec)?;
        let mut stream = Some(File::from(process.open_stream(Stream::Stdout)?));
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            self.workshop.check()?;
            if let Some(open) = &stream {
                let deadline = Instant::now() + POLL_INTERVAL;
                if wait::readable(open.as_fd(), deadline)
                    && read(open, &mut buffer, usize::MAX, output)? == Rest::Ended
                {
                    stream = None;
                }
            }
            let patience = if stream.is_some() { Duration::ZERO } else { POLL_INTERVAL };
            match process.wait(Some(patience)) {
                Err(error) if error.code() == Code::TimedOut => {}
                ended => {
                    if let Some(open) = &stream {
                        read(open, &mut buffer, MAX_REST, output)?;
                    }
                    return ended;
                }
            }
        }
    }

    fn failed(&self, exit: Exit, output: &Output) -> Error {
        let how = match exit.reason {
            ExitReason::Exited => format!("exit code {}", exit.code),
            other => format!("{} (exit code {})", reason(other), exit.code),
        };
        let network = match self.build.config.policy().mode() {
            PolicyMode::Blocked => "; the build's policy is blocked, so its programs have no network",
            _ => "",
        };
        let lines = output.last_lines();
        let said = if lines.is_empty() { String::new() } else { format!("\n{lines}") };
        Error::new(Code::Image, format!("{how}{network}{said}"))
    }

    /// Puts a secret where the program finds it; returns what is to be taken away. The file is in memory. In the root file
    /// system, of which a snapshot is taken, there is only a link to it.
    fn place(&self, sandbox: &Sandbox, mount: &SecretMount, number: usize) -> Result<Option<Placed>> {
        let Some(secret): Option<&Secret> = self.build.secrets.get(&mount.id) else {
            if mount.required {
                let text = format!("secret {}: the step needs it, and the build was not given it", mount.id);
                return Err(Error::invalid(text));
            }
            return Ok(None);
        };
        let what = |error: Error| error.context(format!("secret {}", mount.id));
        let number = number.to_string();
        let file = format!("{SECRETS}/{number}");
        let parents = FileOptions::new().parents(true).mode(0o755);
        self.files(sandbox, FileRequest::MakeDirectory(SECRETS.into()), &parents).map_err(what)?;
        // As an archive: it has an owner.
        let SecretMount { mode, uid, gid, .. } = *mount;
        let entry =
            Entry { path: number.as_bytes(), kind: Kind::File, mode, uid, gid, seconds: 0, nanoseconds: 0 };
        self.unpack(sandbox, Path::new(SECRETS), &entry, secret).map_err(what)?;
        let target = PathBuf::from(&mount.target);
        let (Some(directory), Some(name)) =
            (target.parent(), target.file_name().and_then(|name| name.to_str()))
        else {
            return Err(what(Error::invalid(format!("target {}: must be a file's path", mount.target))));
        };
        let stat = |path: &Path| {
            let options = FileOptions::new().no_follow(true);
            match self.files(sandbox, FileRequest::Stat(path.to_owned()), &options) {
                Ok(_) => Ok(true),
                Err(error) if error.code() == Code::NotFound => Ok(false),
                Err(error) => Err(error),
            }
        };
        if stat(&target).map_err(what)? {
            let text = format!("target {}: the image has a file there; name another target", mount.target);
            return Err(what(Error::invalid(text)));
        }
        let mut made = Vec::new();
        for above in directory.ancestors() {
            if stat(above).map_err(what)? {
                break;
            }
            made.push(above.to_owned());
        }
        if !made.is_empty() {
            self.files(sandbox, FileRequest::MakeDirectory(directory.to_owned()), &parents).map_err(what)?;
        }
        let kind = Kind::SymbolicLink(file.as_bytes());
        let link =
            Entry { path: name.as_bytes(), kind, mode: 0o777, uid: 0, gid: 0, seconds: 0, nanoseconds: 0 };
        self.unpack(sandbox, directory, &link, &[]).map_err(what)?;
        Ok(Some(Placed { target, made }))
    }

    /// Takes away what was put into the root file system for a secret.
    fn take_away(&self, sandbox: &Sandbox, placed: Placed) -> Result<()> {
        let options = FileOptions::new().missing_ok(true);
        self.files(sandbox, FileRequest::Remove(placed.target), &options)?;
        for directory in placed.made {
            // The program may have put something of its own there.
            if self.files(sandbox, FileRequest::Remove(directory), &options).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Does something with a sandbox's files, unless the build ends before it is done.
    fn files(&self, sandbox: &Sandbox, request: FileRequest, options: &FileOptions) -> Result<FileOperation> {
        let options = options.clone().time_limit(FILE_TIMEOUT);
        self.wait(sandbox.begin_file(request, &options, None)?)
    }

    fn wait(&self, operation: FileOperation) -> Result<FileOperation> {
        while !operation.has_ended() {
            self.workshop.check()?;
            // What it ends with is read below.
            let _ = operation.wait(Some(POLL_INTERVAL));
        }
        operation.totals()?;
        Ok(operation)
    }

    /// Unpacks one entry into a directory.
    fn unpack(&self, sandbox: &Sandbox, directory: &Path, entry: &Entry<'_>, content: &[u8]) -> Result<()> {
        self.workshop.check()?;
        let archive = archive(entry, content)?;
        let file = memfd::sealed(&archive).context("a file in memory for a secret")?;
        let options = FileOptions::new().keep_owner(true).time_limit(FILE_TIMEOUT);
        let mut file = File::from(file);
        file.rewind().context("a file in memory for a secret")?;
        sandbox.copy_in(directory, file.as_fd(), &options).map(drop)
    }
}

/// What was put into the root file system for a secret.
#[derive(Debug)]
struct Placed {
    target: PathBuf,
    /// The directories that were made for it, the deepest first.
    made: Vec<PathBuf>,
}

/// An archive of this entry alone. Zero on zero, so that no copy of a secret is left where it grows.
fn archive(entry: &Entry<'_>, content: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(content.len() + ARCHIVE_MARGIN));
    let mut archive = Archive::new(&mut *bytes);
    let written = match entry.kind {
        Kind::File => archive
            .file(entry, content.len() as u64)
            .and_then(|()| archive.content(content))
            .and_then(|()| archive.pad(content.len() as u64)),
        _ => archive.entry(entry),
    };
    written.and_then(|()| archive.finish()).context("an archive in memory")?;
    Ok(bytes)
}

/// Whether more may come of a program's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    More,
    Ended,
}

/// Reads what there is by now, at most so much, and passes it on.
fn read(mut stream: &File, buffer: &mut [u8], most: usize, output: &mut Output) -> Result<Rest> {
    let mut total = 0;
    while total < most {
        match stream.read(buffer) {
            Ok(0) => return Ok(Rest::Ended),
            Ok(length) => {
                output.program(buffer.get(..length).unwrap_or_default());
                total += length;
                if most == usize::MAX {
                    // The caller looks at the clock between two reads.
                    return Ok(Rest::More);
                }
            }
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Ok(Rest::More),
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause).context("reading what the program says"),
        }
    }
    Ok(Rest::More)
}

/// Why a program was ended by another than itself.
fn reason(reason: ExitReason) -> &'static str {
    match reason {
        ExitReason::Exited => "it ended",
        ExitReason::OutOfMemory => "out of memory",
        ExitReason::TimedOut => "its time was over",
        _ => "it was ended",
    }
}
