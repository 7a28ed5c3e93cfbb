//! Both wire formats from both sides: what is put comes back, and nothing that arrives does any harm.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::keeper::wire::{files, image, init, keeper};

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn list() -> impl Strategy<Value = Vec<Vec<u8>>> {
    vec(bytes(), 0..6)
}

fn source() -> impl Strategy<Value = init::Source> {
    prop_oneof![Just(init::Source::Null), Just(init::Source::Given), Just(init::Source::Stdout)]
}

fn step() -> impl Strategy<Value = init::Step> {
    use init::Step::{
        Directory, Execute, Identity, MakeDirectory, Message, Process, Terminal, User, WriteFiles,
    };
    prop::sample::select(vec![
        Message,
        User,
        Identity,
        Directory,
        Execute,
        Process,
        Terminal,
        MakeDirectory,
        WriteFiles,
    ])
}

fn window() -> impl Strategy<Value = init::Window> {
    any::<(u16, u16)>().prop_map(|(rows, columns)| init::Window { rows, columns })
}

/// A path that leads nowhere: a real init works on these.
fn path() -> impl Strategy<Value = Vec<u8>> {
    bytes().prop_map(|bytes| [b"/dev/null/", &bytes[..]].concat())
}

fn user() -> impl Strategy<Value = init::User> {
    (any::<String>(), any::<String>(), any::<bool>()).prop_map(|(user, group, of_image)| init::User {
        user,
        group,
        of_image,
    })
}

fn start() -> impl Strategy<Value = init::Start> {
    let file = (path(), bytes()).prop_map(|(path, content)| init::File { path, content });
    let streams = [source(), source(), source()];
    let terminal = proptest::option::of(window());
    let others = (any::<bool>(), any::<u32>());
    (any::<u32>(), list(), list(), (path(), vec(file, 0..3)), user(), others, streams, terminal).prop_map(
        |(id, arguments, environment, (directory, files), user, others, streams, terminal)| init::Start {
            id,
            arguments,
            environment: environment.into_iter().map(Into::into).collect(),
            directory,
            files,
            user,
            setuid_allowed: others.0,
            open_files: others.1,
            streams,
            terminal,
        },
    )
}

fn file_task() -> impl Strategy<Value = files::Task> {
    use files::Job::{List, MakeDirectory, Measure, Pack, Read, Remove, Rename, Stat, Unpack, Watch, Write};
    let job = (any::<u8>(), path(), path(), any::<(u64, u64, u32)>(), any::<[bool; 3]>()).prop_map(
        |(which, path, to, (offset, limit, mode), [one, two, three])| match which % 11 {
            0 => Read { path, offset, limit },
            1 => Write { path, mode, append: one, exclusive: two, parents: three },
            2 => List { path, limit },
            3 => Stat { path, follow: one },
            4 => MakeDirectory { path, mode, parents: one },
            5 => Remove { path, recursive: one, missing_ok: two },
            6 => Rename { from: path, to, exclusive: one },
            7 => Pack { path, limit, as_layer: one },
            9 => Measure { limit },
            8 => Unpack { path, limit, parents: one, keep_owner: two, keep_root: !one },
            _ => Watch { path, recursive: one },
        },
    );
    (user(), job).prop_map(|(user, job)| files::Task { user, job })
}

pub(super) fn to_init() -> impl Strategy<Value = init::Request> {
    use init::Request::{Connect, Count, EndFile, File, KillSession, Ping, Probe, Resize, Signal, Start};
    prop_oneof![
        start().prop_map(|start| Start(Box::new(start))),
        any::<(u32, i32, bool)>().prop_map(|(id, signal, group)| Signal { id, signal, group }),
        any::<(u32, u16)>().prop_map(|(ticket, port)| Connect { ticket, port }),
        any::<(u32, u16)>().prop_map(|(ticket, port)| Probe { ticket, port }),
        (any::<u32>(), window()).prop_map(|(id, window)| Resize { id, window }),
        (any::<u32>(), file_task()).prop_map(|(ticket, task)| File { ticket, task: Box::new(task) }),
        any::<u32>().prop_map(|ticket| EndFile { ticket }),
        any::<u32>().prop_map(|ticket| Count { ticket }),
        any::<u32>().prop_map(|ticket| Ping { ticket }),
        any::<u32>().prop_map(|id| KillSession { id }),
    ]
}

fn from_init() -> impl Strategy<Value = init::Reply> {
    use init::Reply::{Connected, Counted, Exited, Hello, NotStarted, Pong, Probed, Started};
    prop_oneof![
        Just(Hello),
        any::<u32>().prop_map(|id| Started { id }),
        (any::<u32>(), step(), any::<i32>()).prop_map(|(id, step, errno)| NotStarted { id, step, errno }),
        any::<(u32, i32)>().prop_map(|(id, status)| Exited { id, status }),
        any::<(u32, i32)>().prop_map(|(ticket, errno)| Connected { ticket, errno }),
        any::<(u32, i32)>().prop_map(|(ticket, errno)| Probed { ticket, errno }),
        any::<(u32, Option<u64>)>().prop_map(|(ticket, processes)| Counted { ticket, processes }),
        any::<u32>().prop_map(|ticket| Pong { ticket }),
    ]
}

fn bind() -> impl Strategy<Value = keeper::Bind> {
    (bytes(), any::<bool>()).prop_map(|(source, writable)| keeper::Bind { source, writable })
}

fn entry() -> impl Strategy<Value = keeper::Entry> {
    use keeper::Entry::{Bind, Cover, Directory, File, Symlink};
    prop_oneof![
        (bytes(), any::<u32>()).prop_map(|(path, mode)| Directory { path, mode }),
        (bytes(), bytes()).prop_map(|(path, target)| Symlink { path, target }),
        (bytes(), any::<u32>(), bytes()).prop_map(|(path, mode, content)| File { path, mode, content }),
        (bytes(), bind()).prop_map(|(path, bind)| Bind { path, bind }),
        bytes().prop_map(|path| Cover { path }),
    ]
}

fn volume() -> impl Strategy<Value = keeper::Volume> {
    let paths = (bytes(), bytes(), bytes(), bytes());
    (paths, any::<([u64; 4], [bool; 2])>()).prop_map(|((name, directory, lock, sub_path), (ids, flags))| {
        let [device, inode, lock_device, lock_inode] = ids;
        let [create_sub_path, writable] = flags;
        keeper::Volume {
            name,
            directory,
            identity: (device, inode),
            lock,
            lock_identity: (lock_device, lock_inode),
            sub_path,
            create_sub_path,
            writable,
        }
    })
}

fn group() -> impl Strategy<Value = keeper::Group> {
    let setting = (bytes(), bytes(), any::<bool>())
        .prop_map(|(file, value, optional)| keeper::GroupSetting { file, value, optional });
    (bytes(), any::<[bool; 2]>(), vec(setting, 0..4))
        .prop_map(|(name, [unified, memory], settings)| keeper::Group { name, unified, memory, settings })
}

fn setup() -> impl Strategy<Value = keeper::Setup> {
    let sysctl = (bytes(), bytes(), any::<bool>()).prop_map(|(name, value, mandatory)| keeper::Sysctl {
        name,
        value,
        mandatory,
    });
    let volumes = vec(volume(), 0..3);
    let lists = (vec(sysctl, 0..4), vec(entry(), 0..6), vec(bind(), 0..4), volumes, vec(group(), 0..3));
    (any::<[bool; 3]>(), lists, bytes(), any::<([u64; 2], [u64; 2], u64, u32)>(), bytes()).prop_map(
        |(
            [user_namespace, network, only_namespaces],
            (sysctls, rootfs, mounts, volumes, groups),
            runsc,
            ([device, inode], [beside_device, beside_inode], watched_memory, images),
            bundle,
        )| {
            keeper::Setup {
                user_namespace,
                network,
                only_namespaces,
                sysctls,
                runsc,
                runsc_identity: (device, inode),
                beside: (beside_device, beside_inode),
                rootfs,
                mounts,
                volumes,
                bundle,
                groups,
                images,
                watched_memory,
            }
        },
    )
}

fn socket_kind() -> impl Strategy<Value = keeper::SocketKind> {
    any::<(bool, bool)>().prop_map(|(ipv6, datagram)| keeper::SocketKind { ipv6, datagram })
}

pub(super) fn to_keeper() -> impl Strategy<Value = keeper::Request> {
    use keeper::Request::{
        CancelSnapshot, KeepSnapshots, Kill, Lifetime, Proceed, Run, Setup, Snapshot, Sockets, Usage,
    };
    prop_oneof![
        setup().prop_map(|setup| Setup(Box::new(setup))),
        (list(), any::<bool>()).prop_map(|(arguments, hold)| Run { arguments, hold }),
        (socket_kind(), any::<(u32, u32)>()).prop_map(|(kind, (count, purpose))| Sockets {
            kind,
            count,
            purpose
        }),
        Just(Kill),
        Just(Usage),
        any::<u64>().prop_map(|milliseconds| Lifetime { milliseconds }),
        (list(), bytes()).prop_map(|(arguments, id)| KeepSnapshots { arguments, id }),
        any::<(u64, u64)>().prop_map(|(bytes, milliseconds)| Snapshot { bytes, milliseconds }),
        Just(CancelSnapshot),
        Just(Proceed),
    ]
}

fn usage() -> impl Strategy<Value = keeper::Usage> {
    any::<[Option<u64>; 3]>().prop_map(|[cpu_us, memory, memory_peak]| keeper::Usage {
        cpu_us,
        memory,
        memory_peak,
    })
}

fn out_of_memory() -> impl Strategy<Value = keeper::OutOfMemory> {
    use keeper::OutOfMemory::{Kernel, No, Watchdog};
    prop_oneof![Just(No), Just(Kernel), Just(Watchdog)]
}

fn from_keeper() -> impl Strategy<Value = keeper::Reply> {
    use keeper::Reply::{
        Ended, Expired, Failed, Namespaces, Prepared, Running, SnapshotEnded, Sockets, Used,
    };
    prop_oneof![
        list().prop_map(|refused| Namespaces { refused }),
        Just(Prepared),
        Just(Running),
        (socket_kind(), any::<u32>()).prop_map(|(kind, purpose)| Sockets { kind, purpose }),
        (bytes(), any::<i32>()).prop_map(|(step, errno)| Failed { step, errno }),
        (any::<i32>(), bytes(), bytes(), usage(), out_of_memory()).prop_map(
            |(status, log, output, usage, out_of_memory)| Ended { status, log, output, usage, out_of_memory }
        ),
        usage().prop_map(Used),
        Just(Expired),
        (snapshot_end(), any::<(u64, u64, bool)>()).prop_map(|(end, (bytes, paused_us, is_paused))| {
            SnapshotEnded { end, bytes, paused_us, is_paused }
        }),
    ]
}

fn snapshot_end() -> impl Strategy<Value = keeper::SnapshotEnd> {
    use keeper::SnapshotEnd::{Cancelled, Complete, Failed, Runsc, TimedOut, TooLarge};
    prop_oneof![
        Just(Complete),
        Just(Cancelled),
        Just(TooLarge),
        Just(TimedOut),
        (bytes(), any::<i32>(), bytes()).prop_map(|(command, status, output)| Runsc {
            command,
            status,
            output
        }),
        (bytes(), any::<i32>()).prop_map(|(step, errno)| Failed { step, errno }),
    ]
}

fn digest() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 32]>()
}

fn whiteouts() -> impl Strategy<Value = image::Whiteouts> {
    use image::Whiteouts::{Devices, None, Oci};
    prop_oneof![Just(Oci), Just(Devices), Just(None)]
}

fn to_image_helper() -> impl Strategy<Value = image::Request> {
    use image::Request::{Base, Export, FindDirectory, Finish, Index, Inflate, Layer, Setup};
    let limits =
        any::<([u64; 4], [u32; 2])>().prop_map(|([bytes, entries, ratio, memory], [depth, layers])| {
            image::Limits { bytes, entries, ratio, depth, layers, memory }
        });
    let resources = any::<[u64; 3]>().prop_map(|[cpu_seconds, address_space, file_size]| image::Resources {
        cpu_seconds,
        address_space,
        file_size,
    });
    let range = any::<(u64, u64)>().prop_map(|(offset, length)| image::Range { offset, length });
    let (range, diff_id) = (proptest::option::of(range), proptest::option::of(digest()));
    prop_oneof![
        (limits, resources).prop_map(|(limits, resources)| Setup { limits, resources }),
        Just(Base),
        (range, diff_id, whiteouts()).prop_map(|(range, diff_id, whiteouts)| Layer {
            range,
            diff_id,
            whiteouts
        }),
        Just(Index),
        Just(Inflate),
        any::<bool>().prop_map(|is_root| Finish { is_root }),
        bytes().prop_map(|path| FindDirectory { path }),
        Just(Export),
    ]
}

fn from_image_helper() -> impl Strategy<Value = image::Reply> {
    use image::Failure::{Digest, Internal, Limit, Malformed, System};
    use image::Reply::{Directory, Done, Entries, Exported, Failed, Finished, Inflated, Progress, Ready};
    let entry = (bytes(), any::<(u64, u64)>(), proptest::option::of(bytes()))
        .prop_map(|(name, (offset, length), link)| image::ArchiveEntry { name, offset, length, link });
    let summary = (any::<[u64; 4]>(), vec(digest(), 0..4)).prop_map(
        |([entries, bytes, content_bytes, dropped_xattrs], diff_ids)| image::Summary {
            entries,
            bytes,
            content_bytes,
            dropped_xattrs,
            diff_ids,
        },
    );
    let exported =
        any::<[u64; 3]>().prop_map(|[entries, bytes, skipped]| image::Exported { entries, bytes, skipped });
    let failure = prop_oneof![Just(Malformed), Just(Limit), Just(Digest), Just(System), Just(Internal)];
    prop_oneof![
        any::<bool>().prop_map(|isolated| Ready { isolated }),
        any::<u64>().prop_map(|bytes| Progress { bytes }),
        Just(Done),
        (vec(entry, 0..4), any::<bool>()).prop_map(|(entries, last)| Entries { entries, last }),
        any::<u64>().prop_map(|bytes| Inflated { bytes }),
        summary.prop_map(Finished),
        exported.prop_map(Exported),
        any::<bool>().prop_map(|found| Directory { found }),
        (failure, any::<i32>(), bytes()).prop_map(|(failure, errno, text)| Failed { failure, errno, text }),
    ]
}

/// All six decoders. What one of them takes must be what it would have sent itself: there is one form.
fn decode(message: &[u8]) {
    if let Ok(request) = init::Request::decode(message) {
        assert_eq!(request.encode(), message);
    }
    if let Ok(reply) = init::Reply::decode(message) {
        assert_eq!(reply.encode(), message);
    }
    if let Ok(request) = keeper::Request::decode(message) {
        assert_eq!(request.encode(), message);
    }
    if let Ok(reply) = keeper::Reply::decode(message) {
        assert_eq!(reply.encode(), message);
    }
    if let Ok(request) = image::Request::decode(message) {
        assert_eq!(request.encode(), message);
    }
    if let Ok(reply) = image::Reply::decode(message) {
        assert_eq!(reply.encode(), message);
    }
}

/// One change to a message: a byte turned, cut off, put in, or a length written over.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Turn(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, u8),
    Length(prop::sample::Index, u32),
}

impl Change {
    pub(super) fn apply(&self, message: &mut Vec<u8>) {
        if message.is_empty() {
            return;
        }
        let length = message.len();
        match self {
            Self::Turn(at, bits) => message[at.index(length)] ^= bits,
            Self::Cut(at) => message.truncate(at.index(length)),
            Self::Insert(at, byte) => message.insert(at.index(length), *byte),
            Self::Length(at, value) => {
                let at = at.index(length);
                for (place, byte) in message.iter_mut().skip(at).zip(value.to_le_bytes()) {
                    *place = byte;
                }
            }
        }
    }
}

pub(super) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let length = prop_oneof![Just(u32::MAX), Just(i32::MAX.cast_unsigned()), 0_u32..64, any::<u32>()];
    let change = prop_oneof![
        any::<(prop::sample::Index, u8)>().prop_map(|(at, bits)| Change::Turn(at, bits)),
        any::<prop::sample::Index>().prop_map(Change::Cut),
        any::<(prop::sample::Index, u8)>().prop_map(|(at, byte)| Change::Insert(at, byte)),
        (any::<prop::sample::Index>(), length).prop_map(|(at, length)| Change::Length(at, length)),
    ];
    vec(change, 1..4)
}

pub(super) fn any_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        to_init().prop_map(|message| message.encode()),
        from_init().prop_map(|message| message.encode()),
        to_keeper().prop_map(|message| message.encode()),
        from_keeper().prop_map(|message| message.encode()),
        to_image_helper().prop_map(|message| message.encode()),
        from_image_helper().prop_map(|message| message.encode()),
    ]
}

proptest! {
    #[test]
    fn requests_to_init_come_back(message in to_init()) {
        prop_assert_eq!(init::Request::decode(&message.encode()), Ok(message));
    }

    /// A buffer that grows leaves copies of secrets behind.
    #[test]
    fn a_start_is_put_into_a_buffer_of_its_size(start in start()) {
        let size = start.size();
        let message = init::Request::Start(Box::new(start)).encode();
        prop_assert_eq!((message.len(), message.capacity()), (size, size));
    }

    #[test]
    fn replies_of_init_come_back(message in from_init()) {
        prop_assert_eq!(init::Reply::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn requests_to_the_keeper_come_back(message in to_keeper()) {
        prop_assert_eq!(keeper::Request::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn replies_of_the_keeper_come_back(message in from_keeper()) {
        prop_assert_eq!(keeper::Reply::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn requests_to_the_image_helper_come_back(message in to_image_helper()) {
        prop_assert_eq!(image::Request::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn replies_of_the_image_helper_come_back(message in from_image_helper()) {
        prop_assert_eq!(image::Reply::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn noise_does_no_harm(message in vec(any::<u8>(), 0..200)) {
        decode(&message);
    }

    #[test]
    fn damaged_messages_do_no_harm(mut message in any_message(), changes in changes()) {
        for change in &changes {
            change.apply(&mut message);
        }
        decode(&message);
    }

    #[test]
    fn nothing_may_be_left_over(message in any_message(), more in vec(any::<u8>(), 1..9)) {
        let long = [message.as_slice(), &more].concat();
        prop_assert!(init::Reply::decode(&long).is_err() || init::Reply::decode(&message).is_err());
        prop_assert!(keeper::Request::decode(&long).is_err() || keeper::Request::decode(&message).is_err());
    }
}

/// A length that isn't there costs nothing: the list is refused before room for it is made.
#[test]
fn a_list_is_no_longer_than_what_is_there() {
    let message = |kind: u8, length: u32| [&[kind][..], &length.to_le_bytes(), &[0; 16]].concat();
    for length in [5, 17, 1 << 20, 1 << 31, u32::MAX] {
        assert!(keeper::Request::decode(&message(1, length)).is_err());
        assert!(keeper::Reply::decode(&message(0, length)).is_err());
    }
    // Four empty elements are there.
    let four = keeper::Request::decode(&[message(1, 4), vec![0]].concat());
    assert_eq!(four, Ok(keeper::Request::Run { arguments: vec![vec![]; 4], hold: false }));
    // The longest list that a message can claim, of elements that then turn out to be malformed, stops at the
    // first of them.
    let mut claims = message(1, 1 << 19);
    claims.resize(1 << 20, 0xff);
    assert!(keeper::Request::decode(&claims).is_err());
}
