//! Reads the tar archive of a layer: ustar, pax, GNU's long names and sparse files, as Go's archive/tar reads them,
//! which docker and umoci use.
//!
//! Where readers differ, an archive could mean one thing here and another elsewhere, so what is ambiguous is
//! refused: two extended headers of one kind before an entry, two different names for it, a global header that
//! sets what an entry sets, content where Go's reader sees none.
//!
//! Not the `tar` crate: it reads extended headers of any size into memory, and it was desynchronised by sizes in pax
//! headers before. Not the parser that init has for uploads: that knows whole seconds, and neither devices nor sparse
//! files.

use super::header::{
    BLOCK, CHECKSUM, Field, GROUP, MAGIC, MAJOR, MINOR, MODE, MODIFIED, NAME, PREFIX, SIZE, TARGET, TYPE,
    USER, Wrong, cut_short, decimal, field, is_checksum, number, signed_number, text,
};
use super::sparse::{self, Segments};
use super::stream::Stream;
use super::{Attributes, Device, Trouble, shown};

/// The largest extended header, as in Go.
const MAX_EXTENDED_HEADER: u64 = 1 << 20;
/// The longest path, and the longest target of a link, as in Linux with the NUL that ends them.
pub(super) const MAX_PATH: usize = 4095;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    /// To the entry with this path.
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Directory,
    /// With the major and minor number.
    Device(Device, u64, u64),
    Fifo,
}

/// An entry without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    /// Of the file, with its holes.
    pub(super) size: u64,
    /// Where the content belongs, if there are holes.
    pub(super) segments: Option<Segments>,
    /// The extended attributes that are left out.
    pub(super) xattrs: u64,
    /// An overlay's directory that hides what is below it.
    pub(super) opaque: bool,
}

/// What the extended headers say of the next entry.
#[derive(Debug, Default)]
struct Extended {
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    pax: Option<Pax>,
}

/// The records of a pax header that matter.
#[derive(Debug, Default)]
struct Pax {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u32>,
    group: Option<u32>,
    modified: Option<(i64, u32)>,
    sparse: sparse::Pax,
    xattrs: u64,
    opaque: bool,
}

/// The archive of one layer.
#[derive(Debug)]
pub(super) struct Archive {
    /// Whether an archive may not end without the blocks that mark its end.
    strict: bool,
    /// What is left of the content of the last entry, and the padding behind it.
    left: u64,
    padding: u64,
}

impl Archive {
    pub(super) fn new(strict: bool) -> Self {
        Self { strict, left: 0, padding: 0 }
    }

    /// Reads up to the content of the next entry. Returns nothing at the end.
    pub(super) fn next(&mut self, stream: &mut Stream<'_>) -> Result<Option<Entry>, Trouble> {
        let mut extended = Extended::default();
        loop {
            self.skip(stream)?;
            let at = stream.position();
            let refused =
                |why: String| Trouble::Malformed(format!("the header at byte {at} of the layer {why}"));
            let Some(block) = self.header(stream)? else {
                return match extended {
                    Extended { long_name: None, long_target: None, pax: None } => Ok(None),
                    _ => Err(refused("is the end, and not the entry that was announced".into())),
                };
            };
            let kind = block.get(TYPE).copied().unwrap_or_default();
            let size = number(field(&block, SIZE)).map_err(refused)?;
            if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
                let mut entry = self.entry(&block, size, extended, stream).map_err(|error| match error {
                    Wrong::Text(text) => refused(text),
                    Wrong::Trouble(trouble) => trouble,
                })?;
                if entry.path.len() > MAX_PATH {
                    return Err(refused(format!(
                        "has a path of {} bytes, limit {MAX_PATH}",
                        entry.path.len()
                    )));
                }
                if let Kind::Symlink(_) = entry.kind {
                    entry.attributes.mode = 0o777;
                }
                return Ok(Some(entry));
            }
            if size > MAX_EXTENDED_HEADER {
                let text = format!("announces {size} bytes of attributes, limit {MAX_EXTENDED_HEADER}");
                return Err(Trouble::Limit(refused(text).to_string()));
            }
            let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
            self.begin(size);
            self.exact(&mut content, stream)?;
            extended.take(kind, content).map_err(refused)?;
        }
    }

    /// The content of an entry follows.
    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    /// Reads more of the entry's content, as much as there is at once: nothing at the end.
    pub(super) fn content<'a>(&mut self, stream: &'a mut Stream<'_>) -> Result<&'a [u8], Trouble> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let available = stream.fill()?;
        let piece = available.get(..available.len().min(most)).unwrap_or_default();
        if piece.is_empty() { Err(cut_short()) } else { Ok(piece) }
    }

    /// Takes what [`Archive::content`] returned, or a part of it.
    pub(super) fn consume(&mut self, length: usize, stream: &mut Stream<'_>) {
        self.left = self.left.saturating_sub(length as u64);
        stream.consume(length);
    }

    /// Reads content that has to be there.
    fn exact(&mut self, into: &mut [u8], stream: &mut Stream<'_>) -> Result<(), Trouble> {
        let read = into.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if read < into.len() || stream.read(into)? < read {
            return Err(cut_short());
        }
        self.left -= read as u64;
        Ok(())
    }

    /// Skips what is left of an entry.
    fn skip(&mut self, stream: &mut Stream<'_>) -> Result<(), Trouble> {
        self.left += std::mem::take(&mut self.padding);
        while self.left > 0 {
            let length = self.content(stream)?.len();
            self.consume(length, stream);
        }
        Ok(())
    }

    /// Reads a block that isn't of zeroes. Two of zeroes are the end.
    fn header(&mut self, stream: &mut Stream<'_>) -> Result<Option<[u8; BLOCK]>, Trouble> {
        let mut block = [0; BLOCK];
        for is_second in [false, true] {
            let at = stream.position();
            match stream.read(&mut block)? {
                BLOCK if block == [0; BLOCK] => {}
                BLOCK if is_second => {
                    let why = "follows a block of zeroes, which is half of an end";
                    return Err(Trouble::Malformed(format!("the header at byte {at} of the layer {why}")));
                }
                BLOCK => {
                    return if number(field(&block, CHECKSUM)).is_ok_and(|sum| is_checksum(&block, sum)) {
                        Ok(Some(block))
                    } else {
                        Err(Trouble::Malformed(format!(
                            "the header at byte {at} of the layer has a wrong checksum"
                        )))
                    };
                }
                // With a digest it is known that this is all of it.
                0 if !self.strict => return Ok(None),
                _ => return Err(cut_short()),
            }
        }
        Ok(None)
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        size: u64,
        extended: Extended,
        stream: &mut Stream<'_>,
    ) -> Result<Entry, Wrong> {
        let kind = block.get(TYPE).copied().unwrap_or_default();
        let pax = extended.pax.unwrap_or_default();
        let is_ustar = field(block, MAGIC).starts_with(b"ustar\0");
        let own_path = match (text(field(block, PREFIX)), text(field(block, NAME))) {
            // The old GNU format has other fields in the place of ustar's prefix.
            (prefix, name) if is_ustar && !prefix.is_empty() => [prefix, b"/", name].concat(),
            (_, name) => name.to_vec(),
        };
        let sparse_name = pax.sparse.name.clone();
        let path = one_of(sparse_name.or(pax.path), extended.long_name, own_path, "names")?;
        let own_target = text(field(block, TARGET)).to_vec();
        let target = one_of(pax.target, extended.long_target, own_target, "targets")?;
        let stored = pax.size.unwrap_or(size);
        if i64::try_from(stored).is_err() {
            return Err(Wrong::Text(format!("is of {}, with {stored} bytes", shown(&path))));
        }
        let link = |kind: Kind| match target.len() {
            0 => Err(Wrong::Text(format!("is of {}, a link without a target", shown(&path)))),
            1..=MAX_PATH => Ok(kind),
            length => {
                let path = shown(&path);
                Err(Wrong::Text(format!("is of {path}, a link to {length} bytes, limit {MAX_PATH}")))
            }
        };
        let device = |kind| -> Result<Kind, String> {
            Ok(Kind::Device(kind, number(field(block, MAJOR))?, number(field(block, MINOR))?))
        };
        let kind = match kind {
            b'0' | 0 | b'7' | b'S' if path.ends_with(b"/") => {
                // Before ustar, a directory was such a file.
                if stored > 0 {
                    let path = shown(&path);
                    return Err(Wrong::Text(format!("is of {path}, a file whose name ends with a slash")));
                }
                Kind::Directory
            }
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => link(Kind::HardLink(target.clone()))?,
            b'2' => link(Kind::Symlink(target.clone()))?,
            b'3' => device(Device::Character)?,
            b'4' => device(Device::Block)?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let (path, kind) = (shown(&path), other.escape_ascii());
                return Err(Wrong::Text(format!("is of {path}, of type {kind}, which an image can't hold")));
            }
        };
        // Others have no content. Some writers store the size of what a link refers to.
        let stored = if kind == Kind::File { stored } else { 0 };
        self.begin(stored);
        let (size, segments) = match &kind {
            Kind::File if block.get(TYPE) == Some(&b'S') => {
                let (size, segments) = sparse::old_gnu(block, stored, stream)?;
                (size, Some(segments))
            }
            Kind::File if pax.sparse.is_sparse() => {
                let (size, segments, taken) = pax.sparse.segments(stored, stream)?;
                self.left -= taken;
                (size, Some(segments))
            }
            _ => (stored, None),
        };
        let id = |value: Option<u32>, place: Field, what: &str| -> Result<u32, Wrong> {
            let value = match value {
                Some(value) => value,
                None => {
                    let value = number(field(block, place))?;
                    u32::try_from(value).map_err(|_| format!("has {what} {value}, which is none"))?
                }
            };
            // chown(2) takes it for "unchanged".
            if value == u32::MAX {
                Err(format!("has {what} {value}, which is none").into())
            } else {
                Ok(value)
            }
        };
        let (seconds, nanoseconds) = match pax.modified {
            Some(modified) => modified,
            None => (signed_number(field(block, MODIFIED))?, 0),
        };
        let attributes = Attributes {
            mode: u16::try_from(number(field(block, MODE))? & 0o7777).unwrap_or(0),
            user: id(pax.user, USER, "user")?,
            group: id(pax.group, GROUP, "group")?,
            seconds,
            nanoseconds,
        };
        Ok(Entry { path, kind, attributes, size, segments, xattrs: pax.xattrs, opaque: pax.opaque })
    }
}

/// A value that a pax header, a GNU header or the entry's own header has. The first two have to agree.
fn one_of(pax: Option<Vec<u8>>, gnu: Option<Vec<u8>>, own: Vec<u8>, what: &str) -> Result<Vec<u8>, String> {
    match (pax, gnu) {
        (Some(pax), Some(gnu)) if pax != gnu => {
            Err(format!("has two {what}: {} and {}", shown(&pax), shown(&gnu)))
        }
        (Some(value), _) | (None, Some(value)) => Ok(value),
        (None, None) => Ok(own),
    }
}

impl Extended {
    /// Takes the content of an extended header of this type.
    fn take(&mut self, kind: u8, content: Vec<u8>) -> Result<(), String> {
        let place = match kind {
            b'L' => &mut self.long_name,
            b'K' => &mut self.long_target,
            b'x' if self.pax.is_none() => {
                self.pax = Some(Pax::parse(&content)?);
                return Ok(());
            }
            // What a global header sets holds for all entries, or for none, as readers differ.
            b'g' => return Pax::parse(&content).and_then(Pax::must_be_comment),
            _ => return Err("is a second pax header before an entry".into()),
        };
        if place.is_some() {
            return Err("is a second long name before an entry".into());
        }
        *place = Some(text(&content).to_vec());
        Ok(())
    }
}

/// What pax calls an extended attribute.
const XATTRS: [&[u8]; 3] = [b"SCHILY.xattr.", b"LIBARCHIVE.xattr.", b"SCHILY.acl."];
const OPAQUE: [&[u8]; 2] = [b"SCHILY.xattr.trusted.overlay.opaque", b"SCHILY.xattr.user.overlay.opaque"];

impl Pax {
    fn parse(mut content: &[u8]) -> Result<Self, String> {
        let mut pax = Self::default();
        let wrong = |what: &str| format!("announces attributes with {what}");
        while !content.is_empty() {
            let space = content.iter().position(|byte| *byte == b' ').ok_or_else(|| wrong("no length"))?;
            let digits = content.get(..space).unwrap_or_default();
            let length: usize = decimal(digits).ok_or_else(|| wrong("a wrong length"))?;
            let (record, rest) = content.split_at_checked(length).ok_or_else(|| wrong("a wrong length"))?;
            let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n"));
            let mut sides = record.unwrap_or_default().splitn(2, |byte| *byte == b'=');
            match (sides.next(), sides.next()) {
                (Some(key), Some(value)) if !key.is_empty() => pax.set(key, value)?,
                _ => return Err(wrong("a record that isn't KEY=VALUE")),
            }
            content = rest;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let wrong = || format!("announces {}={}", shown(key), shown(value));
        let is_name = matches!(key, b"path" | b"linkpath" | b"GNU.sparse.name");
        if is_name && (value.is_empty() || value.contains(&0)) {
            return Err(wrong());
        }
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.target = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value).ok_or_else(wrong)?),
            b"uid" => self.user = Some(decimal(value).ok_or_else(wrong)?),
            b"gid" => self.group = Some(decimal(value).ok_or_else(wrong)?),
            b"mtime" => self.modified = Some(time(value).ok_or_else(wrong)?),
            _ if OPAQUE.contains(&key) => self.opaque = value == b"y",
            _ if XATTRS.iter().any(|prefix| key.starts_with(prefix)) => self.xattrs += 1,
            _ => {
                if let Some(rest) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(rest, value).ok_or_else(wrong)?;
                }
            }
        }
        Ok(())
    }

    fn must_be_comment(self) -> Result<(), String> {
        let Self { path, target, size, user, group, modified, sparse, xattrs, opaque } = self;
        let is_comment = path.is_none()
            && target.is_none()
            && size.is_none()
            && user.is_none()
            && group.is_none()
            && modified.is_none()
            && !sparse.is_sparse()
            && xattrs == 0
            && !opaque;
        if is_comment { Ok(()) } else { Err("sets attributes of all entries, which isn't supported".into()) }
    }
}

/// Parses seconds with an optional sign and fraction, rounding down to nanoseconds.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (is_negative, value) = match value.strip_prefix(b"-") {
        Some(value) => (true, value),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds: i64 = decimal(parts.next()?)?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().map(|byte| u32::from(byte - b'0')).chain(std::iter::repeat(0));
    let nanoseconds = digits.take(9).fold(0, |value, digit| value * 10 + digit);
    Some(match nanoseconds {
        _ if !is_negative => (seconds, nanoseconds),
        0 => (-seconds, 0),
        _ => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}
