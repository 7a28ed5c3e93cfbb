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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_decompressed_within_the_limits() {
        let content = [b"plain".as_slice(), &[7; 300_000]].concat();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&content).unwrap();
        let packed = encoder.finish().unwrap();
        let limits = Limits::default();
        for bytes in [&content, &packed] {
            let mut output = Vec::new();
            assert_eq!(inflate(&mut &bytes[..], &mut output, &limits).unwrap(), content.len() as u64);
            assert!(output == content);
        }
        let tight = Limits { bytes: 299_999, ..limits };
        let refused = inflate(&mut &packed[..], &mut Vec::new(), &tight).unwrap_err();
        assert!(matches!(refused, Trouble::Limit(_)), "{refused}");
        let cut = inflate(&mut &packed[..packed.len() - 9], &mut Vec::new(), &limits).unwrap_err();
        assert!(matches!(cut, Trouble::Malformed(_)), "{cut}");
    }
}
