//! Reads and writes headers of the tar format (pax(1), "ustar" and "pax" interchange formats).
//!
//! Writes ustar, with a pax header before an entry whose values don't fit. Reads ustar, pax and GNU's long
//! names, as GNU tar, bsdtar, Python, Go and Node write them. Names are bytes, as on Linux.
//!
//! Not the `tar` crate, because init depends on libc alone, and the crate's unpacking
//! resolves paths where `unpack.rs` opens every directory by itself.

/// The size of a block; everything is padded to it.
pub(crate) const BLOCK: usize = 512;
/// The largest pax header or long name that is read: a path, a link's target, and some numbers.
pub(crate) const MAX_EXTENDED_HEADER: u64 = 64 * 1024;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file, whose bytes follow.
    File,
    /// A hard link to an earlier file of the archive.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
    /// A type that isn't unpacked, such as a device or a sparse file.
    Other(u8),
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::Directory => b'5',
            Self::Fifo => b'6',
            Self::Other(byte) => byte,
        }
    }
}

/// An entry without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The path as written in the archive.
    pub(crate) path: Vec<u8>,
    /// The target of a link.
    pub(crate) target: Vec<u8>,
    pub(crate) kind: Kind,
    /// Permissions, as chmod(2) takes them.
    pub(crate) mode: u32,
    /// The owner and group.
    pub(crate) owner: (u32, u32),
    /// The size of the content.
    pub(crate) size: u64,
    /// The modification time in seconds since 1970.
    pub(crate) modified: i64,
}

/// The header is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The padding after content of this size.
pub(crate) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}

// Offset and length of the fields.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 8);
const USER: (usize, usize) = (108, 8);
const GROUP: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MODIFIED: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const TYPE: usize = 156;
const TARGET: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 8);
const PREFIX: (usize, usize) = (345, 155);

impl Entry {
    /// Encodes the header.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let (prefix, name) = split(&self.path).unwrap_or_else(|| {
            record(&mut records, b"path", &self.path);
            (b"", self.path.get(..NAME.1).unwrap_or(&self.path))
        });
        if self.target.len() > TARGET.1 {
            record(&mut records, b"linkpath", &self.target);
        }
        let mut block = [0_u8; BLOCK];
        put(&mut block, PREFIX, prefix);
        put(&mut block, NAME, name);
        put(&mut block, TARGET, self.target.get(..TARGET.1).unwrap_or(&self.target));
        let mut number = |field: (usize, usize), value: u64, key: &[u8]| {
            if !octal(&mut block, field, value) {
                octal(&mut block, field, 0);
                record(&mut records, key, value.to_string().as_bytes());
            }
        };
        number(USER, u64::from(self.owner.0), b"uid");
        number(GROUP, u64::from(self.owner.1), b"gid");
        number(SIZE, self.size, b"size");
        // Times before 1970 become 1970.
        number(MODIFIED, u64::try_from(self.modified).unwrap_or(0), b"mtime");
        octal(&mut block, MODE, u64::from(self.mode & 0o7777));
        let main = finish(block, self.kind.byte());
        if records.is_empty() {
            return main.to_vec();
        }
        let mut block = [0_u8; BLOCK];
        put(&mut block, NAME, b"././@PaxHeader");
        octal(&mut block, MODE, 0o644);
        octal(&mut block, USER, 0);
        octal(&mut block, GROUP, 0);
        octal(&mut block, SIZE, records.len() as u64);
        octal(&mut block, MODIFIED, 0);
        let padding = vec![0; padding(records.len() as u64)];
        [&finish(block, b'x')[..], &records, &padding, &main].concat()
    }
}

/// Splits a path into ustar's prefix and name, if it fits.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME.1 {
        return Some((b"", path));
    }
    let earliest = path.len().checked_sub(NAME.1 + 1)?;
    // The slash at the end of a directory is part of the name.
    let slash = path.iter().take(path.len() - 1).skip(earliest).position(|byte| *byte == b'/')? + earliest;
    let (prefix, name) = path.split_at_checked(slash)?;
    (slash > 0 && prefix.len() <= PREFIX.1).then_some((prefix, name.get(1..)?))
}

fn put(block: &mut [u8; BLOCK], field: (usize, usize), bytes: &[u8]) {
    let room = block.get_mut(field.0..field.0 + field.1).unwrap_or_default();
    room.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

/// Writes an octal number with a NUL behind it; returns false if it doesn't fit.
fn octal(block: &mut [u8; BLOCK], field: (usize, usize), value: u64) -> bool {
    let digits = field.1 - 1;
    let text = format!("{value:0digits$o}");
    put(block, field, text.as_bytes());
    text.len() == digits
}

/// Appends a pax record: its own length in decimal, a space, the key, `=`, the value, a newline.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let length =
        (1..=20).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length);
    records.extend_from_slice(length.unwrap_or(rest).to_string().as_bytes());
    [b" ", key, b"=", value, b"\n"].iter().for_each(|part| records.extend_from_slice(part));
}

fn finish(mut block: [u8; BLOCK], kind: u8) -> [u8; BLOCK] {
    put(&mut block, MAGIC, b"ustar\x0000");
    put(&mut block, (TYPE, 1), &[kind]);
    let text = format!("{:06o}\0 ", checksum(&block));
    put(&mut block, CHECKSUM, text.as_bytes());
    block
}

/// The sum of all bytes, with spaces instead of the checksum field.
fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = field(block, CHECKSUM).iter().map(|byte| u64::from(*byte)).sum();
    sum - own + 8 * u64::from(b' ')
}

fn field(block: &[u8; BLOCK], field: (usize, usize)) -> &[u8] {
    block.get(field.0..field.0 + field.1).unwrap_or_default()
}

/// A field up to its first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Parses a number: octal digits between spaces and NULs, or GNU's base 256.
fn number(bytes: &[u8]) -> Result<u64, Malformed> {
    match bytes.split_first() {
        Some((0x80, rest)) => rest.iter().try_fold(0_u64, |value, byte| {
            value.checked_mul(256).and_then(|value| value.checked_add(u64::from(*byte))).ok_or(Malformed)
        }),
        _ => {
            let digits = text(bytes).trim_ascii();
            digits.iter().try_fold(0_u64, |value, byte| match byte {
                b'0'..=b'7' => {
                    value.checked_mul(8).map(|value| value + u64::from(byte - b'0')).ok_or(Malformed)
                }
                _ => Err(Malformed),
            })
        }
    }
}

/// Values from pax headers and long names that override the next header.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    owner: (Option<u32>, Option<u32>),
    modified: Option<i64>,
    sparse: bool,
}

/// A decoded block.
#[derive(Debug)]
pub(crate) enum Header {
    /// All zeroes: the end of the archive.
    End,
    /// The header of an entry.
    Entry(Entry),
    /// An extended header of this kind and size for the next entry; pass its content to [`Overrides::take`].
    Extended(u8, u64),
}

/// Decodes a header. Applies the overrides to an entry and resets them.
pub(crate) fn parse(block: &[u8; BLOCK], overrides: &mut Overrides) -> Result<Header, Malformed> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(Header::End);
    }
    if number(field(block, CHECKSUM))? != checksum(block) {
        return Err(Malformed);
    }
    let kind = block.get(TYPE).copied().unwrap_or_default();
    let size = number(field(block, SIZE))?;
    if matches!(kind, b'x' | b'g' | b'L' | b'K') {
        return if size <= MAX_EXTENDED_HEADER { Ok(Header::Extended(kind, size)) } else { Err(Malformed) };
    }
    let known = std::mem::take(overrides);
    let path = known.path.unwrap_or_else(|| {
        let (prefix, name) = (text(field(block, PREFIX)), text(field(block, NAME)));
        // The old GNU format uses the bytes of ustar's prefix for other fields.
        if prefix.is_empty() || !field(block, MAGIC).starts_with(b"ustar\0") {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    });
    let small = |value: u64| u32::try_from(value).map_err(|_| Malformed);
    let owner = (
        known.owner.0.map_or_else(|| small(number(field(block, USER))?), Ok)?,
        known.owner.1.map_or_else(|| small(number(field(block, GROUP))?), Ok)?,
    );
    let kind = match kind {
        _ if known.sparse => Kind::Other(b'S'),
        // Before ustar, a directory was a file whose name ends with a slash.
        b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => Kind::Other(other),
    };
    let size = known.size.unwrap_or(size);
    Ok(Header::Entry(Entry {
        path,
        target: known.target.unwrap_or_else(|| text(field(block, TARGET)).to_vec()),
        kind,
        mode: small(number(field(block, MODE))? & 0o7777)?,
        owner,
        // Links and directories have no content; some writers store the size of a link's target.
        size: if matches!(kind, Kind::File | Kind::Other(_)) { size } else { 0 },
        modified: match known.modified {
            Some(modified) => modified,
            // GNU's base 256 can express times before 1970; treat them as 1970.
            None => number(field(block, MODIFIED)).map_or(0, |time| i64::try_from(time).unwrap_or(i64::MAX)),
        },
    }))
}

impl Overrides {
    /// Reads the content of a [`Header::Extended`].
    pub(crate) fn take(&mut self, kind: u8, content: &[u8]) -> Result<(), Malformed> {
        match kind {
            b'L' => self.path = Some(text(content).to_vec()),
            b'K' => self.target = Some(text(content).to_vec()),
            b'x' => return self.records(content),
            // A global header usually holds comments. A path in it would make no sense.
            _ => {}
        }
        Ok(())
    }

    fn records(&mut self, mut content: &[u8]) -> Result<(), Malformed> {
        while !content.is_empty() {
            let space = content.iter().position(|byte| *byte == b' ').ok_or(Malformed)?;
            let length: usize = decimal(content.get(..space).unwrap_or_default())?;
            let (whole, rest) = content.split_at_checked(length).ok_or(Malformed)?;
            let record =
                whole.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(Malformed)?;
            let mut sides = record.splitn(2, |byte| *byte == b'=');
            let (key, value) = sides.next().zip(sides.next()).ok_or(Malformed)?;
            match key {
                b"path" | b"linkpath" if value.contains(&0) => return Err(Malformed),
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = Some(decimal(value)?),
                b"uid" => self.owner.0 = Some(decimal(value)?),
                b"gid" => self.owner.1 = Some(decimal(value)?),
                b"mtime" => self.modified = Some(seconds(value)?),
                // The content of a sparse file is encoded.
                _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
            content = rest;
        }
        Ok(())
    }
}

fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Result<T, Malformed> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(Malformed)
}

/// Parses seconds with an optional sign and fraction; drops the fraction.
fn seconds(value: &[u8]) -> Result<i64, Malformed> {
    let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
    match whole.strip_prefix(b"-") {
        Some(digits) => decimal::<i64>(digits).map(|value| -value),
        None => decimal(whole),
    }
}
