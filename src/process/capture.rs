//! A bounded capture of an output stream: its head and its tail.
//!
//! The first and the last output of a program are what people look for. Bytes between them are counted and dropped, so a
//! flood costs two buffers and the program is never blocked.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// The captured output of a stream: the head, the tail, and the number of bytes dropped between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Captured {
    /// The first bytes.
    pub head: Vec<u8>,
    /// The last bytes, if the output was longer than the head.
    pub tail: Vec<u8>,
    /// Bytes dropped between head and tail.
    pub dropped: u64,
    /// Whether the stream has ended: no process in the sandbox has it open.
    pub complete: bool,
}

/// A capture, filled by one thread and read by any.
#[derive(Clone, Debug)]
pub(crate) struct Capture(Arc<Mutex<Kept>>);

#[derive(Debug)]
struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
    complete: bool,
    limits: (usize, usize),
}

impl Capture {
    /// Keeps at most this many bytes of the head and of the tail.
    pub(crate) fn new(head: usize, tail: usize) -> Self {
        let kept = Kept {
            head: Vec::new(),
            tail: VecDeque::new(),
            dropped: 0,
            complete: false,
            limits: (head, tail),
        };
        Self(Arc::new(Mutex::new(kept)))
    }

    /// A copy of what was captured so far.
    pub(crate) fn get(&self) -> Captured {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Captured {
            head: kept.head.clone(),
            tail: kept.tail.iter().copied().collect(),
            dropped: kept.dropped,
            complete: kept.complete,
        }
    }

    fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(bytes);
    }

    fn finish(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).complete = true;
    }
}

impl Kept {
    fn add(&mut self, bytes: &[u8]) {
        let (head, tail) = self.limits;
        let (first, rest) = bytes.split_at(bytes.len().min(head.saturating_sub(self.head.len())));
        self.head.extend_from_slice(first);
        let (skipped, rest) = rest.split_at(rest.len().saturating_sub(tail));
        let surplus = (self.tail.len() + rest.len()).saturating_sub(tail).min(self.tail.len());
        self.tail.drain(..surplus);
        self.tail.extend(rest);
        self.dropped += (skipped.len() + surplus) as u64;
    }
}

/// The reading end of a captured stream.
#[derive(Debug)]
pub(crate) struct CaptureReader {
    pipe: io::PipeReader,
    capture: Capture,
}

/// Why a read stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Everything there was is read.
    Drained,
    /// There may be more; let others have their turn first.
    More,
    /// The stream has ended.
    Ended,
}

impl CaptureReader {
    /// Reads a non-blocking pipe into a capture.
    pub(crate) fn new(pipe: OwnedFd, capture: Capture) -> Self {
        Self { pipe: pipe.into(), capture }
    }

    /// Reads what is available, up to a bound per call.
    pub(crate) fn read(&mut self) -> Progress {
        let mut buffer = [0_u8; 16 * 1024];
        for _ in 0..8 {
            match self.pipe.read(&mut buffer) {
                Ok(0) => {
                    self.capture.finish();
                    return Progress::Ended;
                }
                Ok(read) => self.capture.add(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Drained,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.capture.finish();
                    return Progress::Ended;
                }
            }
        }
        Progress::More
    }
}

impl AsFd for CaptureReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn head_and_tail_are_the_streams_own(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            head in 0usize..50,
            tail in 0usize..50,
        ) {
            let capture = Capture::new(head, tail);
            pieces.iter().for_each(|piece| capture.add(piece));
            let whole: Vec<u8> = pieces.concat();
            let got = capture.get();
            let first = whole.len().min(head);
            prop_assert_eq!(&got.head, &whole[..first]);
            let last = (whole.len() - first).min(tail);
            prop_assert_eq!(&got.tail, &whole[whole.len() - last..]);
            prop_assert_eq!(got.dropped, (whole.len() - first - last) as u64);
        }
    }
}
