//! The messages between the library and the process that converts images.
//!
//! The library sends one request at a time. The process, which reads strangers' bytes, may be in their hands: the
//! library checks every reply as it would check an attacker's.

use super::codec::{messages, wire};

/// The most entries that an archive of an image may have.
pub(crate) const MAX_ARCHIVE_ENTRIES: usize = 4096;
/// The longest name in such an archive, and the longest target of a link. Real ones have some 80 bytes.
pub(crate) const MAX_ARCHIVE_NAME: usize = 1024;
/// The longest text of a failure.
pub(crate) const MAX_FAILURE_TEXT: usize = 1024;

wire! {
    /// What an image may be at most.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Limits {
        /// The bytes of all its files in whole blocks, and of all its layers together when they are decompressed.
        pub(crate) bytes: u64,
        /// The entries of all its layers together, and the names in it.
        pub(crate) entries: u64,
        /// How many bytes may come of one compressed byte, after the first 16 MiB.
        pub(crate) ratio: u64,
        /// The depth of its directories.
        pub(crate) depth: u32,
        /// The number of its layers.
        pub(crate) layers: u32,
        /// The memory for names, owners and the like.
        pub(crate) memory: u64,
    }

    /// What the process may use of the machine (setrlimit(2)).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Resources {
        /// The seconds of processor time.
        pub(crate) cpu_seconds: u64,
        /// The bytes of memory that it may map.
        pub(crate) address_space: u64,
        /// The bytes of a file.
        pub(crate) file_size: u64,
    }

    /// A part of a file.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Range {
        /// Where it begins.
        pub(crate) offset: u64,
        /// Its length.
        pub(crate) length: u64,
    }

    /// How a layer expresses that a file of the layers below is removed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Whiteouts {
        /// By entries whose names start with `.wh.`, as in OCI images.
        Oci = 0,
        /// By character devices 0/0 and an attribute of directories, as gVisor writes the upper layer of a root.
        Devices = 1,
        /// Not at all: it is a whole root file system.
        None = 2,
    }

    /// An entry of an archive that can be read at any offset.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct ArchiveEntry {
        /// Its name as written in the archive.
        pub(crate) name: Vec<u8>,
        /// Where its content begins.
        pub(crate) offset: u64,
        /// The length of its content.
        pub(crate) length: u64,
        /// The target, if it is a hard or a symbolic link.
        pub(crate) link: Option<Vec<u8>>,
    }

    /// What became of the layers.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Summary {
        /// The names in the image.
        pub(crate) entries: u64,
        /// The size of the image's file.
        pub(crate) bytes: u64,
        /// The bytes of all regular files.
        pub(crate) content_bytes: u64,
        /// The extended attributes that were left out.
        pub(crate) dropped_xattrs: u64,
        /// The SHA-256 of each layer, uncompressed.
        pub(crate) diff_ids: Vec<[u8; 32]>,
    }

    /// What was written of an image.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Exported {
        /// The entries of the archive.
        pub(crate) entries: u64,
        /// The bytes of its files.
        pub(crate) bytes: u64,
        /// The devices and sockets, which aren't in it.
        pub(crate) skipped: u64,
    }

    /// What kind of failure it is.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Failure {
        /// The bytes aren't what they should be.
        Malformed = 0,
        /// A limit is exceeded.
        Limit = 1,
        /// A digest differs.
        Digest = 2,
        /// A system call failed; `errno` has its number.
        System = 3,
        /// The process found a fault in itself.
        Internal = 4,
    }

    /// From the library to the process.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Request {
        /// The first message. The process confines itself and answers `Ready`.
        Setup { limits: Limits, resources: Resources } = 0,
        /// An EROFS file, made by this program, as the lowest layer. The process answers `Done`.
        Base = 1,
        /// The next layer, above those before: the file's part, or all that can be read from it. The process answers
        /// `Done`.
        Layer { range: Option<Range>, diff_id: Option<[u8; 32]>, whiteouts: Whiteouts } = 2,
        /// List the entries of a tar archive. The process answers `Entries`, as often as it takes.
        Index = 3,
        /// Decompress the first file into the second. The process answers `Inflated`.
        Inflate = 4,
        /// Complete the image's file. One that is a root gets the directories that are mounted over in every sandbox. The
        /// process answers `Finished` and ends.
        Finish { is_root: bool } = 5,
        /// Whether the layers so far have a directory at this path, links followed. The process answers `Directory`.
        FindDirectory { path: Vec<u8> } = 6,
        /// Write the tree of the first file, an EROFS file that was made by this program, to the second, as a tar archive.
        /// The process answers `Exported`.
        Export = 7,
    }

    /// From the process to the library.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Reply {
        /// The process is confined; `isolated` if it has empty namespaces too.
        Ready { isolated: bool } = 0,
        /// How many bytes of input were read for the request; sent at most every 100 ms.
        Progress { bytes: u64 } = 1,
        /// The request is done.
        Done = 2,
        /// Some of the archive's entries; more follow unless `last`.
        Entries { entries: Vec<ArchiveEntry>, last: bool } = 3,
        /// Decompressed, to so many bytes.
        Inflated { bytes: u64 } = 4,
        /// The image's file is complete.
        Finished(summary: Summary) = 5,
        /// The archive of an image is written.
        Exported(exported: Exported) = 8,
        /// The request failed; the process ends.
        Failed { failure: Failure, errno: i32, text: Vec<u8> } = 6,
        /// Whether there is such a directory.
        Directory { found: bool } = 7,
    }
}

messages!(Request, Reply);
