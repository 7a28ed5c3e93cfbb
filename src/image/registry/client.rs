//! Requests, and what follows a redirect.

use std::time::Duration;

use zeroize::Zeroizing;

use super::dial::{Connection, DialFailure, Dialer};
use super::failure::Failure;
use super::patience::Patience;
use super::pool::Home;
use super::reach::{NamedBy, Reach};
use super::response::Response;
use super::url::{Scheme, Url};
use crate::error::Result;
use crate::image::error;

const MAX_REDIRECTS: usize = 10;
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// The value of an `Authorization` header. It is never shown.
pub(super) type Secret = Zeroizing<String>;

/// A request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Request<'a> {
    /// The media types that are wanted.
    pub(super) accept: Option<&'a str>,
    /// Credentials, for the first server only.
    pub(super) authorization: Option<&'a Authorization>,
    /// The first byte that is wanted, if not all are.
    pub(super) from: u64,
    /// The fields of a form, which make it a POST. It is never redirected.
    pub(super) form: Option<&'a Authorization>,
}

/// A text that never appears in a log or an error.
pub(super) struct Authorization(pub(super) Secret);

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorization(…)")
    }
}

/// A response, and how it was come by.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// The least trusted server on the way.
    pub(super) reach: Reach,
    /// Whether it is of another server than the one that was asked.
    pub(super) redirected: bool,
}

/// How an exchange failed.
#[derive(Debug)]
pub(super) enum ExchangeFailure {
    /// The first server may not speak TLS. The failure is for one that has to.
    NotTls(Failure),
    Other(Failure),
}

impl<E: Into<Failure>> From<E> for ExchangeFailure {
    fn from(failure: E) -> Self {
        Self::Other(failure.into())
    }
}

impl ExchangeFailure {
    /// The failure, for a server that has to speak TLS.
    pub(super) fn with_tls(self) -> Failure {
        match self {
            Self::NotTls(failure) | Self::Other(failure) => failure,
        }
    }
}

/// Sends a request and follows redirects. `named_by` says who named the first server; a server further on is named by the
/// one before it, gets no credentials, and must speak TLS, unless the first one is on this machine and doesn't.
pub(super) fn exchange(
    dialer: &Dialer,
    url: &Url,
    named_by: NamedBy,
    request: &Request<'_>,
    patience: &Patience<'_>,
) -> Result<Answer, ExchangeFailure> {
    let first = url.origin();
    let (mut url, mut least, mut left) = (url.clone(), None::<Reach>, false);
    for _ in 0..=MAX_REDIRECTS {
        let same = url.origin() == first;
        left |= !same;
        let named_by = match least {
            Some(reach) if !same => NamedBy::Server(reach),
            _ => named_by,
        };
        if !same {
            check_scheme(&url, first.scheme == Scheme::Http && first.is_loopback())?;
        }
        let sent = Request { authorization: request.authorization.filter(|_| !left), ..*request };
        let in_server = |failure: Failure| failure.context(&url.origin().to_string());
        let response = match ask(dialer, &url, named_by, &sent, patience) {
            Ok(response) => response,
            Err(DialFailure::NotTls(failure)) if same => {
                return Err(ExchangeFailure::NotTls(in_server(failure)));
            }
            Err(DialFailure::NotTls(failure) | DialFailure::Other(failure)) => {
                return Err(in_server(failure).into());
            }
        };
        let reach = least.map_or(response.reach(), |least| least.min(response.reach()));
        least = Some(reach);
        let location = match response.status {
            301 | 302 | 303 | 307 | 308 if request.form.is_none() => response.headers.get("location"),
            _ => None,
        };
        match location {
            None => return Ok(Answer { response, reach, redirected: !same }),
            Some(location) => {
                url = url
                    .join(location)
                    .map_err(|error| error.context(format!("{} redirects", url.origin())))?;
                response.discard(patience);
            }
        }
    }
    Err(error(format!("{first} redirects more than {MAX_REDIRECTS} times")).into())
}

/// Sends a request to one server and receives the head of its answer.
fn ask(
    dialer: &Dialer,
    url: &Url,
    named_by: NamedBy,
    request: &Request<'_>,
    patience: &Patience<'_>,
) -> Result<Response, DialFailure> {
    let home = Home { server: url.origin().clone(), named_by };
    let bytes = head(url, request);
    let over = |mut connection: Connection| {
        connection.stream.send(&bytes, patience, patience.at_most(SEND_TIMEOUT))?;
        Response::receive(connection, (dialer.pool.clone(), home.clone()), patience)
    };
    // A server may end a connection that waits at any moment. What can be sent twice is sent again on another one.
    let waiting = dialer.pool.take(&home).filter(|_| request.form.is_none());
    match waiting.map(over) {
        Some(Err(Failure::Passing { .. })) | None => {}
        Some(done) => return Ok(done?),
    }
    Ok(over(dialer.dial(url.origin(), named_by, patience)?)?)
}

/// What a server names is reached by https, or by http on this machine if the server itself is.
pub(super) fn check_scheme(url: &Url, plain_on_loopback: bool) -> Result<()> {
    let plain = plain_on_loopback && url.origin().is_loopback();
    if url.origin().scheme == Scheme::Https || plain {
        return Ok(());
    }
    Err(error(format!("the registry leads to {}: only https is followed", url.origin())))
}

fn head(url: &Url, request: &Request<'_>) -> Zeroizing<Vec<u8>> {
    let method = if request.form.is_some() { "POST" } else { "GET" };
    // As much as is needed, so that no part of a secret is left behind in memory that is given back.
    let secret =
        [request.authorization, request.form].iter().flatten().map(|text| text.0.len()).sum::<usize>();
    let mut head =
        Zeroizing::new(Vec::with_capacity(secret.saturating_add(url.target().len()).saturating_add(2048)));
    let mut add = |parts: &[&str]| parts.iter().for_each(|part| head.extend_from_slice(part.as_bytes()));
    add(&[method, " ", url.target(), " HTTP/1.1\r\nHost: ", &url.origin().authority(), "\r\n"]);
    add(&["User-Agent: libsbx/", env!("CARGO_PKG_VERSION"), "\r\nAccept-Encoding: identity\r\n"]);
    if let Some(accept) = request.accept {
        add(&["Accept: ", accept, "\r\n"]);
    }
    if request.from > 0 {
        add(&["Range: bytes=", &request.from.to_string(), "-\r\n"]);
    }
    if let Some(authorization) = request.authorization {
        add(&["Authorization: ", &authorization.0, "\r\n"]);
    }
    if let Some(form) = request.form {
        let length = form.0.len().to_string();
        add(&["Content-Type: application/x-www-form-urlencoded\r\nContent-Length: ", &length, "\r\n\r\n"]);
        add(&[&form.0]);
    } else {
        add(&["\r\n"]);
    }
    head
}
