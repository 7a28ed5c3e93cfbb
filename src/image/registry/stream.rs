//! A connection to a server, plain or TLS, whose waits all end.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection};

use super::failure::Failure;
use super::patience::{Patience, Readiness};
use crate::error::{Code, Error, Result};
use crate::image::error;
use crate::sys::socket::Socket;

/// A connection.
pub(super) struct Stream {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stream(tls: {})", self.tls.is_some())
    }
}

/// How a TLS handshake failed.
#[derive(Debug)]
pub(super) enum HandshakeFailure {
    /// What answers may not speak TLS: it said something else, or nothing. The failure is for a server that has to.
    NotTls(Failure),
    Other(Failure),
}

impl From<Failure> for HandshakeFailure {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl Stream {
    /// A plain connection.
    pub(super) fn plain(socket: Socket) -> Self {
        Self { socket, tls: None }
    }

    /// Makes the connection a TLS connection to the server of this name.
    pub(super) fn secure(
        self,
        config: &Arc<ClientConfig>,
        host: &str,
        patience: &Patience<'_>,
        until: Instant,
    ) -> Result<Self, HandshakeFailure> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Failure::Final(error(format!("{host:?} can't be in a certificate"))))?;
        let connection = ClientConnection::new(Arc::clone(config), name)
            .map_err(|cause| Failure::Final(error(format!("TLS: {cause}"))))?;
        let mut stream = Self { socket: self.socket, tls: Some(Box::new(connection)) };
        let mut answered = false;
        while let Some(connection) = stream.tls.as_mut().filter(|connection| connection.is_handshaking()) {
            if connection.wants_write() {
                stream.flush(patience, until)?;
                continue;
            }
            match stream.fill(patience, until) {
                Ok(0) if !answered => return Err(HandshakeFailure::NotTls(unanswered())),
                Ok(0) => return Err(unanswered().into()),
                Ok(_) => answered = true,
                Err(Fill::Tls(rustls::Error::InvalidMessage(_))) => {
                    return Err(HandshakeFailure::NotTls(Failure::Final(error("it doesn't speak TLS"))));
                }
                Err(Fill::Tls(cause)) => return Err(Failure::Final(not_trusted(&cause)).into()),
                // Reset at once, as by a server that takes the greeting for an attack. Silence is no such sign.
                Err(Fill::Failed(_)) if !answered && patience.check().is_ok() && Instant::now() < until => {
                    return Err(HandshakeFailure::NotTls(unanswered()));
                }
                Err(Fill::Failed(failure)) => return Err(failure.into()),
            }
        }
        stream.flush(patience, until)?;
        Ok(stream)
    }

    /// Whether it is open and nothing has come that no one asked for.
    pub(super) fn is_quiet(&self) -> bool {
        self.socket.waits_for_more()
    }

    /// Sends everything.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        patience: &Patience<'_>,
        until: Instant,
    ) -> Result<(), Failure> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = match self.tls.as_mut() {
                Some(tls) => tls.writer().write(rest).map_err(|cause| broken("send", &cause))?,
                None => match self.socket.send(rest) {
                    Ok(sent) => sent,
                    Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                        self.wait(Readiness::Writable, patience, until)?;
                        0
                    }
                    Err(cause) => return Err(broken("send", &cause)),
                },
            };
            rest = rest.get(sent..).unwrap_or_default();
            if self.tls.is_some() {
                self.flush(patience, until)?;
            }
        }
        Ok(())
    }

    /// Receives something; 0 is the end of the stream.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        patience: &Patience<'_>,
        until: Instant,
    ) -> Result<usize, Failure> {
        // Bytes that keep coming must not keep the loop from its bounds.
        patience.check()?;
        loop {
            let Some(tls) = self.tls.as_mut() else { return self.receive_plain(buffer, patience, until) };
            match tls.reader().read(buffer) {
                Ok(count) => return Ok(count),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                Err(cause) => return Err(broken("receive", &cause)),
            }
            self.flush(patience, until)?;
            match self.fill(patience, until) {
                Ok(_) => {}
                Err(Fill::Tls(cause)) => return Err(Failure::passing(error(format!("TLS: {cause}")))),
                Err(Fill::Failed(failure)) => return Err(failure),
            }
        }
    }

    fn receive_plain(
        &self,
        buffer: &mut [u8],
        patience: &Patience<'_>,
        until: Instant,
    ) -> Result<usize, Failure> {
        loop {
            match self.socket.receive(buffer) {
                Ok(count) => return Ok(count),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(Readiness::Readable, patience, until)?;
                }
                Err(cause) => return Err(broken("receive", &cause)),
            }
        }
    }

    /// Sends what TLS has to send.
    fn flush(&mut self, patience: &Patience<'_>, until: Instant) -> Result<(), Failure> {
        while let Some(tls) = self.tls.as_mut().filter(|tls| tls.wants_write()) {
            match tls.write_tls(&mut Wire(&self.socket)) {
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(Readiness::Writable, patience, until)?;
                }
                Err(cause) => return Err(broken("send", &cause)),
            }
        }
        Ok(())
    }

    /// Takes what came for TLS; 0 is the end of the stream.
    fn fill(&mut self, patience: &Patience<'_>, until: Instant) -> Result<usize, Fill> {
        loop {
            let Some(tls) = self.tls.as_mut() else { return Ok(0) };
            match tls.read_tls(&mut Wire(&self.socket)) {
                Ok(count) => {
                    if let Err(cause) = tls.process_new_packets() {
                        // The alert that says why; the connection ends here in any case.
                        let _ = self.flush(patience, until);
                        return Err(Fill::Tls(cause));
                    }
                    return Ok(count);
                }
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(Readiness::Readable, patience, until).map_err(Fill::Failed)?;
                }
                Err(cause) => return Err(Fill::Failed(broken("receive", &cause))),
            }
        }
    }

    fn wait(&self, what: Readiness, patience: &Patience<'_>, until: Instant) -> Result<(), Failure> {
        if patience.ready(self.socket.as_fd(), what, until)? {
            return Ok(());
        }
        let doing = if what == Readiness::Readable { "answer" } else { "take more" };
        Err(Failure::passing(Error::new(Code::TimedOut, format!("the server did not {doing} in time"))))
    }
}

/// Why nothing could be taken for TLS.
enum Fill {
    Tls(rustls::Error),
    Failed(Failure),
}

fn unanswered() -> Failure {
    Failure::passing(error("the server ended the connection in the TLS handshake"))
}

/// What is wrong with a handshake, and for the most frequent reason what to do.
fn not_trusted(cause: &rustls::Error) -> Error {
    match cause {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => error(
            "TLS: its certificate is of an authority that is not trusted here: if it is your own, set its certificate as \
             ca_pem, or SSL_CERT_FILE",
        ),
        cause => error(format!("TLS: {cause}")),
    }
}

fn broken(what: &str, cause: &io::Error) -> Failure {
    Failure::passing(error(format!("the connection broke ({what}: {cause})")))
}

/// The socket as rustls uses it, without SIGPIPE.
struct Wire<'a>(&'a Socket);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.receive(buffer)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
