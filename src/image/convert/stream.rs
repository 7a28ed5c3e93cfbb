//! A layer as it is decompressed: hashed, counted, and limited.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::decompress::Decoder;
use super::{Limits, Trouble};

/// As much is decompressed at once.
const CHUNK: usize = 64 * 1024;
/// Up to here a layer may be compressed as well as it likes.
const FREE: u64 = 16 << 20;

/// The compressed layer. A decoder's errors say nothing of whether reading failed, so that is kept here.
pub(super) struct Source<'a> {
    input: &'a mut dyn Read,
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    consumed: Cell<u64>,
    failed: RefCell<Option<io::Error>>,
}

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.input.read(into) {
                Ok(length) => {
                    self.state.consumed.set(self.state.consumed.get() + length as u64);
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let kind = error.kind();
                    self.state.failed.replace(Some(error));
                    return Err(kind.into());
                }
            }
        }
    }
}

pub(super) struct Stream<'a> {
    decoder: Decoder<Source<'a>>,
    state: Rc<State>,
    digest: Sha256,
    /// Of what was decompressed.
    length: u64,
    room: u64,
    limits: Limits,
    buffer: Box<[u8]>,
    from: usize,
    to: usize,
}

impl<'a> Stream<'a> {
    /// At most `room` bytes may come out.
    pub(super) fn new(input: &'a mut dyn Read, room: u64, limits: &Limits) -> Result<Self, Trouble> {
        let state = Rc::<State>::default();
        let decoder = Decoder::new(Source { input, state: state.clone() });
        let decoder = decoder.map_err(|error| trouble(&state, error))?;
        let buffer = vec![0; CHUNK].into();
        Ok(Self {
            decoder,
            state,
            digest: Sha256::new(),
            length: 0,
            room,
            limits: *limits,
            buffer,
            from: 0,
            to: 0,
        })
    }

    /// How much of the layer was taken so far.
    pub(super) fn position(&self) -> u64 {
        self.length - (self.to - self.from) as u64
    }

    /// What comes next, at least a byte; nothing at the end.
    pub(super) fn fill(&mut self) -> Result<&[u8], Trouble> {
        if self.from == self.to {
            let read = self.decoder.read(&mut self.buffer).map_err(|error| trouble(&self.state, error))?;
            (self.from, self.to) = (0, read);
            self.digest.update(self.buffer.get(..read).unwrap_or_default());
            self.length += read as u64;
            self.check()?;
        }
        Ok(self.buffer.get(self.from..self.to).unwrap_or_default())
    }

    fn check(&self) -> Result<(), Trouble> {
        let Limits { bytes, ratio, .. } = self.limits;
        if self.length > self.room {
            return Err(Trouble::Limit(format!("the layers have more than {bytes} bytes when decompressed")));
        }
        let consumed = self.state.consumed.get();
        if self.length.saturating_sub(FREE) > consumed.saturating_mul(ratio) {
            let length = self.length;
            let rule = format!("limit {ratio} times as many beyond the first 16 MiB");
            return Err(Trouble::Limit(format!(
                "{consumed} bytes of a layer decompress to more than {length}, {rule}"
            )));
        }
        Ok(())
    }

    /// Takes what [`Stream::fill`] returned.
    pub(super) fn consume(&mut self, length: usize) {
        self.from = self.to.min(self.from + length);
    }

    /// Reads until the buffer is full; the number of bytes is less at the end of the layer.
    pub(super) fn read(&mut self, mut into: &mut [u8]) -> Result<usize, Trouble> {
        let mut total = 0;
        while !into.is_empty() {
            let piece = self.fill()?;
            let length = piece.len().min(into.len());
            let (now, later) = into.split_at_mut(length);
            now.copy_from_slice(piece.get(..length).unwrap_or_default());
            into = later;
            if length == 0 {
                break;
            }
            self.consume(length);
            total += length;
        }
        Ok(total)
    }

    /// Reads what is left: the digest is that of the whole layer. Returns its length, too.
    pub(super) fn finish(mut self) -> Result<(u64, [u8; 32]), Trouble> {
        loop {
            let length = self.fill()?.len();
            if length == 0 {
                return Ok((self.length, self.digest.finalize().into()));
            }
            self.consume(length);
        }
    }
}

fn trouble(state: &State, error: io::Error) -> Trouble {
    match state.failed.take() {
        Some(error) => Trouble::Io(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            Trouble::Malformed("the layer's compressed data ends too early".into())
        }
        None => Trouble::Malformed(format!("the layer can't be decompressed: {error}")),
    }
}
