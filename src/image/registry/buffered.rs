//! What a server sends, read ahead.

use std::time::Instant;

use zeroize::Zeroizing;

use super::dial::Connection;
use super::failure::Failure;
use super::patience::Patience;
use super::reach::Reach;
use crate::error::Error;
use crate::image::error;

/// How much is received at a time.
pub(super) const BUFFER: usize = 64 * 1024;

/// A stream whose next bytes may have been received already.
#[derive(Debug)]
pub(super) struct Buffered {
    connection: Connection,
    bytes: Zeroizing<Vec<u8>>,
    /// Where in `bytes` the rest begins.
    start: usize,
}

impl Buffered {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, bytes: Zeroizing::default(), start: 0 }
    }

    /// The connection, for the next request if nothing is left.
    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    pub(super) fn reach(&self) -> Reach {
        self.connection.reach
    }

    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.bytes.len());
    }

    /// Receives more behind what there is; false at the end of the stream.
    pub(super) fn fill(&mut self, patience: &Patience<'_>, until: Instant) -> Result<bool, Failure> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let length = self.bytes.len();
        self.bytes.resize(length.saturating_add(BUFFER), 0);
        let room = self.bytes.get_mut(length..).unwrap_or_default();
        let received = self.connection.stream.receive(room, patience, until);
        self.bytes.truncate(length.saturating_add(*received.as_ref().unwrap_or(&0)));
        Ok(received? > 0)
    }

    /// What is there, or else what comes next. 0 at the end of the stream.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        patience: &Patience<'_>,
        until: Instant,
    ) -> Result<usize, Failure> {
        let rest = self.rest();
        if rest.is_empty() {
            return self.connection.stream.receive(buffer, patience, until);
        }
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.consume(count);
        Ok(count)
    }

    /// A line without its end.
    pub(super) fn line(
        &mut self,
        limit: usize,
        patience: &Patience<'_>,
        until: Instant,
    ) -> Result<Vec<u8>, Failure> {
        let mut searched = 0;
        loop {
            let unread = self.rest();
            if let Some(at) = unread.iter().skip(searched).position(|byte| *byte == b'\n') {
                let length = searched.saturating_add(at);
                let line = unread.get(..length).unwrap_or_default();
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.consume(length.saturating_add(1));
                return Ok(line);
            }
            searched = unread.len();
            if searched > limit {
                return Err(malformed("a line is too long").into());
            }
            if !self.fill(patience, until)? {
                return Err(ended());
            }
        }
    }
}

pub(super) fn malformed(what: &str) -> Error {
    error(format!("the server's answer is malformed: {what}"))
}

pub(super) fn ended() -> Failure {
    Failure::passing(error("the connection ended before the answer did"))
}
