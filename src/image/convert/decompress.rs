//! gzip and zstd, told by their first bytes. Both may consist of several parts, which follow one another.

use std::io::{self, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The last twelve bytes of zstd's skippable frames' numbers; the first has any low four bits.
const SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// A reader whose next bytes can be looked at.
pub(super) struct Peek<R> {
    reader: BufReader<R>,
    head: [u8; 4],
    /// The bytes of `head` that come next.
    from: usize,
    to: usize,
}

impl<R: Read> Peek<R> {
    fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, reader), head: [0; 4], from: 0, to: 0 }
    }

    /// The next four bytes, or what is left.
    fn head(&mut self) -> io::Result<&[u8]> {
        self.head.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        while let Some(room @ [_, ..]) = self.head.get_mut(self.to..) {
            match self.reader.read(room)? {
                0 => break,
                length => self.to += length,
            }
        }
        Ok(self.head.get(..self.to).unwrap_or_default())
    }
}

impl<R: Read> Read for Peek<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.head.get(self.from..self.to) {
            Some(mut head @ [_, ..]) => {
                let length = head.read(into)?;
                self.from += length;
                Ok(length)
            }
            _ => self.reader.read(into),
        }
    }
}

/// Decompresses a layer.
pub(super) enum Decoder<R: Read> {
    Plain(Peek<R>),
    Gzip(Box<MultiGzDecoder<BufReader<Peek<R>>>>),
    Zstd(Box<Zstd<R>>),
}

impl<R: Read> Decoder<R> {
    pub(super) fn new(reader: R) -> io::Result<Self> {
        let mut reader = Peek::new(reader);
        let head = reader.head()?;
        Ok(match head {
            _ if head.starts_with(&GZIP) => Self::Gzip(Box::new(MultiGzDecoder::new(BufReader::new(reader)))),
            _ if head == ZSTD || is_skippable(head) => Self::Zstd(Box::new(Zstd::new(reader))),
            _ => Self::Plain(reader),
        })
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(into),
            Self::Gzip(decoder) => decoder.read(into),
            Self::Zstd(decoder) => decoder.read(into),
        }
    }
}

fn is_skippable(head: &[u8]) -> bool {
    head.len() == 4 && head.first().is_some_and(|first| first >> 4 == 5) && head.ends_with(&SKIPPABLE)
}

/// Decodes the frames of a zstd file. `ruzstd` reads one frame at a time.
pub(super) struct Zstd<R> {
    reader: Peek<R>,
    decoder: FrameDecoder,
    /// Whether a frame was begun.
    in_frame: bool,
}

impl<R: Read> Zstd<R> {
    fn new(reader: Peek<R>) -> Self {
        // It refuses windows above 128 MiB, which are its memory.
        Self { reader, decoder: FrameDecoder::new(), in_frame: false }
    }

    /// Begins the next frame; returns false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            let head = self.reader.head()?;
            if head.is_empty() {
                return Ok(false);
            }
            if !is_skippable(head) {
                self.decoder.reset(&mut self.reader).map_err(io::Error::other)?;
                return Ok(true);
            }
            let mut header = [0; 8];
            self.reader.read_exact(&mut header)?;
            let [.., a, b, c, d] = header;
            let length = u64::from(u32::from_le_bytes([a, b, c, d]));
            if io::copy(&mut self.reader.by_ref().take(length), &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                self.in_frame = self.begin()?;
                if !self.in_frame {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let step = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder.decode_blocks(&mut self.reader, step).map_err(io::Error::other)?;
            }
            let length = self.decoder.read(into)?;
            if length > 0 || into.is_empty() {
                return Ok(length);
            }
            self.in_frame = false;
        }
    }
}
