//! The server's side of one TLS connection, over buffers that belong to somebody else.
//!
//! rustls's unbuffered interface decrypts in the shared buffer and encrypts into it, so that a quiet
//! connection keeps nothing but its keys.

use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

/// How much of rustls's own talk (handshake messages, tickets, key updates) may be waiting to be written.
const TALK_LIMIT: usize = 256 * 1024;

/// A TLS connection without its socket.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    /// The beginning of a record whose rest has not come yet.
    partial: Vec<u8>,
    established: bool,
    peer_closed: bool,
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
        Ok(Self { connection, partial: Vec::new(), established: false, peer_closed: false })
    }

    /// Whether the handshake is over.
    pub(crate) fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the peer has said close_notify.
    pub(crate) fn peer_has_closed(&self) -> bool {
        self.peer_closed
    }

    /// Puts the kept beginning of a record at the front of `sealed`, gives its length, and forgets it.
    pub(crate) fn restore(&mut self, sealed: &mut [u8]) -> io::Result<usize> {
        let partial = std::mem::take(&mut self.partial);
        sealed.get_mut(..partial.len()).ok_or_else(too_long)?.copy_from_slice(&partial);
        Ok(partial.len())
    }

    /// Keeps what isn't a whole record yet.
    pub(crate) fn keep(&mut self, sealed: &[u8]) {
        self.partial = sealed.to_vec();
    }

    /// Takes records in: their data goes to the front of `plain`, what rustls has to say itself to `talk`.
    /// Returns how many bytes of `sealed` are done with and how many bytes of data came out.
    ///
    /// After an error `talk` may have an alert in it that the peer should still get.
    pub(crate) fn take(
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
                    self.say_last_words(talk);
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
        loop {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
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

    /// The alert that tells the peer why the connection ends.
    fn say_last_words(&mut self, talk: &mut Vec<u8>) {
        while let Ok(ConnectionState::EncodeTlsData(mut message)) =
            self.connection.process_tls_records(&mut []).state
        {
            let said = append(talk, |room| match message.encode(room) {
                Ok(written) => Ok(written),
                Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
                Err(EncodeError::AlreadyEncoded) => Err(None),
            });
            if said.is_err() || talk.len() > TALK_LIMIT {
                return;
            }
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

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn exhausted() -> io::Error {
    io::Error::other("the TLS connection can't encrypt any more")
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a TLS message is too long")
}
