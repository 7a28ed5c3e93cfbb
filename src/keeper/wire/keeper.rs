//! What the library and the keeper say to each other.

use super::{Malformed, Reader, Writer};

/// One thing of the sandbox's root file system, in the order in which they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A directory; it may exist already.
    Directory { path: Vec<u8>, mode: u32 },
    /// A symbolic link.
    Symlink { path: Vec<u8>, target: Vec<u8> },
    /// A file with this content.
    File { path: Vec<u8>, mode: u32, content: Vec<u8> },
    /// Something of the host, on a file or directory that is made for it.
    Bind { path: Vec<u8>, bind: Bind },
    /// Something empty that nobody may read, over what is there; nothing if nothing is.
    Cover { path: Vec<u8> },
}

/// A directory or file of the host, with what is mounted below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    /// Where it is on the host; a path without links.
    pub(crate) source: Vec<u8>,
    /// Whether it may be written to.
    pub(crate) writable: bool,
}

/// A kernel setting of the gateway's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// The path below `/proc/sys`.
    pub(crate) name: Vec<u8>,
    /// The value to write.
    pub(crate) value: Vec<u8>,
    /// Whether the sandbox can't do without it.
    pub(crate) mandatory: bool,
}

/// A kind of socket in G.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketKind {
    /// IPv6, else IPv4.
    pub(crate) ipv6: bool,
    /// UDP, else TCP.
    pub(crate) datagram: bool,
}

/// A control group to make for the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its name in the directory whose descriptor comes along.
    pub(crate) name: Vec<u8>,
    /// Whether it is of version 2.
    pub(crate) unified: bool,
    /// Whether it has the memory controller.
    pub(crate) memory: bool,
    /// What is written to its files.
    pub(crate) settings: Vec<GroupSetting>,
}

/// A setting of a control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupSetting {
    /// The file's name.
    pub(crate) file: Vec<u8>,
    /// What is written to it.
    pub(crate) value: Vec<u8>,
    /// Whether the file may be missing.
    pub(crate) optional: bool,
}

/// Whether, and by whom, the sandbox was found to need more memory than it may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OutOfMemory {
    /// It was not.
    #[default]
    No = 0,
    /// By the kernel, which holds the limit of its control group.
    Kernel = 1,
    /// By the keeper, which looked at it.
    Watchdog = 2,
}

/// What the keeper prepares: namespaces and root file system.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Setup {
    /// Whether to make a user namespace.
    pub(crate) user_namespace: bool,
    /// Whether the sandbox has a network: namespaces G and S.
    pub(crate) network: bool,
    /// Make the namespaces and nothing else (the doctor's trial).
    pub(crate) only_namespaces: bool,
    /// Settings of G.
    pub(crate) sysctls: Vec<Sysctl>,
    /// The path of runsc on the host, and the device and inode it must have there.
    pub(crate) runsc: Vec<u8>,
    /// See `runsc`.
    pub(crate) runsc_identity: (u64, u64),
    /// The device and inode of the directory of programs beside runsc; 0 and 0 if there is none to be used.
    pub(crate) beside: (u64, u64),
    /// The sandbox's root file system.
    pub(crate) rootfs: Vec<Entry>,
    /// What the bundle mounts from `/mounts/0`, `/mounts/1` …
    pub(crate) mounts: Vec<Bind>,
    /// The OCI bundle's config.json.
    pub(crate) bundle: Vec<u8>,
    /// The control groups, one for each descriptor that comes along.
    pub(crate) groups: Vec<Group>,
    /// If not 0: the bytes of memory beyond which the keeper ends the sandbox itself.
    pub(crate) watched_memory: u64,
}

/// What a sandbox uses of the host; `None` where it isn't known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time of all its processes on the host since its start, in microseconds.
    pub(crate) cpu_us: Option<u64>,
    /// Memory now, in bytes.
    pub(crate) memory: Option<u64>,
    /// The most it ever had.
    pub(crate) memory_peak: Option<u64>,
}

/// From the library to the keeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// First of all, with the directories of the control groups. Answered by `Namespaces`, then `Prepared`.
    Setup(Box<Setup>),
    /// Start runsc with these arguments. With one descriptor: init's end of its channel, which becomes 3.
    /// Answered by `Running`, and some day by `Ended`.
    Run { arguments: Vec<Vec<u8>> },
    /// Make this many non-blocking sockets in G. Answered by `Sockets`. The purpose is the library's own word
    /// for what they are for, and comes back with them.
    Sockets { kind: SocketKind, count: u32, purpose: u32 },
    /// End everything. Answered by `Ended`.
    Kill,
    /// Say what the sandbox uses. Answered by `Used`.
    Usage,
    /// End everything after so many milliseconds from now, if the library hasn't by then. The last word counts. Then
    /// `Expired` is said.
    Lifetime { milliseconds: u64 },
}

/// From the keeper to the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The namespaces exist. With the descriptors, if there is a network: NETLINK_ROUTE of G,
    /// NETLINK_NETFILTER of G twice (rules, and what they tell), NETLINK_ROUTE of S, the network namespace S.
    /// `refused` names the optional settings of G that could not be written.
    Namespaces { refused: Vec<Vec<u8>> },
    /// The root file system stands, runsc can be started.
    Prepared,
    /// runsc was started.
    Running,
    /// The sockets asked for are the descriptors; fewer if the process is out of them.
    Sockets { kind: SocketKind, purpose: u32 },
    /// Something failed; the keeper ends.
    Failed { step: Vec<u8>, errno: i32 },
    /// runsc and all that belonged to it have ended; the keeper ends. The texts are the ends of its log and
    /// of what it wrote to its standard streams.
    Ended { status: i32, log: Vec<u8>, output: Vec<u8>, usage: Usage, out_of_memory: OutOfMemory },
    /// What the sandbox uses now.
    Used(Usage),
    /// Its time is over and the library was not there to end it; the keeper ends. `Ended` follows.
    Expired,
}

impl Entry {
    fn put(writer: Writer, entry: &Self) -> Writer {
        match entry {
            Self::Directory { path, mode } => writer.byte(0).bytes(path).number(*mode),
            Self::Symlink { path, target } => writer.byte(1).bytes(path).bytes(target),
            Self::File { path, mode, content } => writer.byte(2).bytes(path).number(*mode).bytes(content),
            Self::Bind { path, bind } => Bind::put(writer.byte(3).bytes(path), bind),
            Self::Cover { path } => writer.byte(4).bytes(path),
        }
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match reader.byte()? {
            0 => Self::Directory { path: reader.bytes()?, mode: reader.number()? },
            1 => Self::Symlink { path: reader.bytes()?, target: reader.bytes()? },
            2 => Self::File { path: reader.bytes()?, mode: reader.number()?, content: reader.bytes()? },
            3 => Self::Bind { path: reader.bytes()?, bind: Bind::get(reader)? },
            4 => Self::Cover { path: reader.bytes()? },
            _ => return Err(Malformed),
        })
    }
}

impl Bind {
    fn put(writer: Writer, bind: &Self) -> Writer {
        writer.bytes(&bind.source).flag(bind.writable)
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { source: reader.bytes()?, writable: reader.flag()? })
    }
}

impl Sysctl {
    fn put(writer: Writer, sysctl: &Self) -> Writer {
        writer.bytes(&sysctl.name).bytes(&sysctl.value).flag(sysctl.mandatory)
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { name: reader.bytes()?, value: reader.bytes()?, mandatory: reader.flag()? })
    }
}

impl Group {
    fn put(writer: Writer, group: &Self) -> Writer {
        let put = |writer: Writer, setting: &GroupSetting| {
            writer.bytes(&setting.file).bytes(&setting.value).flag(setting.optional)
        };
        writer.bytes(&group.name).flag(group.unified).flag(group.memory).list(&group.settings, put)
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let get = |reader: &mut Reader<'_>| {
            Ok(GroupSetting { file: reader.bytes()?, value: reader.bytes()?, optional: reader.flag()? })
        };
        Ok(Self {
            name: reader.bytes()?,
            unified: reader.flag()?,
            memory: reader.flag()?,
            settings: reader.list(get)?,
        })
    }
}

impl OutOfMemory {
    fn from(value: u8) -> Result<Self, Malformed> {
        [Self::No, Self::Kernel, Self::Watchdog].into_iter().find(|one| *one as u8 == value).ok_or(Malformed)
    }
}

impl Usage {
    fn put(writer: Writer, usage: &Self) -> Writer {
        writer.maybe(usage.cpu_us).maybe(usage.memory).maybe(usage.memory_peak)
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { cpu_us: reader.maybe()?, memory: reader.maybe()?, memory_peak: reader.maybe()? })
    }
}

impl SocketKind {
    fn put(writer: Writer, kind: Self) -> Writer {
        writer.flag(kind.ipv6).flag(kind.datagram)
    }

    fn get(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { ipv6: reader.flag()?, datagram: reader.flag()? })
    }
}

impl Request {
    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Setup(setup) => Writer::of(0)
                .flag(setup.user_namespace)
                .flag(setup.network)
                .flag(setup.only_namespaces)
                .list(&setup.sysctls, Sysctl::put)
                .bytes(&setup.runsc)
                .long(setup.runsc_identity.0)
                .long(setup.runsc_identity.1)
                .long(setup.beside.0)
                .long(setup.beside.1)
                .list(&setup.rootfs, Entry::put)
                .list(&setup.mounts, Bind::put)
                .bytes(&setup.bundle)
                .list(&setup.groups, Group::put)
                .long(setup.watched_memory)
                .done(),
            Self::Run { arguments } => Writer::of(1).list(arguments, |w, a| w.bytes(a)).done(),
            Self::Sockets { kind, count, purpose } => {
                SocketKind::put(Writer::of(2), *kind).number(*count).number(*purpose).done()
            }
            Self::Kill => Writer::of(3).done(),
            Self::Usage => Writer::of(4).done(),
            Self::Lifetime { milliseconds } => Writer::of(5).long(*milliseconds).done(),
        }
    }

    /// From bytes.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        let request = match reader.byte()? {
            0 => Self::Setup(Box::new(Setup {
                user_namespace: reader.flag()?,
                network: reader.flag()?,
                only_namespaces: reader.flag()?,
                sysctls: reader.list(Sysctl::get)?,
                runsc: reader.bytes()?,
                runsc_identity: (reader.long()?, reader.long()?),
                beside: (reader.long()?, reader.long()?),
                rootfs: reader.list(Entry::get)?,
                mounts: reader.list(Bind::get)?,
                bundle: reader.bytes()?,
                groups: reader.list(Group::get)?,
                watched_memory: reader.long()?,
            })),
            1 => Self::Run { arguments: reader.list(Reader::bytes)? },
            2 => Self::Sockets {
                kind: SocketKind::get(&mut reader)?,
                count: reader.number()?,
                purpose: reader.number()?,
            },
            3 => Self::Kill,
            4 => Self::Usage,
            5 => Self::Lifetime { milliseconds: reader.long()? },
            _ => return Err(Malformed),
        };
        reader.end(request)
    }
}

impl Reply {
    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Namespaces { refused } => Writer::of(0).list(refused, |w, name| w.bytes(name)).done(),
            Self::Prepared => Writer::of(1).done(),
            Self::Running => Writer::of(2).done(),
            Self::Sockets { kind, purpose } => SocketKind::put(Writer::of(3), *kind).number(*purpose).done(),
            Self::Failed { step, errno } => Writer::of(4).bytes(step).signed(*errno).done(),
            Self::Ended { status, log, output, usage, out_of_memory } => {
                let writer = Writer::of(5).signed(*status).bytes(log).bytes(output);
                Usage::put(writer, usage).byte(*out_of_memory as u8).done()
            }
            Self::Used(usage) => Usage::put(Writer::of(6), usage).done(),
            Self::Expired => Writer::of(7).done(),
        }
    }

    /// From bytes.
    pub(crate) fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        let reply = match reader.byte()? {
            0 => Self::Namespaces { refused: reader.list(Reader::bytes)? },
            1 => Self::Prepared,
            2 => Self::Running,
            3 => Self::Sockets { kind: SocketKind::get(&mut reader)?, purpose: reader.number()? },
            4 => Self::Failed { step: reader.bytes()?, errno: reader.signed()? },
            5 => Self::Ended {
                status: reader.signed()?,
                log: reader.bytes()?,
                output: reader.bytes()?,
                usage: Usage::get(&mut reader)?,
                out_of_memory: OutOfMemory::from(reader.byte()?)?,
            },
            6 => Self::Used(Usage::get(&mut reader)?),
            7 => Self::Expired,
            _ => return Err(Malformed),
        };
        reader.end(reply)
    }
}
