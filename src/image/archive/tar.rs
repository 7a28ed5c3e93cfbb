//! Writes a tar archive (POSIX.1-2001, "pax") of a directory for the helper's pipe.

use std::io::{self, Write};

const BLOCK_BYTES: usize = 512;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    File,
    /// A further name of a file that stands before.
    HardLink(&'a [u8]),
    SymbolicLink(&'a [u8]),
    CharacterDevice {
        major: u64,
        minor: u64,
    },
    BlockDevice {
        major: u64,
        minor: u64,
    },
    Directory,
    Fifo,
}

/// An entry's attributes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) kind: Kind<'a>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// A part of a file that isn't a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The archive that is written.
pub(crate) struct Archive<'a> {
    into: &'a mut dyn Write,
}

impl<'a> Archive<'a> {
    pub(crate) fn new(into: &'a mut dyn Write) -> Self {
        Self { into }
    }

    /// Writes an entry without content.
    pub(crate) fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.headers(entry, 0, Vec::new(), None)
    }

    /// Begins a file without holes. As many bytes of content and [`pad`](Self::pad) follow.
    pub(crate) fn file(&mut self, entry: &Entry<'_>, length: u64) -> io::Result<()> {
        self.headers(entry, length, Vec::new(), None)
    }

    /// Begins a file with holes (GNU's sparse format 1.0). The extents' content follows, then [`pad`](Self::pad).
    pub(crate) fn sparse_file(
        &mut self,
        entry: &Entry<'_>,
        length: u64,
        extents: &[Extent],
    ) -> io::Result<u64> {
        // A hole at the end is an empty extent there.
        let last = extents.last().map_or(0, |extent| extent.offset.saturating_add(extent.length));
        let end = (last < length).then_some(Extent { offset: length, length: 0 });
        let all = || extents.iter().chain(&end);
        let mut map = format!("{}\n", all().count());
        for extent in all() {
            map.push_str(&format!("{}\n{}\n", extent.offset, extent.length));
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK_BYTES), 0);
        let data: u64 = extents.iter().map(|extent| extent.length).sum();
        let mut records = record("GNU.sparse.major", b"1");
        records.extend(record("GNU.sparse.minor", b"0"));
        records.extend(record("GNU.sparse.name", entry.path));
        records.extend(record("GNU.sparse.realsize", length.to_string().as_bytes()));
        self.headers(entry, data.saturating_add(map.len() as u64), records, Some(b"GNUSparseFile.0/file"))?;
        self.into.write_all(&map)?;
        Ok(data)
    }

    /// Writes some content.
    pub(crate) fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.into.write_all(bytes)
    }

    /// Fills the last block of `length` bytes of content.
    pub(crate) fn pad(&mut self, length: u64) -> io::Result<()> {
        let rest = usize::try_from(length % BLOCK_BYTES as u64).unwrap_or(0);
        match rest {
            0 => Ok(()),
            rest => self.into.write_all([0; BLOCK_BYTES].get(rest..).unwrap_or_default()),
        }
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.into.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.into.flush()
    }

    fn headers(
        &mut self,
        entry: &Entry<'_>,
        size: u64,
        mut records: Vec<u8>,
        placeholder: Option<&[u8]>,
    ) -> io::Result<()> {
        let (kind, link, (major, minor)) = match entry.kind {
            Kind::File => (b'0', &b""[..], (0, 0)),
            Kind::HardLink(target) => (b'1', target, (0, 0)),
            Kind::SymbolicLink(target) => (b'2', target, (0, 0)),
            Kind::CharacterDevice { major, minor } => (b'3', &b""[..], (major, minor)),
            Kind::BlockDevice { major, minor } => (b'4', &b""[..], (major, minor)),
            Kind::Directory => (b'5', &b""[..], (0, 0)),
            Kind::Fifo => (b'6', &b""[..], (0, 0)),
        };
        let mut header = Header::new(kind);
        // What a header can't hold stands in records before it.
        let path = placeholder.unwrap_or(entry.path);
        if !header.text(0, 100, path) {
            records.extend(record("path", path));
        }
        if !header.text(157, 100, link) {
            records.extend(record("linkpath", link));
        }
        header.number(100, 8, u64::from(entry.mode & 0o7777));
        for (at, length, name, value) in [
            (108, 8, "uid", u64::from(entry.uid)),
            (116, 8, "gid", u64::from(entry.gid)),
            (124, 12, "size", size),
        ] {
            if !header.number(at, length, value) {
                records.extend(record(name, value.to_string().as_bytes()));
            }
        }
        let whole = u64::try_from(entry.seconds).is_ok_and(|seconds| header.number(136, 12, seconds));
        if !whole || entry.nanoseconds != 0 {
            records.extend(record("mtime", time(entry.seconds, entry.nanoseconds).as_bytes()));
        }
        header.number(329, 8, major);
        header.number(337, 8, minor);
        if !records.is_empty() {
            let mut extended = Header::new(b'x');
            extended.text(0, 100, b"PaxHeaders/entry");
            extended.number(100, 8, 0o644);
            extended.number(124, 12, records.len() as u64);
            self.into.write_all(&extended.finish())?;
            self.into.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.into.write_all(&header.finish())
    }
}

/// A header's block.
struct Header([u8; BLOCK_BYTES]);

impl Header {
    fn new(kind: u8) -> Self {
        let mut header = Self([0; BLOCK_BYTES]);
        header.put(156, &[kind]);
        header.put(257, b"ustar\x0000");
        for (at, length) in [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (329, 8), (337, 8)] {
            header.number(at, length, 0);
        }
        header
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    /// Writes a text if it fits.
    fn text(&mut self, at: usize, length: usize, text: &[u8]) -> bool {
        if text.len() <= length {
            self.put(at, text);
        }
        text.len() <= length
    }

    /// Writes an octal number if it fits, with a NUL after it.
    fn number(&mut self, at: usize, length: usize, value: u64) -> bool {
        let width = length - 1;
        let digits = format!("{value:0width$o}");
        let fits = digits.len() <= width;
        if fits {
            self.put(at, digits.as_bytes());
        }
        fits
    }

    fn finish(mut self) -> [u8; BLOCK_BYTES] {
        self.put(148, b"        ");
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.put(148, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

/// A record of an extended header: `LENGTH KEY=VALUE\n`, where the length counts itself.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend(value);
    record.push(b'\n');
    record
}

/// A time as a decimal number; before 1970 it is negative.
fn time(seconds: i64, nanoseconds: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let (sign, magnitude) = (if total < 0 { "-" } else { "" }, total.unsigned_abs());
    format!("{sign}{}.{:09}", magnitude / 1_000_000_000, magnitude % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record("path", b"a"), b"9 path=a\n");
        for length in 0..2000 {
            let record = record("path", &vec![b'x'; length]);
            let said: usize = String::from_utf8_lossy(&record).split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, record.len());
        }
    }

    #[test]
    fn times_have_nine_digits_and_a_sign() {
        assert_eq!(time(1, 5), "1.000000005");
        assert_eq!(time(-2, 500_000_000), "-1.500000000");
        assert_eq!(time(-1, 999_999_999), "-0.000000001");
        assert_eq!(time(i64::MIN, 0), "-9223372036854775808.000000000");
    }
}
