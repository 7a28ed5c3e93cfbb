//! An HTTP/1.1 response: its head, and its body as it comes.
//!
//! httparse reads heads and chunk sizes; what is around that is here and not a client crate's, because every wait has to end
//! with the operation, every part has a bound, and nothing of it may get into a log (ureq's trace log has whole requests).

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::buffered::{BUFFER, Buffered, ended, malformed};
use super::dial::Connection;
use super::failure::Failure;
use super::patience::Patience;
use super::pool::{Home, Pool};
use super::reach::Reach;
use super::stream::Stream;
use crate::error::{Code, Error, Result};
use crate::image::error;

/// The longest head of a response, and the most headers in it.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;

/// How many interim responses (1xx) may come before the one that counts.
const MAX_INTERIM: usize = 8;

/// The longest line with a chunk's size, and the longest trailer in all.
const MAX_CHUNK_LINE: usize = 1024;
const MAX_TRAILER: usize = 8 * 1024;

/// How long a server may take from the request to the end of the head, however it comes.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a body may pause.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a body that is read as a whole may take, however it comes. Those are short: manifests, tokens, errors.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);

/// The status line and the headers.
#[derive(Debug)]
struct Head {
    status: u16,
    headers: Headers,
    /// HTTP/1.0, which has no chunks.
    old: bool,
}

impl Head {
    /// Whether the connection may be used for another request.
    fn keeps_alive(&self) -> bool {
        let mut options = self.headers.all("connection").flat_map(|value| value.split(','));
        !self.old && !options.any(|option| option.trim().eq_ignore_ascii_case("close"))
    }
}

/// The headers of a response, their names in lower case.
#[derive(Debug, Default)]
pub(super) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first of this name, which is in lower case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// All of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Where the body ends.
#[derive(Debug)]
enum Framing {
    /// After this many bytes.
    Length(u64),
    /// In a chunk with so much left of it, or before the next one.
    Chunk(u64),
    /// With the connection.
    Close,
    Ended,
}

/// A response whose body is yet to be read.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Headers,
    source: Buffered,
    framing: Framing,
    /// Where the connection goes when the body has been read, if it may be used again.
    home: Option<(Pool, Home)>,
}

impl Response {
    /// Receives the head of the response to a request that was sent. `home` is where the connection goes afterwards.
    pub(super) fn receive(
        connection: Connection,
        home: (Pool, Home),
        patience: &Patience<'_>,
    ) -> Result<Self, Failure> {
        let until = patience.at_most(HEAD_TIMEOUT);
        let mut source = Buffered::new(connection);
        let head = final_head(&mut source, patience, until)?;
        let framing = framing(&head)?;
        let encoding = head.headers.get("content-encoding");
        if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(malformed("it has a Content-Encoding, which was not asked for").into());
        }
        let home = head.keeps_alive().then_some(home);
        Ok(Self { status: head.status, headers: head.headers, source, framing, home })
    }

    /// How long the body is, if the head says so.
    pub(super) fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(length) => Some(length),
            Framing::Ended => Some(0),
            Framing::Chunk(_) | Framing::Close => None,
        }
    }

    /// Receives some of the body; 0 is its end.
    pub(super) fn read(&mut self, buffer: &mut [u8], patience: &Patience<'_>) -> Result<usize, Failure> {
        self.read_until(buffer, patience, patience.at_most(IDLE_TIMEOUT))
    }

    fn read_until(
        &mut self,
        buffer: &mut [u8],
        patience: &Patience<'_>,
        until: Instant,
    ) -> Result<usize, Failure> {
        if matches!(self.framing, Framing::Chunk(0)) {
            self.next_chunk(patience, until)?;
        }
        let limit = match self.framing {
            Framing::Ended | Framing::Length(0) => return Ok(0),
            Framing::Length(left) | Framing::Chunk(left) => usize::try_from(left).unwrap_or(usize::MAX),
            Framing::Close => usize::MAX,
        };
        let limit = limit.min(buffer.len());
        let count = self.source.read(buffer.get_mut(..limit).unwrap_or_default(), patience, until)?;
        match &mut self.framing {
            Framing::Length(left) | Framing::Chunk(left) => {
                if count == 0 {
                    return Err(ended());
                }
                *left = left.saturating_sub(count as u64);
                let chunk_ended = *left == 0 && matches!(self.framing, Framing::Chunk(_));
                if chunk_ended && !self.source.line(2, patience, until)?.is_empty() {
                    return Err(malformed("a chunk is longer than it says").into());
                }
            }
            Framing::Close if count == 0 => self.framing = Framing::Ended,
            Framing::Close | Framing::Ended => {}
        }
        Ok(count)
    }

    /// Reads the line with the next chunk's size; behind the last one the trailer.
    fn next_chunk(&mut self, patience: &Patience<'_>, until: Instant) -> Result<(), Failure> {
        let mut line = self.source.line(MAX_CHUNK_LINE, patience, until)?;
        line.extend_from_slice(b"\r\n");
        let size = match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) => size,
            _ => return Err(malformed("a chunk without a size").into()),
        };
        self.framing = Framing::Chunk(size);
        if size > 0 {
            return Ok(());
        }
        let mut trailer: usize = 0;
        loop {
            let line = self.source.line(MAX_TRAILER, patience, until)?;
            trailer = trailer.saturating_add(line.len()).saturating_add(1);
            if trailer > MAX_TRAILER {
                return Err(malformed("the trailer is too long").into());
            }
            if line.is_empty() {
                self.framing = Framing::Ended;
                return Ok(());
            }
        }
    }

    /// How near the server is.
    pub(super) fn reach(&self) -> Reach {
        self.source.reach()
    }

    /// Lets another request use the connection, if the body has been read to its end.
    pub(super) fn finish(self) {
        let ended =
            matches!(self.framing, Framing::Ended | Framing::Length(0)) && self.source.rest().is_empty();
        if let Some((pool, home)) = self.home.filter(|_| ended) {
            pool.put(home, self.source.into_connection());
        }
    }

    /// Reads a short body that no one wants, so that the connection may be used again.
    pub(super) fn discard(mut self, patience: &Patience<'_>) {
        const MAX_DISCARDED: usize = 16 * 1024;
        let mut buffer = [0; MAX_DISCARDED];
        let whole = patience.at_most(BODY_TIMEOUT);
        if self.length().is_some_and(|length| length <= MAX_DISCARDED as u64) {
            while self.read_part(&mut buffer, patience, whole).is_ok_and(|count| count > 0) {}
        }
        self.finish();
    }

    /// Receives some of a body that has to end by `whole`.
    fn read_part(
        &mut self,
        buffer: &mut [u8],
        patience: &Patience<'_>,
        whole: Instant,
    ) -> Result<usize, Failure> {
        // Bytes that keep coming leave nothing to wait for, and so no wait that ends.
        if Instant::now() >= whole {
            patience.check()?;
            return Err(Failure::passing(Error::new(
                Code::TimedOut,
                "the server's answer did not end in time",
            )));
        }
        self.read_until(buffer, patience, patience.at_most(IDLE_TIMEOUT).min(whole))
    }

    /// The whole body, which must not be longer than the limit. The bytes are overwritten when they are dropped: a token
    /// may be in them.
    pub(super) fn body(
        self,
        limit: usize,
        what: &str,
        patience: &Patience<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.body_until(limit, what, patience, patience.at_most(BODY_TIMEOUT))
    }

    fn body_until(
        mut self,
        limit: usize,
        what: &str,
        patience: &Patience<'_>,
        whole: Instant,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let too_long = || Failure::Final(error(format!("{what} is longer than {limit} bytes")));
        if self.length().is_some_and(|length| length > limit as u64) {
            return Err(too_long());
        }
        // As much as a token takes, so that no part of one is left behind in memory that is given back.
        let mut body = Zeroizing::new(Vec::with_capacity(limit.min(BUFFER)));
        let mut buffer = Zeroizing::new(vec![0; 16 * 1024]);
        loop {
            let count = self.read_part(&mut buffer, patience, whole)?;
            if count == 0 {
                self.finish();
                return Ok(body);
            }
            if body.len().saturating_add(count) > limit {
                return Err(too_long());
            }
            body.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
    }
}

/// The status of a proxy's answer to CONNECT, behind which the stream is the server's.
pub(super) fn of_tunnel(
    stream: &mut Stream,
    patience: &Patience<'_>,
    until: Instant,
) -> Result<u16, Failure> {
    let mut head = Vec::new();
    let mut byte = [0];
    // Byte by byte, so that nothing of what follows is taken: what that is, the server decides.
    while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
        if head.len() > MAX_HEAD {
            return Err(malformed("its head is too long").into());
        }
        if stream.receive(&mut byte, patience, until)? == 0 {
            return Err(ended());
        }
        head.extend_from_slice(&byte);
    }
    Ok(parse(&head)?.map(|(head, _)| head.status).ok_or_else(|| malformed("its head has no end"))?)
}

/// The head behind interim ones.
fn final_head(source: &mut Buffered, patience: &Patience<'_>, until: Instant) -> Result<Head, Failure> {
    for _ in 0..=MAX_INTERIM {
        let head = head(source, patience, until)?;
        match head.status {
            101 => return Err(malformed("it switches to another protocol").into()),
            100..=199 => {}
            _ => return Ok(head),
        }
    }
    Err(malformed("it has too many interim answers").into())
}

fn head(source: &mut Buffered, patience: &Patience<'_>, until: Instant) -> Result<Head, Failure> {
    let mut searched: usize = 0;
    loop {
        // Parsed only when the end is there: a server may send it byte by byte.
        let unread = source.rest();
        let is_complete = has_end(unread.get(searched.saturating_sub(3)..).unwrap_or_default());
        let parsed = if is_complete { parse(unread)? } else { None };
        if let Some((head, length)) = parsed {
            source.consume(length);
            return Ok(head);
        }
        searched = unread.len();
        if searched > MAX_HEAD {
            return Err(malformed("its head is too long").into());
        }
        if !source.fill(patience, until)? {
            return Err(ended());
        }
    }
}

fn has_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

/// The head at the beginning of the bytes, and its length, if all of it is there.
fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Complete(_)) => return Err(malformed("its head is too long")),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(cause) => return Err(malformed(&cause.to_string())),
    };
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err(malformed("it has no status"));
    };
    if status < 100 {
        return Err(malformed("its status is no number from 100 on"));
    }
    let headers = response.headers.iter().map(|header| {
        (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).trim().to_owned())
    });
    let headers = Headers(headers.collect());
    Ok(Some((Head { status, headers, old: version == 0 }, length)))
}

/// Where the body ends (RFC 9112, 6.3). What two readers could understand in two ways is refused.
fn framing(head: &Head) -> Result<Framing> {
    if matches!(head.status, 204 | 304) {
        return Ok(Framing::Ended);
    }
    let mut lengths = head.headers.all("content-length");
    let length = lengths.next();
    if lengths.any(|other| Some(other) != length) {
        return Err(malformed("it has several lengths"));
    }
    let mut codings = head.headers.all("transfer-encoding");
    match (codings.next(), length) {
        (Some(_), Some(_)) => Err(malformed("it has a length and chunks")),
        (Some(coding), None)
            if coding.eq_ignore_ascii_case("chunked") && codings.next().is_none() && !head.old =>
        {
            Ok(Framing::Chunk(0))
        }
        (Some(_), None) => Err(malformed("its Transfer-Encoding is not chunked")),
        (None, Some(length)) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits);
            length.map(Framing::Length).ok_or_else(|| malformed("its length is no number"))
        }
        (None, None) => Ok(Framing::Close),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::image::registry::reach::NamedBy;
    use crate::image::registry::url::{Origin, Scheme};
    use crate::sys::socket::{Family, Socket};

    #[test]
    fn a_body_that_drips_ends_with_its_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        ours.set_nonblocking(true).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        // Until the other end is gone.
        let drip = std::thread::spawn(move || {
            let mut next = &b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"[..];
            while std::io::Write::write_all(&mut theirs, next).is_ok() {
                next = b"x";
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let cancelled = AtomicBool::new(false);
        let patience = Patience::new(&cancelled, Instant::now() + Duration::from_secs(60));
        let stream = Stream::plain(Socket::new(OwnedFd::from(ours), Family::Tcp));
        let server = Origin::new(Scheme::Https, "registry.example").unwrap();
        let home = (Pool::default(), Home { server, named_by: NamedBy::User });
        let response =
            Response::receive(Connection { stream, reach: Reach::Public }, home, &patience).unwrap();
        let whole = patience.at_most(Duration::from_millis(300));
        let failure = response.body_until(1_000_000, "it", &patience, whole).unwrap_err();
        assert!(
            matches!(&failure, Failure::Passing { error, .. } if error.code() == Code::TimedOut),
            "{failure:?}"
        );
        assert!(!patience.left().is_zero());
        drip.join().unwrap();
    }

    /// The framing of a head, or the error.
    fn framing_of(head: &[u8]) -> Result<Option<Framing>> {
        parse(head)?.map(|(head, _)| framing(&head)).transpose()
    }

    #[test]
    fn a_connection_is_kept_where_the_server_keeps_it() {
        let keeps = |head: &str| parse(head.as_bytes()).unwrap().unwrap().0.keeps_alive();
        assert!(keeps("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(keeps("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n"));
        assert!(!keeps("HTTP/1.0 200 OK\r\n\r\n"));
    }

    #[test]
    fn a_head_is_complete_with_its_empty_line() {
        for head in ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\n\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"] {
            for length in 0..head.len() {
                let part = &head.as_bytes()[..length];
                assert!(!has_end(part), "{part:?}");
                assert!(parse(part).unwrap().is_none());
            }
            assert!(has_end(head.as_bytes()) && framing_of(head.as_bytes()).unwrap().is_some());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_head_is_read_or_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            lines in "(HTTP/1\\.[01] [0-9]{3} x\r\n)?((Content-Length|Transfer-Encoding|Location): [ -~]{0,20}\r\n){0,4}(\r\n)?",
        ) {
            let _ = framing_of(&bytes);
            let _ = framing_of(lines.as_bytes());
            let mixed = [lines.as_bytes(), &bytes].concat();
            let _ = framing_of(&mixed);
        }
    }
}
