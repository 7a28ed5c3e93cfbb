//! Where images are written to and read from.

use std::io;

/// Where an image is written to.
pub(crate) trait Output {
    /// Writes all bytes at an offset. What was never written reads as zeroes; blocks of zeroes are never passed.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a range of whole blocks zeroes again, and frees its space.
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()>;
}

/// An image to read.
pub(crate) trait ReadAt {
    /// Fills the buffer from an offset.
    fn read_exact_at(&mut self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// The length of the image.
    fn length(&mut self) -> io::Result<u64>;
}

/// In memory.
impl Output for Vec<u8> {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let end =
            begin.checked_add(bytes.len()).ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if self.len() < end {
            self.resize(end, 0);
        }
        if let Some(place) = self.get_mut(begin..end) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).map_err(io::Error::other)?.min(self.len());
        let end = usize::try_from(offset.saturating_add(length)).map_err(io::Error::other)?.min(self.len());
        self.get_mut(begin..end).unwrap_or_default().fill(0);
        Ok(())
    }
}

impl ReadAt for &[u8] {
    fn read_exact_at(&mut self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let begin = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = self.get(begin..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn length(&mut self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}
