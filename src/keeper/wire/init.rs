//! What the library and init, process 1 inside the sandbox, say to each other.
//!
//! Init is in the hands of hostile code as soon as anything runs. The library reads what comes from it as it
//! would read an attacker, and nothing it can say reaches beyond its own sandbox.

use std::fmt;

use super::files;
use super::{Malformed, Reader, Secret, Writer};

/// Who a program runs as, as written in the configuration. Names are looked up inside the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct User {
    /// A name or a number; empty for root.
    pub(crate) user: String,
    /// A name or a number; empty for the user's own group, which has the user's number if `/etc/passwd` doesn't say.
    pub(crate) group: String,
}

/// As it was written; nothing for root.
impl fmt::Display for User {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.group.is_empty() { "" } else { ":" };
        write!(out, "{}{colon}{}", self.user, self.group)
    }
}

/// What a standard stream of a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Source {
    /// The sandbox's own `/dev/null`.
    #[default]
    Null = 0,
    /// The next descriptor that comes with the message.
    Given = 1,
    /// The same as standard output (for standard error).
    Stdout = 2,
}

impl Source {
    fn from(value: u8) -> Result<Self, Malformed> {
        [Self::Null, Self::Given, Self::Stdout]
            .into_iter()
            .find(|source| *source as u8 == value)
            .ok_or(Malformed)
    }
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Window {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// A program to start. With as many descriptors as streams are `Given`, in order; with a terminal, with one
/// descriptor, an AF_UNIX stream that is relayed to it, and no stream is `Given`.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Start {
    /// The library's number for it.
    pub(crate) id: u32,
    /// Its arguments, the name first. Without any there is no program: its directory is made, no more.
    pub(crate) arguments: Vec<Vec<u8>>,
    /// Its whole environment, `NAME=value`.
    pub(crate) environment: Vec<Secret>,
    /// Its working directory, which is made if it isn't there.
    pub(crate) directory: Vec<u8>,
    /// Who it runs as.
    pub(crate) user: User,
    /// Whether setuid programs may gain privileges (inside the sandbox).
    pub(crate) setuid_allowed: bool,
    /// The most descriptors it may have; 0 for what init has.
    pub(crate) open_files: u32,
    /// Its standard input, output and error.
    pub(crate) streams: [Source; 3],
    /// A terminal of its own in the place of all three.
    pub(crate) terminal: Option<Window>,
}

impl Start {
    /// No fewer bytes than the request has.
    pub(crate) fn size(&self) -> usize {
        let arguments = self.arguments.iter().map(|argument| 4 + argument.len()).sum::<usize>();
        let environment = self.environment.iter().map(|entry| 4 + entry.len()).sum::<usize>();
        let others = self.directory.len() + self.user.user.len() + self.user.group.len();
        arguments + environment + others + 64
    }
}

/// Arguments and environment may be secrets: they are counted only.
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

/// Where starting a program failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// The message or its descriptors made no sense.
    Message = 0,
    /// The user or group is not known in the sandbox.
    User = 1,
    /// Becoming that user.
    Identity = 2,
    /// Entering the working directory.
    Directory = 3,
    /// Executing the program.
    Execute = 4,
    /// Making the process.
    Process = 5,
    /// Making its terminal.
    Terminal = 6,
    /// Making the working directory, which isn't there.
    MakeDirectory = 7,
}

impl Step {
    fn from(value: u8) -> Result<Self, Malformed> {
        use Step::{Directory, Execute, Identity, MakeDirectory, Message, Process, Terminal, User};
        let all = [Message, User, Identity, Directory, Execute, Process, Terminal, MakeDirectory];
        all.into_iter().find(|step| *step as u8 == value).ok_or(Malformed)
    }
}

/// From the library to init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Start a program. Answered by `Started` or `NotStarted`, and some day by `Exited`.
    Start(Box<Start>),
    /// Send a signal to a program, or to its whole process group.
    Signal { id: u32, signal: i32, group: bool },
    /// Kill a program and all that it has started, as far as that can be found. Answered by its `Exited`.
    KillSession { id: u32 },
    /// Connect to a port on 127.0.0.1 inside and relay to the descriptor that comes with this.
    /// Answered by `Connected`.
    Connect { ticket: u32, port: u16 },
    /// Does anything accept connections on this port, on 127.0.0.1 or the sandbox's address?
    /// Answered by `Probed`.
    Probe { ticket: u32, port: u16 },
    /// How many processes are there? Answered by `Counted`.
    Count { ticket: u32 },
    /// Is init there? Answered by `Pong`, from the loop that does everything else, too.
    Ping { ticket: u32 },
    /// A program's terminal has another size now; its foreground processes are told (SIGWINCH).
    Resize { id: u32, window: Window },
    /// Have a helper do something to files. With the helper's end of the socket for the outcome, and of the
    /// stream if there is one. Answered on that socket.
    File { ticket: u32, task: Box<files::Task> },
    /// End that helper, whatever it is at.
    EndFile { ticket: u32 },
}

/// From init to the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Init runs.
    Hello,
    /// A program was started.
    Started { id: u32 },
    /// A program could not be started.
    NotStarted { id: u32, step: Step, errno: i32 },
    /// A program has ended; the status as waitpid(2) gives it.
    Exited { id: u32, status: i32 },
    /// The answer to `Connect`: 0, or the reason against it.
    Connected { ticket: u32, errno: i32 },
    /// The answer to `Probe`: 0, or the reason against it.
    Probed { ticket: u32, errno: i32 },
    /// The answer to `Count`, if there is one.
    Counted { ticket: u32, processes: Option<u64> },
    /// The answer to `Ping`.
    Pong { ticket: u32 },
}

impl Request {
    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Start(start) => {
                let writer = Writer::of_size(0, start.size())
                    .number(start.id)
                    .list(&start.arguments, |w, a| w.bytes(a))
                    .list(&start.environment, |w, a| w.bytes(a))
                    .bytes(&start.directory)
                    .bytes(start.user.user.as_bytes())
                    .bytes(start.user.group.as_bytes())
                    .flag(start.setuid_allowed)
                    .number(start.open_files)
                    .byte(start.streams[0] as u8)
                    .byte(start.streams[1] as u8)
                    .byte(start.streams[2] as u8)
                    .flag(start.terminal.is_some());
                start.terminal.iter().fold(writer, |w, window| window.put(w)).done()
            }
            Self::Signal { id, signal, group } => {
                Writer::of(1).number(*id).signed(*signal).flag(*group).done()
            }
            Self::Connect { ticket, port } => Writer::of(2).number(*ticket).number(u32::from(*port)).done(),
            Self::Probe { ticket, port } => Writer::of(3).number(*ticket).number(u32::from(*port)).done(),
            Self::Resize { id, window } => window.put(Writer::of(4).number(*id)).done(),
            Self::Count { ticket } => Writer::of(5).number(*ticket).done(),
            Self::Ping { ticket } => Writer::of(6).number(*ticket).done(),
            Self::KillSession { id } => Writer::of(7).number(*id).done(),
            Self::File { ticket, task } => task.put(Writer::of(16).number(*ticket)).done(),
            Self::EndFile { ticket } => Writer::of(17).number(*ticket).done(),
        }
    }

    /// From bytes.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        let request = match reader.byte()? {
            0 => Self::Start(Box::new(Start {
                id: reader.number()?,
                arguments: reader.list(Reader::bytes)?,
                environment: reader.list(|reader| reader.bytes().map(Secret::from))?,
                directory: reader.bytes()?,
                user: User { user: reader.text()?, group: reader.text()? },
                setuid_allowed: reader.flag()?,
                open_files: reader.number()?,
                streams: [
                    Source::from(reader.byte()?)?,
                    Source::from(reader.byte()?)?,
                    Source::from(reader.byte()?)?,
                ],
                terminal: if reader.flag()? { Some(Window::get(&mut reader)?) } else { None },
            })),
            1 => Self::Signal { id: reader.number()?, signal: reader.signed()?, group: reader.flag()? },
            2 => Self::Connect { ticket: reader.number()?, port: short(&mut reader)? },
            3 => Self::Probe { ticket: reader.number()?, port: short(&mut reader)? },
            4 => Self::Resize { id: reader.number()?, window: Window::get(&mut reader)? },
            5 => Self::Count { ticket: reader.number()? },
            6 => Self::Ping { ticket: reader.number()? },
            7 => Self::KillSession { id: reader.number()? },
            16 => Self::File { ticket: reader.number()?, task: Box::new(files::Task::take(&mut reader)?) },
            17 => Self::EndFile { ticket: reader.number()? },
            _ => return Err(Malformed),
        };
        reader.end(request)
    }
}

impl Window {
    fn put(&self, writer: Writer) -> Writer {
        writer.number(u32::from(self.rows)).number(u32::from(self.columns))
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { rows: short(reader)?, columns: short(reader)? })
    }
}

fn short(reader: &mut Reader<'_>) -> Result<u16, Malformed> {
    u16::try_from(reader.number()?).map_err(|_| Malformed)
}

impl Reply {
    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello => Writer::of(0).done(),
            Self::Started { id } => Writer::of(1).number(*id).done(),
            Self::NotStarted { id, step, errno } => {
                Writer::of(2).number(*id).byte(*step as u8).signed(*errno).done()
            }
            Self::Exited { id, status } => Writer::of(3).number(*id).signed(*status).done(),
            Self::Connected { ticket, errno } => Writer::of(4).number(*ticket).signed(*errno).done(),
            Self::Probed { ticket, errno } => Writer::of(5).number(*ticket).signed(*errno).done(),
            Self::Counted { ticket, processes } => Writer::of(6).number(*ticket).maybe(*processes).done(),
            Self::Pong { ticket } => Writer::of(7).number(*ticket).done(),
        }
    }

    /// From bytes.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        let reply = match reader.byte()? {
            0 => Self::Hello,
            1 => Self::Started { id: reader.number()? },
            2 => Self::NotStarted {
                id: reader.number()?,
                step: Step::from(reader.byte()?)?,
                errno: reader.signed()?,
            },
            3 => Self::Exited { id: reader.number()?, status: reader.signed()? },
            4 => Self::Connected { ticket: reader.number()?, errno: reader.signed()? },
            5 => Self::Probed { ticket: reader.number()?, errno: reader.signed()? },
            6 => Self::Counted { ticket: reader.number()?, processes: reader.maybe()? },
            7 => Self::Pong { ticket: reader.number()? },
            _ => return Err(Malformed),
        };
        reader.end(reply)
    }
}
