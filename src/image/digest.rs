//! SHA-256 digests, as images and registries write them.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};

use crate::error::{Context, Result};

/// How much of a file is read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of `length` bytes of a file from `offset` on. The file's position stays.
    /// `check` is asked often whether that is to go on.
    pub(crate) fn of_file(
        file: &File,
        offset: u64,
        length: u64,
        check: &dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK_BYTES];
        let (mut at, mut left) = (offset, length);
        while left > 0 {
            check()?;
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK_BYTES);
            let got = match file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), at) {
                Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                other => other,
            }
            .context("reading a file to check its digest")?;
            hash.update(buffer.get(..got).unwrap_or_default());
            at += got as u64;
            left = left.saturating_sub(got as u64);
        }
        Ok(Self(hash.finalize().into()))
    }

    /// Reads `sha256:` and 64 hexadecimal digits. `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::from_hex(text.strip_prefix("sha256:")?)
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = (digit(*high)? << 4) | digit(*low)?;
        }
        Some(Self(bytes))
    }

    /// The 64 digits.
    pub(crate) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The value of a lower-case hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_written_as_it_is_read() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(Digest::parse(EMPTY), Some(Digest::of(b"")));
        for bad in ["", "sha256:", &EMPTY[..70], &EMPTY[7..], &EMPTY.to_uppercase(), &format!("{EMPTY}0")] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_part_of_a_file_has_the_digest_of_its_bytes() {
        let directory = crate::image::testing::Directory::new();
        let bytes: Vec<u8> = (0..CHUNK_BYTES * 2 + 5).map(|i| i.to_le_bytes()[0]).collect();
        let path = directory.file("data", &bytes);
        let file = File::open(path).unwrap();
        let live = || Ok(());
        let whole = Digest::of_file(&file, 0, bytes.len() as u64, &live).unwrap();
        assert_eq!(whole, Digest::of(&bytes));
        assert_eq!(Digest::of_file(&file, 7, 9, &live).unwrap(), Digest::of(&bytes[7..16]));
        let beyond = Digest::of_file(&file, 8, bytes.len() as u64, &live).unwrap_err();
        assert!(beyond.message().contains("reading a file"), "{beyond}");
        let cancelled = Digest::of_file(&file, 0, 1, &|| Err(Error::new(Code::Closed, "over"))).unwrap_err();
        assert_eq!(cancelled.code(), Code::Closed);
    }
}
