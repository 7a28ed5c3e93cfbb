//! The library's side of a keeper: starts it and talks to it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wire::keeper::{Reply, Request};
use crate::error::{Code, Context, Error, Result};
use crate::sys::channel::{self, Channel};
use crate::sys::spawn::{self, Child, Command, Executable};
use crate::sys::{memfd, pidfd, secure};

/// The keeper's program, built by `build.rs`.
pub(super) const EMBEDDED: &[u8] = include_bytes!(env!("SBX_KEEPER_PROGRAM"));
/// Identifies the sources of the program. The keeper compares it with its own.
const BUILD: &str = env!("SBX_BUILD");

/// The most bytes of an installed program that are read; it has a megabyte.
const MAX_PROGRAM_SIZE: u64 = 64 << 20;

/// Where to get the keeper's program from. Reads the environment once, when it is created.
#[derive(Debug)]
pub(crate) struct Origin {
    /// An installed copy. AppArmor may let only programs at named paths create user namespaces (Ubuntu
    /// 24.04), and the copy has such a path.
    installed: Option<PathBuf>,
    /// Where to write the embedded program if a memfd can't be executed.
    directories: Vec<PathBuf>,
}

impl Origin {
    /// The embedded program, or an installed copy of it.
    pub(crate) fn new(installed: Option<PathBuf>) -> Self {
        let named = ["XDG_RUNTIME_DIR", "TMPDIR"].into_iter().filter_map(secure::variable).map(PathBuf::from);
        let last = ["/tmp", "/dev/shm"].map(PathBuf::from);
        Self { installed, directories: named.chain(last).collect() }
    }
}

/// The keeper's program, ready to be started any number of times.
#[derive(Debug)]
pub(crate) struct Program {
    file: OwnedFd,
}

impl Program {
    /// Opens the installed copy, or makes the embedded program executable.
    pub(crate) fn new(origin: &Origin) -> Result<Self> {
        let file = match &origin.installed {
            Some(path) => {
                let what = format!("the keeper's program {}", path.display());
                OwnedFd::from(File::open(path).context(what)?)
            }
            None => {
                let directories: Vec<&Path> = origin.directories.iter().map(PathBuf::as_path).collect();
                memfd::program(EMBEDDED, &directories).map_err(|cause| no_place(&cause))?
            }
        };
        Ok(Self { file })
    }

    /// Starts the program in the role that has this name, with an empty environment and only these descriptors.
    pub(crate) fn start(&self, role: &CStr, descriptors: &[BorrowedFd<'_>]) -> io::Result<Child> {
        spawn::spawn(&mut Command {
            executable: Executable::Open(self.file.as_fd()),
            arguments: &[role.to_owned(), CString::new(BUILD).unwrap_or_default()],
            environment: &[],
            descriptors,
            dispositions: spawn::EVERY_SIGNAL,
            prepare: &mut || Ok(()),
        })
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let what = "reading the keeper's program";
        let file = File::from(self.file.try_clone().context(what)?);
        let size = file.metadata().context(what)?.len();
        let mut bytes = vec![0; usize::try_from(size.min(MAX_PROGRAM_SIZE)).unwrap_or(0)];
        // The descriptor's own offset stays where it is.
        file.read_exact_at(&mut bytes, 0).context(what)?;
        Ok(bytes)
    }
}

/// A started keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    channel: Channel,
    child: Child,
}

impl Keeper {
    /// Starts a keeper. It ends with the calling thread at the latest.
    pub(crate) fn start(program: &Program) -> Result<Self> {
        let (ours, theirs) = channel::pair().context("socket pair for a keeper")?;
        let null = File::options().read(true).write(true).open("/dev/null").context("/dev/null")?;
        // The pidfd of this thread and not of the process: a host that executes another program ends the
        // thread, but not its process, and EOF on the channel doesn't arrive while a forked child of the host
        // holds it too.
        let host = pidfd::of_this_thread().context("pidfd_open of the own thread")?;
        let null = null.as_fd();
        let child = program
            .start(c"sbx-keeper", &[null, null, null, theirs.as_fd(), host.as_fd()])
            .context("starting the keeper")?;
        Ok(Self { channel: Channel::new(ours), child })
    }

    /// Sends a request.
    pub(crate) fn ask(&mut self, request: &Request, fds: Vec<OwnedFd>) -> Result<()> {
        self.channel.send(&request.encode(), fds).context("writing to the keeper").map_err(lost)
    }

    /// Sends pending messages that the keeper could not take before.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.channel.flush().map(|_| ()).context("writing to the keeper").map_err(lost)
    }

    /// Receives a reply, if there is one.
    pub(crate) fn hear(&mut self) -> Result<Option<(Reply, Vec<OwnedFd>)>> {
        match self.channel.receive() {
            Ok(message) => match Reply::decode(&message.bytes) {
                // Fewer sockets than requested is a valid reply.
                Ok(reply @ Reply::Sockets { .. }) => Ok(Some((reply, message.fds))),
                Ok(_) if message.truncated => Err(Error::no_descriptors("a sandbox", "end others")),
                Ok(reply) => Ok(Some((reply, message.fds))),
                Err(_) => Err(Error::new(Code::Engine, "the keeper sent something malformed")),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::new(Code::Engine, "the keeper ended"))
            }
            Err(error) => Err(Error::system("reading from the keeper", &error).with_code(Code::Engine)),
        }
    }

    /// Kills the keeper, and with it everything below.
    pub(crate) fn kill(&self) {
        if let Err(error) = pidfd::signal(self.child.pidfd.as_fd(), libc::SIGKILL) {
            log::error!("the keeper {} can't be killed: {error}", self.child.pid);
        }
    }

    /// Whether its process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        pidfd::has_ended(self.process(), Duration::ZERO)
    }

    /// Waits until the process has ended, and reaps it.
    pub(crate) fn wait(&self, patience: Duration) {
        pidfd::has_ended(self.process(), patience);
        self.reap();
    }

    /// Reaps the process once it has ended.
    pub(crate) fn reap(&self) {
        pidfd::reap(self.child.pidfd.as_fd());
    }

    /// The pidfd of the process, readable once it has ended.
    pub(crate) fn process(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Its process id.
    #[cfg(test)]
    pub(crate) fn pid(&self) -> i32 {
        self.child.pid
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// The error if the embedded program could not be written anywhere.
fn no_place(cause: &io::Error) -> Error {
    if cause.raw_os_error() == Some(libc::EFBIG) {
        let size = EMBEDDED.len();
        let text = format!(
            "no place for the keeper's program: the limit of file size (ulimit -f, RLIMIT_FSIZE) is below its {size} \
             bytes; raise it, or install a copy and name it by SBX_KEEPER"
        );
        return Error::system(text, cause).with_code(Code::Host);
    }
    Error::system(
        "no place for the keeper's program: vm.memfd_noexec=2 forbids memfds that run, and neither XDG_RUNTIME_DIR \
         nor the temporary directory takes one",
        cause,
    )
}

fn lost(error: Error) -> Error {
    error.with_code(Code::Engine)
}
