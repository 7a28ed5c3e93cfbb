//! Decompresses a file that isn't a layer: an archive of an image that is compressed as a whole.

use std::io::{Read, Write};

use super::stream::Stream;
use super::{Limits, Trouble};

/// Decompresses the input, by gzip or zstd, or copies what is neither. Returns the length of what comes out, which the
/// limits bound.
pub(crate) fn inflate(input: &mut dyn Read, output: &mut dyn Write, limits: &Limits) -> Result<u64, Trouble> {
    let mut stream = Stream::new(input, limits.bytes, limits)?;
    let mut total = 0;
    loop {
        let piece = stream.fill()?;
        if piece.is_empty() {
            return Ok(total);
        }
        output.write_all(piece)?;
        let length = piece.len();
        total += length as u64;
        stream.consume(length);
    }
}
