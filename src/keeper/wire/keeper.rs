//! The messages between the library and the keeper.

use super::codec::{messages, wire};

/// What the names of the trial's steps begin with that try out mounts.
pub(crate) const TRIED_MOUNTS: &str = "mounts: ";

wire! {
    /// An entry of the sandbox's root file system. The keeper makes them in order.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Entry {
        /// A directory; it may exist already.
        Directory { path: Vec<u8>, mode: u32 } = 0,
        /// A symbolic link.
        Symlink { path: Vec<u8>, target: Vec<u8> } = 1,
        /// A file with this content.
        File { path: Vec<u8>, mode: u32, content: Vec<u8> } = 2,
        /// A file or directory of the host, mounted on one that is made for it.
        Bind { path: Vec<u8>, bind: Bind } = 3,
        /// Mounts something empty and unreadable over the path, if the path exists.
        Cover { path: Vec<u8> } = 4,
    }

    /// A directory or file of the host, with everything that is mounted below it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Bind {
        /// Its path on the host, which contains no symbolic links.
        pub(crate) source: Vec<u8>,
        /// Whether the sandbox may write to it.
        pub(crate) writable: bool,
    }

    /// A volume: a directory of the host that sandboxes which run may be changing.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Volume {
        /// Its name, for errors.
        pub(crate) name: Vec<u8>,
        /// Its path on the host, which contains no symbolic links.
        pub(crate) directory: Vec<u8>,
        /// The device and inode that this must have.
        pub(crate) identity: (u64, u64),
        /// The path of its lock's file, which contains no symbolic links. The keeper holds the lock.
        pub(crate) lock: Vec<u8>,
        /// The device and inode that this must have.
        pub(crate) lock_identity: (u64, u64),
        /// The directory in the volume that is mounted; empty for the whole volume.
        pub(crate) sub_path: Vec<u8>,
        /// Whether to create the missing directories of the sub-path.
        pub(crate) create_sub_path: bool,
        /// Whether the sandbox may write to it.
        pub(crate) writable: bool,
    }

    /// A kernel setting of the gateway's network namespace.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Sysctl {
        /// The path below `/proc/sys`.
        pub(crate) name: Vec<u8>,
        /// The value to write.
        pub(crate) value: Vec<u8>,
        /// Whether setup fails if the setting can't be written.
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

    /// A control group to create for the sandbox.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Group {
        /// Its name in the directory whose descriptor comes with the message.
        pub(crate) name: Vec<u8>,
        /// Whether the hierarchy is of version 2.
        pub(crate) unified: bool,
        /// Whether it has the memory controller.
        pub(crate) memory: bool,
        /// The settings to write to its files.
        pub(crate) settings: Vec<GroupSetting>,
    }

    /// A setting of a control group.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct GroupSetting {
        /// The file's name.
        pub(crate) file: Vec<u8>,
        /// The value to write.
        pub(crate) value: Vec<u8>,
        /// Whether the file may be missing.
        pub(crate) optional: bool,
    }

    /// Whether the sandbox exceeded its memory limit, and who found that.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) enum OutOfMemory {
        /// It did not.
        #[default]
        No = 0,
        /// The kernel, which enforces the limit of the control group.
        Kernel = 1,
        /// The keeper's watchdog.
        Watchdog = 2,
    }

    /// The namespaces and root file system that the keeper prepares.
    #[derive(Clone, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Setup {
        /// Whether to create a user namespace.
        pub(crate) user_namespace: bool,
        /// Whether the sandbox has a network: namespaces G and S.
        pub(crate) network: bool,
        /// Create the namespaces and try out mounts, and nothing else (the doctor's trial).
        pub(crate) only_namespaces: bool,
        /// Settings of G.
        pub(crate) sysctls: Vec<Sysctl>,
        /// The path of runsc on the host.
        pub(crate) runsc: Vec<u8>,
        /// The device and inode that runsc must have.
        pub(crate) runsc_identity: (u64, u64),
        /// The device and inode of the directory of programs beside runsc; 0 and 0 to use none.
        pub(crate) beside: (u64, u64),
        /// The sandbox's root file system.
        pub(crate) rootfs: Vec<Entry>,
        /// The sources of the bundle's mounts `/mounts/0`, `/mounts/1` …
        pub(crate) mounts: Vec<Bind>,
        /// The sources of the bundle's mounts `/mounts/volume-0`, `/mounts/volume-1` …
        pub(crate) volumes: Vec<Volume>,
        /// The OCI bundle's config.json.
        pub(crate) bundle: Vec<u8>,
        /// The control groups, one for each of the message's first descriptors.
        pub(crate) groups: Vec<Group>,
        /// The number of images, which are the other descriptors. runsc has them as descriptors 3 and up. With images
        /// init comes in one of them.
        pub(crate) images: u32,
        /// The bytes of memory beyond which the keeper itself ends the sandbox; 0 for no watchdog.
        pub(crate) watched_memory: u64,
    }

    /// What a sandbox uses of the host; `None` where that is unknown.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Usage {
        /// Processor time of all its processes on the host since its start, in microseconds.
        pub(crate) cpu_us: Option<u64>,
        /// Memory in use, in bytes.
        pub(crate) memory: Option<u64>,
        /// The highest memory use so far.
        pub(crate) memory_peak: Option<u64>,
    }

    /// How a snapshot ended.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum SnapshotEnd {
        /// The archive is complete.
        Complete = 0,
        /// It was cancelled.
        Cancelled = 1,
        /// The archive would have more bytes than allowed.
        TooLarge = 2,
        /// The time was over.
        TimedOut = 3,
        /// runsc failed: which command, its status, and the last part of its output.
        Runsc { command: Vec<u8>, status: i32, output: Vec<u8> } = 4,
        /// A step of the keeper's failed.
        Failed { step: Vec<u8>, errno: i32 } = 5,
    }

    /// From the library to the keeper.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Request {
        /// The first message, with the directories of the control groups and the images. The keeper answers `Namespaces`, then
        /// `Prepared`.
        Setup(setup: Box<Setup>) = 0,
        /// Start runsc with these arguments. The one descriptor is init's end of its channel, which becomes its standard
        /// input. With `hold` it waits at its log, which it opens before anything of the sandbox, for `Proceed`.
        /// The keeper answers `Running`, and later `Ended`.
        Run { arguments: Vec<Vec<u8>>, hold: bool } = 1,
        /// Create this many non-blocking sockets in G. The keeper answers `Sockets`, with the same purpose, a
        /// number of the library's choice.
        Sockets { kind: SocketKind, count: u32, purpose: u32 } = 2,
        /// End the sandbox. The keeper answers `Ended`.
        Kill = 3,
        /// Measure what the sandbox uses. The keeper answers `Used`.
        Usage = 4,
        /// End the sandbox after this time if the library hasn't by then, and send `Expired`. A later message
        /// replaces the time.
        Lifetime { milliseconds: u64 } = 5,
        /// Keep a process that can take snapshots of the sandbox with this id. Comes before `Run`; `arguments` are
        /// runsc's, up to the command.
        KeepSnapshots { arguments: Vec<Vec<u8>>, id: Vec<u8> } = 6,
        /// Pause the sandbox, write the changes of its root file system as a tar archive to the one descriptor, a
        /// file, and resume it. The archive has at most so many bytes and takes at most that time. One at a time. The
        /// keeper answers `SnapshotEnded`.
        Snapshot { bytes: u64, milliseconds: u64 } = 7,
        /// End the snapshot that is being taken, if there is one.
        CancelSnapshot = 8,
        /// Let go of a runsc that was started with `hold`.
        Proceed = 9,
    }

    /// From the keeper to the library.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Reply {
        /// The namespaces exist. If there is a network, the descriptors are NETLINK_ROUTE of G,
        /// NETLINK_NETFILTER of G twice (for rules, and for their log), NETLINK_ROUTE of S, the network namespace
        /// S. `refused` names the optional settings of G that could not be written.
        Namespaces { refused: Vec<Vec<u8>> } = 0,
        /// The root file system is complete, and runsc can be started.
        Prepared = 1,
        /// runsc was started.
        Running = 2,
        /// The descriptors are the sockets; fewer than requested if the process has no more descriptors.
        Sockets { kind: SocketKind, purpose: u32 } = 3,
        /// A step failed; the keeper ends.
        Failed { step: Vec<u8>, errno: i32 } = 4,
        /// runsc and all its processes have ended; the keeper ends. The texts are the last part of its log and of
        /// its output.
        Ended { status: i32, log: Vec<u8>, output: Vec<u8>, usage: Usage, out_of_memory: OutOfMemory } = 5,
        /// What the sandbox uses now.
        Used(usage: Usage) = 6,
        /// The sandbox's lifetime is over and the library hasn't ended it; the keeper ends. `Ended` follows.
        Expired = 7,
        /// A snapshot has ended: the bytes of the archive, and how long the sandbox was paused. With `is_paused` it may
        /// still be, and can't be resumed.
        SnapshotEnded { end: SnapshotEnd, bytes: u64, paused_us: u64, is_paused: bool } = 8,
    }
}

messages!(Request, Reply);
