//! Sparse files in archives: GNU's old format, and its pax formats 0.0, 0.1 and 1.0.

use super::header::{BLOCK, Wrong, cut_short, decimal, field, number};
use super::stream::Stream;

/// Offset and length of each part of a file that isn't a hole, in order.
pub(super) type Segments = Vec<(u64, u64)>;

/// As many parts may a file have.
const MAX_SEGMENTS: usize = 65_536;

/// What a pax header says of a sparse file.
#[derive(Debug, Default)]
pub(super) struct Pax {
    /// The file's name; the entry's is made up.
    pub(super) name: Option<Vec<u8>>,
    version: (Option<u64>, Option<u64>),
    size: Option<u64>,
    /// Offsets and lengths in turn.
    map: Vec<u64>,
}

impl Pax {
    /// Takes a record whose key begins with "GNU.sparse."; returns nothing if it is wrong.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.version.0 = Some(decimal(value)?),
            b"minor" => self.version.1 = Some(decimal(value)?),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"numblocks" => drop(decimal::<u64>(value)?),
            b"offset" if self.map.len().is_multiple_of(2) => self.map.push(decimal(value)?),
            b"numbytes" if !self.map.len().is_multiple_of(2) => self.map.push(decimal(value)?),
            b"map" if self.map.is_empty() && value.is_empty() => {}
            b"map" if self.map.is_empty() => {
                self.map = value.split(|byte| *byte == b',').map(decimal).collect::<Option<_>>()?;
            }
            _ => return None,
        }
        Some(())
    }

    pub(super) fn is_sparse(&self) -> bool {
        self.name.is_some() || self.size.is_some() || !self.map.is_empty() || self.version != (None, None)
    }

    /// The size of the file, its parts, and how much of the content was their list.
    pub(super) fn segments(
        self,
        stored: u64,
        stream: &mut Stream<'_>,
    ) -> Result<(u64, Segments, u64), Wrong> {
        let size = self.size.ok_or_else(|| "is of a sparse file without a size".to_owned())?;
        let (map, taken) = match self.version {
            (Some(1), Some(0)) => read_map(stored, stream)?,
            (None, None) | (Some(0), Some(0 | 1)) => (self.map, 0),
            (major, minor) => {
                let version = [major, minor].map(|part| part.unwrap_or(0).to_string()).join(".");
                return Err(format!("is of a sparse file of format {version}, which isn't known").into());
            }
        };
        if !map.len().is_multiple_of(2) || map.len() > 2 * MAX_SEGMENTS {
            return Err(format!("is of a sparse file with {} numbers in its map", map.len()).into());
        }
        let segments = map.chunks_exact(2).filter_map(|pair| pair.first().copied().zip(pair.last().copied()));
        Ok((size, checked(segments.collect(), size, stored - taken)?, taken))
    }
}

/// Reads the map at the begin of the content: a count, then as many offsets and lengths, a line each.
fn read_map(stored: u64, stream: &mut Stream<'_>) -> Result<(Vec<u64>, u64), Wrong> {
    let (mut numbers, mut digits, mut taken) = (Vec::new(), Vec::new(), 0);
    loop {
        let mut block = [0; BLOCK];
        taken += BLOCK as u64;
        if taken > stored {
            return Err("is of a sparse file whose map is cut short".to_owned().into());
        }
        if stream.read(&mut block)? < BLOCK {
            return Err(Wrong::Trouble(cut_short()));
        }
        for byte in block {
            if byte != b'\n' {
                digits.push(byte);
                continue;
            }
            let number: Option<u64> = decimal(&digits);
            numbers.push(number.ok_or_else(|| "is of a sparse file whose map can't be read".to_owned())?);
            digits.clear();
            let count = numbers.first().copied().unwrap_or(0);
            if count > MAX_SEGMENTS as u64 {
                let text = format!("is of a sparse file of {count} parts, limit {MAX_SEGMENTS}");
                return Err(Wrong::Text(text));
            }
            if numbers.len() as u64 == 1 + 2 * count {
                numbers.remove(0);
                return Ok((numbers, taken));
            }
        }
        // No number is that long.
        if digits.len() > BLOCK {
            return Err("is of a sparse file whose map can't be read".to_owned().into());
        }
    }
}

/// Reads the parts of a file in GNU's old format: four in its header, more in blocks behind it.
pub(super) fn old_gnu(
    block: &[u8; BLOCK],
    stored: u64,
    stream: &mut Stream<'_>,
) -> Result<(u64, Segments), Wrong> {
    const FIRST: (usize, usize, usize) = (386, 4, 482);
    const MORE: (usize, usize, usize) = (0, 21, 504);
    let size = number(field(block, (483, 12)))?;
    let mut segments = Vec::new();
    let (mut block, mut layout) = (*block, FIRST);
    loop {
        let (begin, count, more) = layout;
        for at in (0..count).map(|at| begin + 24 * at) {
            let (offset, length) = (field(&block, (at, 12)), field(&block, (at + 12, 12)));
            // Unused places are empty.
            if offset.first() != Some(&0) || length.first() != Some(&0) {
                segments.push((number(offset)?, number(length)?));
            }
        }
        if segments.len() > MAX_SEGMENTS {
            return Err(format!("is of a sparse file of more than {MAX_SEGMENTS} parts").into());
        }
        if block.get(more) == Some(&0) {
            return Ok((size, checked(segments, size, stored)?));
        }
        if stream.read(&mut block)? < BLOCK {
            return Err(Wrong::Trouble(cut_short()));
        }
        layout = MORE;
    }
}

/// Checks that the parts are in order, in the file, and as long as the content.
fn checked(segments: Segments, size: u64, stored: u64) -> Result<Segments, String> {
    let mut end = 0_u64;
    for (offset, length) in &segments {
        if *offset < end || offset.checked_add(*length).is_none_or(|end| end > size) {
            return Err(format!("is of a sparse file of {size} bytes with {length} bytes at {offset}"));
        }
        end = offset + length;
    }
    let total: u64 = segments.iter().map(|(_, length)| length).sum();
    if total == stored {
        Ok(segments)
    } else {
        Err(format!("is of a sparse file with {stored} bytes, and parts of {total}"))
    }
}
