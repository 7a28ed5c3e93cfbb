//! The server's side of one TLS connection, over buffers that belong to somebody else.
//!
//! rustls's unbuffered interface decrypts in the shared buffer and encrypts into it, so that a quiet
//! connection keeps nothing but its keys.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::flow::SMALL_CHUNK;

/// How much of rustls's own talk (handshake messages, tickets, key updates) may be waiting to be written.
const TALK_LIMIT: usize = 256 * 1024;

/// The bytes that a record has before its data: type, version, length.
const HEADER: usize = 5;

/// The most that a record may have after them: 16 KiB of data and what sealing adds (RFC 5246, 6.2.3).
const LONGEST: usize = 16 * 1024 + 2048;

/// A TLS connection without its socket.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    /// What came and wasn't taken in: the beginning of a record whose rest has not come yet, or a backlog.
    kept: Vec<u8>,
    /// How much of the front of what is kept rustls has seen: whole records that it still needs. While a handshake
    /// message is incomplete it puts its fragments together in our buffer, over the records' headers, and remembers how
    /// far it has come. It indexes the buffer with that, so that each call has to bring all of it back.
    seen: usize,
    /// Whether records were left for the next turn, since there were so many.
    backlog: bool,
    /// Whether the last bytes that came had too many records in them.
    crowded: bool,
    established: bool,
    peer_closed: bool,
    /// An error has ended the connection, and what rustls had seen is gone.
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
            crowded: false,
            established: false,
            peer_closed: false,
            failed: false,
        })
    }

    /// Whether the handshake is over.
    pub(crate) fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the peer has said close_notify.
    pub(crate) fn peer_has_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether there are records that came before and weren't taken in.
    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog
    }

    /// How many bytes are kept.
    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Puts the kept bytes at the front of `sealed`, gives their number, and forgets them.
    pub(crate) fn restore(&mut self, sealed: &mut [u8]) -> io::Result<usize> {
        let kept = std::mem::take(&mut self.kept);
        sealed.get_mut(..kept.len()).ok_or_else(too_long)?.copy_from_slice(&kept);
        Ok(kept.len())
    }

    /// Keeps what isn't taken in yet.
    pub(crate) fn keep(&mut self, sealed: &[u8]) {
        self.kept = sealed.to_vec();
    }

    /// How much to ask the socket for, if `limit` may be: little after a flood of small records, since all that the
    /// turn can't take in is kept.
    pub(crate) fn ask(&mut self, limit: usize) -> usize {
        if std::mem::take(&mut self.crowded) { limit.min(SMALL_CHUNK) } else { limit }
    }

    /// As [`Tls::take`], but takes in at most `most` records; the rest is the backlog. Returns how many bytes are done
    /// with, how many bytes of data came out, and how many records it was.
    pub(crate) fn take_some(
        &mut self,
        sealed: &mut [u8],
        most: usize,
        plain: &mut [u8],
        talk: &mut Vec<u8>,
    ) -> io::Result<(usize, usize, usize)> {
        self.backlog = false;
        // It stays so unless all goes well.
        if std::mem::replace(&mut self.failed, true) {
            return Err(over());
        }
        let (length, records) = whole_records(sealed.get(self.seen..).ok_or_else(over)?, most);
        let whole = self.seen + length;
        // What comes behind the last record isn't whole, or isn't a record, which rustls then says.
        let end = if records < most { sealed.len() } else { whole };
        let complete = end == sealed.len();
        let (used, length) = self.take(sealed.get_mut(..end).ok_or_else(too_long)?, plain, talk)?;
        self.seen = whole.saturating_sub(used);
        self.backlog = !complete && !self.peer_closed;
        self.crowded |= self.backlog;
        self.failed = false;
        Ok((used, length, records))
    }

    /// Takes records in: their data goes to the front of `plain`, what rustls has to say itself to `talk`.
    /// Returns how many bytes of `sealed` are done with and how many bytes of data came out.
    ///
    /// After an error `talk` may have an alert in it that the peer should still get.
    fn take(
        &mut self,
        sealed: &mut [u8],
        plain: &mut [u8],
        talk: &mut Vec<u8>,
    ) -> io::Result<(usize, usize)> {
        let (mut used, mut length) = (0, 0);
        loop {
            let rest = sealed.get_mut(used..).ok_or_else(too_long)?;
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(rest);
            let mut stop = false;
            match state {
                Err(error) => {
                    used += discard;
                    self.say_last_words(sealed.get_mut(used..).ok_or_else(too_long)?, talk);
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
                    append(talk, |room| match message.encode(room) {
                        Ok(written) => Ok(written),
                        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                        Err(EncodeError::AlreadyEncoded) => Err(None),
                    })?;
                    if talk.len() > TALK_LIMIT {
                        return Err(io::Error::other("the TLS peer asks much and reads nothing"));
                    }
                }
                Ok(ConnectionState::TransmitTlsData(talked)) => talked.done(),
                Ok(ConnectionState::WriteTraffic(_)) => {
                    self.established = true;
                    stop = true;
                }
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => stop = true,
                // Early data is switched off; whatever else a later version may bring isn't for us.
                Ok(_) => return Err(io::Error::other("unexpected state of the TLS connection")),
            }
            used += discard;
            if stop {
                return Ok((used, length));
            }
        }
    }

    /// Encrypts `plain` into `sealed` and returns the length; rustls's own talk goes before it, to `talk`.
    pub(crate) fn seal(&mut self, plain: &[u8], sealed: &mut [u8], talk: &mut Vec<u8>) -> io::Result<usize> {
        self.write(talk, |traffic| traffic.encrypt(plain, sealed).map_err(|_| exhausted()))
    }

    /// Says close_notify, into `talk`.
    pub(crate) fn close(&mut self, talk: &mut Vec<u8>) -> io::Result<()> {
        let mut notice = Vec::new();
        self.write(talk, |traffic| {
            append(&mut notice, |room| match traffic.queue_close_notify(room) {
                Ok(written) => Ok(written),
                Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
                Err(EncryptError::EncryptExhausted) => Err(None),
            })
        })?;
        talk.extend_from_slice(&notice);
        Ok(())
    }

    /// Brings the connection to where it may write, and lets `job` do so.
    fn write<T>(
        &mut self,
        talk: &mut Vec<u8>,
        job: impl FnOnce(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::server::ServerConnectionData>,
        ) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.failed {
            return Err(over());
        }
        loop {
            // There is nothing new in what it has seen, and so nothing to discard.
            let seen = self.kept.get_mut(..self.seen).ok_or_else(over)?;
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(seen);
            match state.map_err(broken)? {
                ConnectionState::WriteTraffic(mut traffic) => return job(&mut traffic),
                ConnectionState::EncodeTlsData(mut message) => {
                    append(talk, |room| match message.encode(room) {
                        Ok(written) => Ok(written),
                        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                        Err(EncodeError::AlreadyEncoded) => Err(None),
                    })?
                }
                ConnectionState::TransmitTlsData(talked) => talked.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                _ => return Err(io::Error::other("the TLS connection can't be written to")),
            }
        }
    }

    /// The alert that tells the peer why the connection ends. rustls still indexes `rest`, what wasn't discarded before
    /// the error. It would also go on reading there once it has nothing to say, so it isn't asked twice.
    fn say_last_words(&mut self, rest: &mut [u8], talk: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut message)) =
            self.connection.process_tls_records(rest).state
        {
            // The connection is over in any case.
            let _ = append(talk, |room| match message.encode(room) {
                Ok(written) => Ok(written),
                Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            });
        }
    }
}

/// Appends what `job` writes; it says `Err(Some(size))` when it needs more room.
fn append(
    talk: &mut Vec<u8>,
    mut job: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> io::Result<()> {
    let start = talk.len();
    let mut room = 512;
    loop {
        talk.resize(start + room, 0);
        match job(talk.get_mut(start..).ok_or_else(too_long)?) {
            Ok(written) => {
                talk.truncate(start + written);
                return Ok(());
            }
            Err(Some(required)) if required > room && required <= TALK_LIMIT => room = required,
            Err(_) => {
                talk.truncate(start);
                return Err(exhausted());
            }
        }
    }
}

/// Where the first `most` whole records end, and how many there are. It ends earlier in front of a record that is too
/// long.
fn whole_records(sealed: &[u8], most: usize) -> (usize, usize) {
    let (mut end, mut records) = (0, 0);
    while records < most {
        let Some(&[_, _, _, high, low]) = sealed.get(end..).and_then(<[u8]>::first_chunk::<HEADER>) else {
            break;
        };
        let next = end + HEADER + usize::from(u16::from_be_bytes([high, low]));
        if next > sealed.len() || next - end > HEADER + LONGEST {
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
