//! Finds the server's name in a TLS ClientHello (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3) that comes in any pieces. Pure.
//!
//! Only the outer handshake counts. An "encrypted client hello" extension is passed over: browsers send an
//! empty one as a decoy (RFC 9849, 6.2), and the name inside a real one only matters to the server that the outer name
//! leads to. Ambiguous handshakes (two server names, an extension twice, bytes behind the end) are refused.
//!
//! Not a crate: `tls-parser` doesn't put fragments together, and rustls's `Acceptor` takes much that is refused here
//! and begins a handshake, where the bytes only have to be looked at and passed on.

use crate::policy::Reason;

/// The most bytes in which the name must be found, as in nginx and HAProxy. Post-quantum handshakes have some 2 KiB.
pub(crate) const MAX_BYTES: usize = 16 * 1024;

/// Records (RFC 8446, 5.1).
const RECORD_HEADER: usize = 5;
const HANDSHAKE: u8 = 22;
const MAX_RECORD: usize = 1 << 14;
/// Handshake messages (4).
const MESSAGE_HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;
/// Extensions (4.2) and the kind of name there is.
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What was found so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing yet.
    More,
    /// The name, in lower case.
    Server(String),
    /// There is no name, or this isn't TLS.
    Refused(Reason),
}

/// The beginning of a stream, kept so that it can be passed on as it came.
#[derive(Debug, Default)]
pub(crate) struct ClientHello {
    bytes: Vec<u8>,
    /// How many of them are in records that were read.
    done: usize,
    /// The contents of those records.
    message: Vec<u8>,
}

impl ClientHello {
    /// Adds the next bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Found {
        self.bytes.extend_from_slice(bytes);
        match self.look() {
            Ok(Some(name)) => Found::Server(name),
            Ok(None) if self.bytes.len() < MAX_BYTES => Found::More,
            Ok(None) => Found::Refused(Reason::NotTls),
            Err(reason) => Found::Refused(reason),
        }
    }

    /// How many more bytes it takes.
    pub(crate) fn room(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes.len())
    }

    /// How much memory it uses.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len() + self.message.len()
    }

    /// Whether there are no bytes yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All bytes of the stream.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn look(&mut self) -> Result<Option<String>, Reason> {
        loop {
            if let Some(body) = whole(&self.message)? {
                return server(body).map(Some);
            }
            let rest = self.bytes.get(self.done..).unwrap_or_default();
            // Known by its first bytes, so that a stream that isn't TLS needn't go on to be refused.
            if rest.first().is_some_and(|kind| *kind != HANDSHAKE)
                || rest.get(1).is_some_and(|major| *major != 3)
            {
                return Err(Reason::NotTls);
            }
            let Some([_, _, _, high, low]) = rest.first_chunk::<RECORD_HEADER>() else { return Ok(None) };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            // An empty record is not ambiguous, and some stacks begin with one.
            if length > MAX_RECORD {
                return Err(Reason::NotTls);
            }
            let Some(record) = rest.get(RECORD_HEADER..RECORD_HEADER + length) else { return Ok(None) };
            self.message.extend_from_slice(record);
            self.done += RECORD_HEADER + length;
        }
    }
}

/// The body of the first message, once it is complete.
fn whole(message: &[u8]) -> Result<Option<&[u8]>, Reason> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(Reason::NotTls);
    }
    let Some([_, a, b, c]) = message.first_chunk::<MESSAGE_HEADER>() else { return Ok(None) };
    let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
    if length > MAX_BYTES {
        return Err(Reason::NotTls);
    }
    Ok(message.get(MESSAGE_HEADER..MESSAGE_HEADER + length))
}

/// The name in the body of a ClientHello.
fn server(body: &[u8]) -> Result<String, Reason> {
    let mut rest = Reader(body);
    let extensions = rest.extensions().ok_or(Reason::NotTls)?;
    let mut name = None;
    let mut seen = Vec::new();
    let mut rest = Reader(extensions);
    while !rest.0.is_empty() {
        let (kind, data) = rest.extension().ok_or(Reason::NotTls)?;
        if seen.contains(&kind) || seen.len() >= 256 {
            return Err(Reason::NotTls);
        }
        seen.push(kind);
        if kind == SERVER_NAME {
            name = Some(Reader(data).host_name().ok_or(Reason::NotTls)?);
        }
    }
    let name = name.ok_or(Reason::NoServerName)?;
    Ok(name.escape_ascii().to_string().to_ascii_lowercase())
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn word(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// Bytes with their length in front, in one byte.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// Bytes with their length in front, in two bytes.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.word()?;
        self.take(length.into())
    }

    /// All extensions of a ClientHello; empty if it ends before them, as it may in TLS 1.2.
    fn extensions(&mut self) -> Option<&'a [u8]> {
        self.take(2 + 32)?;
        let (session, suites, compression) = (self.short()?, self.long()?, self.short()?);
        if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
            return None;
        }
        if self.0.is_empty() {
            return Some(&[]);
        }
        self.long().filter(|_| self.0.is_empty())
    }

    fn extension(&mut self) -> Option<(u16, &'a [u8])> {
        Some((self.word()?, self.long()?))
    }

    /// The only name in a list of server names.
    fn host_name(&mut self) -> Option<&'a [u8]> {
        let mut list = Reader(self.long().filter(|_| self.0.is_empty())?);
        let (kind, name) = (list.byte()?, list.long()?);
        let is_one = kind == HOST_NAME && !name.is_empty() && name.len() <= 255 && list.0.is_empty();
        is_one.then_some(name)
    }
}

#[cfg(test)]
pub(super) mod tests;
