//! The server's side of one TLS connection, over buffers that all connections share.
//!
//! rustls's unbuffered interface decrypts in the shared buffer and encrypts into it, so that a quiet connection holds
//! nothing but its keys.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::flow::SMALL_CHUNK;

/// How many bytes of TLS's own messages (handshake, tickets, key updates) may wait to be written.
const MAX_MESSAGES: usize = 256 * 1024;

/// The length of a record's header: type, version, length.
const RECORD_HEADER: usize = 5;

/// The longest record after its header: 16 KiB of data and what encryption adds (RFC 5246, 6.2.3).
const MAX_RECORD: usize = 16 * 1024 + 2048;

/// A TLS connection without its socket.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    /// Bytes that came and weren't decrypted: the beginning of a record whose rest has not come yet, or a backlog.
    kept: Vec<u8>,
    /// How many of the first kept bytes rustls has seen: whole records that it still needs. While a handshake message is
    /// incomplete, rustls joins its fragments in this buffer, over the records' headers, and remembers how far it has
    /// come. It indexes the buffer with that, so each call has to pass all of it again.
    seen: usize,
    /// Whether records were left for the next turn because there were so many.
    backlog: bool,
    /// Whether the last read brought more records than a turn takes.
    many_records: bool,
    established: bool,
    peer_closed: bool,
    /// An error has ended the connection, and the bytes that rustls had seen are gone.
    failed: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tls")
            .field("established", &self.established)
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}

impl Tls {
    pub(crate) fn new(config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config).map_err(broken)?;
        Ok(Self {
            connection,
            kept: Vec::new(),
            seen: 0,
            backlog: false,
            many_records: false,
            established: false,
            peer_closed: false,
            failed: false,
        })
    }

    /// Whether the handshake is over.
    pub(crate) fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the peer has sent close_notify.
    pub(crate) fn peer_has_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether records were left for the next turn.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// How many bytes are kept.
    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Moves the kept bytes to the front of `sealed`, and returns their number.
    pub(crate) fn restore(&mut self, sealed: &mut [u8]) -> io::Result<usize> {
        let kept = std::mem::take(&mut self.kept);
        sealed.get_mut(..kept.len()).ok_or_else(too_long)?.copy_from_slice(&kept);
        Ok(kept.len())
    }

    /// Keeps bytes that aren't decrypted yet.
    pub(crate) fn keep(&mut self, sealed: &[u8]) {
        self.kept = sealed.to_vec();
    }

    /// How much to read, of `limit` at max_records: little after a flood of small records, because all that the turn can't
    /// decrypt is kept.
    pub(crate) fn read_size(&mut self, limit: usize) -> usize {
        if std::mem::take(&mut self.many_records) { limit.min(SMALL_CHUNK) } else { limit }
    }

    /// As [`Tls::decrypt_all`], but for `max_records` at max_records; the rest is the backlog. Returns how many bytes are done
    /// with, how many bytes of data came out, and the number of records.
    pub(crate) fn decrypt(
        &mut self,
        sealed: &mut [u8],
        max_records: usize,
        plain: &mut [u8],
        messages: &mut Vec<u8>,
    ) -> io::Result<(usize, usize, usize)> {
        self.backlog = false;
        // It stays so if this fails.
        if std::mem::replace(&mut self.failed, true) {
            return Err(over());
        }
        let (length, records) = whole_records(sealed.get(self.seen..).ok_or_else(over)?, max_records);
        let whole = self.seen + length;
        // Behind the last record there is an incomplete one, or no record, which rustls then reports.
        let end = if records < max_records { sealed.len() } else { whole };
        let complete = end == sealed.len();
        let (used, length) =
            self.decrypt_all(sealed.get_mut(..end).ok_or_else(too_long)?, plain, messages)?;
        self.seen = whole.saturating_sub(used);
        self.backlog = !complete && !self.peer_closed;
        self.many_records |= self.backlog;
        self.failed = false;
        Ok((used, length, records))
    }

    /// Decrypts records: their data goes to the front of `plain`, messages of TLS itself to `messages`.
    /// Returns how many bytes of `sealed` are done with and how many bytes of data came out.
    ///
    /// After an error `messages` may have an alert in it that the peer should still get.
    fn decrypt_all(
        &mut self,
        sealed: &mut [u8],
        plain: &mut [u8],
        messages: &mut Vec<u8>,
    ) -> io::Result<(usize, usize)> {
        let (mut used, mut length) = (0, 0);
        loop {
            let rest = sealed.get_mut(used..).ok_or_else(too_long)?;
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(rest);
            let mut stop = false;
            match state {
                Err(error) => {
                    used += discard;
                    self.write_alert(sealed.get_mut(used..).ok_or_else(too_long)?, messages);
                    return Err(broken(error));
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(broken)?;
                        discard += record.discard;
                        let end = length + record.payload.len();
                        plain.get_mut(length..end).ok_or_else(too_long)?.copy_from_slice(record.payload);
                        length = end;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    append(messages, |room| match message.encode(room) {
                        Ok(written) => Ok(written),
                        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                        Err(EncodeError::AlreadyEncoded) => Err(None),
                    })?;
                    if messages.len() > MAX_MESSAGES {
                        return Err(io::Error::other("the TLS peer asks much and reads nothing"));
                    }
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.established = true;
                    stop = true;
                }
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => stop = true,
                // Early data is off, and this code knows no other state.
                Ok(_) => return Err(io::Error::other("unexpected state of the TLS connection")),
            }
            used += discard;
            if stop {
                return Ok((used, length));
            }
        }
    }

    /// Encrypts `plain` into `sealed` and returns the length. Messages of TLS itself go before it, to `messages`.
    pub(crate) fn seal(
        &mut self,
        plain: &[u8],
        sealed: &mut [u8],
        messages: &mut Vec<u8>,
    ) -> io::Result<usize> {
        self.write(messages, |traffic| traffic.encrypt(plain, sealed).map_err(|_| exhausted()))
    }

    /// Writes close_notify to `messages`.
    pub(crate) fn close(&mut self, messages: &mut Vec<u8>) -> io::Result<()> {
        let mut notice = Vec::new();
        self.write(messages, |traffic| {
            append(&mut notice, |room| match traffic.queue_close_notify(room) {
                Ok(written) => Ok(written),
                Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
                Err(EncryptError::EncryptExhausted) => Err(None),
            })
        })?;
        messages.extend_from_slice(&notice);
        Ok(())
    }

    /// Brings the connection to the state in which it may write, and runs `job`.
    fn write<T>(
        &mut self,
        messages: &mut Vec<u8>,
        job: impl FnOnce(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
        ) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.failed {
            return Err(over());
        }
        loop {
            // rustls has seen all of it, so there is nothing to discard.
            let seen = self.kept.get_mut(..self.seen).ok_or_else(over)?;
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(seen);
            match state.map_err(broken)? {
                ConnectionState::WriteTraffic(mut traffic) => return job(&mut traffic),
                ConnectionState::EncodeTlsData(mut message) => {
                    append(messages, |room| match message.encode(room) {
                        Ok(written) => Ok(written),
                        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                        Err(EncodeError::AlreadyEncoded) => Err(None),
                    })?
                }
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Err(io::Error::other("the TLS connection can't be written to")),
            }
        }
    }

    /// Writes the alert that tells the peer why the connection ends. rustls still indexes `rest`, the bytes that weren't
    /// discarded before the error. Without anything to write it would go on reading there, so it is called only once.
    fn write_alert(&mut self, rest: &mut [u8], messages: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut message)) =
            self.connection.process_tls_records(rest).state
        {
            // The connection ends in any case.
            let _ = append(messages, |room| match message.encode(room) {
                Ok(written) => Ok(written),
                Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            });
        }
    }
}

/// Appends what `job` writes. `job` returns `Err(Some(size))` if it needs that much room.
fn append(
    messages: &mut Vec<u8>,
    mut job: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> io::Result<()> {
    let start = messages.len();
    let mut room = 512;
    loop {
        messages.resize(start + room, 0);
        match job(messages.get_mut(start..).ok_or_else(too_long)?) {
            Ok(written) => {
                messages.truncate(start + written);
                return Ok(());
            }
            Err(Some(required)) if required > room && required <= MAX_MESSAGES => room = required,
            Err(_) => {
                messages.truncate(start);
                return Err(exhausted());
            }
        }
    }
}

/// Where the first `max_records` whole records end, and how many there are. Stops before a record that is too long.
fn whole_records(sealed: &[u8], max_records: usize) -> (usize, usize) {
    let (mut end, mut records) = (0, 0);
    while records < max_records {
        let Some(&[_, _, _, high, low]) = sealed.get(end..).and_then(<[u8]>::first_chunk::<RECORD_HEADER>)
        else {
            break;
        };
        let next = end + RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
        if next > sealed.len() || next - end > RECORD_HEADER + MAX_RECORD {
            break;
        }
        (end, records) = (next, records + 1);
    }
    (end, records)
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn over() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the TLS connection has failed")
}

fn exhausted() -> io::Error {
    io::Error::other("the TLS connection can't encrypt any more")
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a TLS message is too long")
}
