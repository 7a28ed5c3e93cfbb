//! The messages between the library and init, process 1 in the sandbox.
//!
//! Init belongs to hostile code as soon as anything runs. The library reads its replies as it would read an
//! attacker's, and no reply can reach beyond init's own sandbox.

use std::fmt;

use super::codec::{self, messages, wire};
pub(crate) use super::user::User;
use super::{Secret, files};

wire! {
    /// A file to write in the sandbox.
    #[derive(Clone, Debug, PartialEq, Eq, Default)]
    pub(crate) struct File {
        /// Its absolute path.
        pub(crate) path: Vec<u8>,
        /// What is in it.
        pub(crate) content: Vec<u8>,
    }

    /// A standard stream of a program.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) enum Source {
        /// The sandbox's own `/dev/null`.
        #[default]
        Null = 0,
        /// The next descriptor of the message.
        Given = 1,
        /// The same as standard output (for standard error).
        Stdout = 2,
    }

    /// The size of a terminal, in characters.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Window {
        pub(crate) rows: u16,
        pub(crate) columns: u16,
    }

    /// A program to start. The message has one descriptor for each stream that is `Given`, in order. With a
    /// terminal no stream is `Given`, and the one descriptor is an AF_UNIX stream that init relays the terminal to.
    #[derive(Clone, PartialEq, Eq, Default)]
    pub(crate) struct Start {
        /// The library's number for the program.
        pub(crate) id: u32,
        /// The arguments, the name first. If there are none, init makes the working directory and starts nothing.
        pub(crate) arguments: Vec<Vec<u8>>,
        /// The whole environment, `NAME=value`.
        pub(crate) environment: Vec<Secret>,
        /// The working directory. Init makes it if it is missing.
        pub(crate) directory: Vec<u8>,
        /// Files to write before that, as root and with mode 0644. What is there is replaced, and a link isn't followed.
        pub(crate) files: Vec<File>,
        /// The user that the program runs as.
        pub(crate) user: User,
        /// Whether setuid programs may gain privileges (in the sandbox).
        pub(crate) setuid_allowed: bool,
        /// The limit of open files; 0 for init's default.
        pub(crate) open_files: u32,
        /// Standard input, output and error.
        pub(crate) streams: [Source; 3],
        /// A terminal of its own instead of all three.
        pub(crate) terminal: Option<Window>,
    }

    /// The step at which the start of a program failed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Step {
        /// Reading the message and its descriptors.
        Message = 0,
        /// Looking up the user or group in the sandbox.
        User = 1,
        /// Changing to that user.
        Identity = 2,
        /// Entering the working directory.
        Directory = 3,
        /// Executing the program.
        Execute = 4,
        /// Creating the process.
        Process = 5,
        /// Creating the terminal.
        Terminal = 6,
        /// Creating the working directory.
        MakeDirectory = 7,
        /// Writing the files.
        WriteFiles = 8,
    }

    /// From the library to init.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Request {
        /// Start a program. Init answers `Started` or `NotStarted`, and after `Started` later `Exited`.
        Start(start: Box<Start>) = 0,
        /// Send a signal to a program, or to its whole process group.
        Signal { id: u32, signal: i32, group: bool } = 1,
        /// Connect to a port on 127.0.0.1 in the sandbox and relay it to the message's descriptor.
        /// Init answers `Connected`.
        Connect { ticket: u32, port: u16 } = 2,
        /// Check whether a server accepts connections on this port of 127.0.0.1 or the sandbox's address.
        /// Init answers `Probed`.
        Probe { ticket: u32, port: u16 } = 3,
        /// Change the size of a program's terminal; its foreground processes get SIGWINCH.
        Resize { id: u32, window: Window } = 4,
        /// Count the processes. Init answers `Counted`.
        Count { ticket: u32 } = 5,
        /// Check that init responds. It answers `Pong` from the loop that does everything else.
        Ping { ticket: u32 } = 6,
        /// Kill a program and every process that it has started, as far as they can be found. `Exited` follows.
        KillSession { id: u32 } = 7,
        /// Kill every process but init. `Exited` follows for programs.
        KillAll = 8,
        /// Run a file operation in a helper process. The message has the helper's end of the socket for the
        /// outcome, and of the stream if the operation has one. The helper answers on that socket.
        File { ticket: u32, task: Box<files::Task> } = 16,
        /// Kill that helper.
        EndFile { ticket: u32 } = 17,
    }

    /// From init to the library.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Reply {
        /// Init runs.
        Hello = 0,
        /// A program was started.
        Started { id: u32 } = 1,
        /// A program could not be started.
        NotStarted { id: u32, step: Step, errno: i32 } = 2,
        /// A program has ended, with the status of waitpid(2).
        Exited { id: u32, status: i32 } = 3,
        /// Answers `Connect`; `errno` is 0 on success.
        Connected { ticket: u32, errno: i32 } = 4,
        /// Answers `Probe`; `errno` is 0 if a server accepts connections.
        Probed { ticket: u32, errno: i32 } = 5,
        /// Answers `Count`; `None` if init can't tell.
        Counted { ticket: u32, processes: Option<u64> } = 6,
        /// Answers `Ping`.
        Pong { ticket: u32 } = 7,
    }
}

messages!(Request, Reply);

impl Start {
    /// How many bytes the request has: those of the program and the number of the request.
    pub(crate) fn size(&self) -> usize {
        1 + codec::size(self)
    }
}

/// Only counts arguments and environment, which may hold secrets.
impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start")
            .field("id", &self.id)
            .field("arguments", &self.arguments.len())
            .field("environment", &self.environment.len())
            .field("streams", &self.streams)
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}
