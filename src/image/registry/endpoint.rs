//! One repository at one server: how it is reached, and how one logs in there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use zeroize::Zeroizing;

use super::challenge::{self, Challenge};
use super::client::{self, Answer, Authorization, ExchangeFailure, Request};
use super::credentials::{Found, Login};
use super::dial::Dialer;
use super::failure::Failure;
use super::patience::Patience;
use super::reach::{NamedBy, Reach};
use super::refusal;
use super::response::Response;
use super::url::{Origin, Scheme, Url, encode};
use crate::error::Result;
use crate::image::error;
use crate::image::reference::Reference;

/// The longest answer of a token service, and the longest token.
const MAX_TOKEN_ANSWER: usize = 64 * 1024;
const MAX_TOKEN: usize = 16 * 1024;

/// A repository at a server.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The name by which logins are known.
    registry: String,
    https: Origin,
    http: Origin,
    repository: String,
    mirror: bool,
    /// Whether plain http may be tried where TLS isn't spoken: on this machine, and if no certificate was given for it.
    plain_allowed: bool,
    /// Whether TLS isn't spoken there.
    plain: AtomicBool,
    given_up: AtomicBool,
    /// What the last challenge was answered with.
    authorization: Mutex<Option<Arc<Authorization>>>,
}

impl Endpoint {
    /// A reference's own registry.
    pub(super) fn new(reference: &Reference, plain_allowed: bool) -> Result<Self> {
        Self::at(reference.registry(), reference.host(), reference.repository(), plain_allowed, false)
    }

    /// A repository at a mirror.
    pub(super) fn mirror(host: &str, repository: &str, plain_allowed: bool) -> Result<Self> {
        Self::at(host, host, repository, plain_allowed, true)
    }

    fn at(registry: &str, host: &str, repository: &str, plain_allowed: bool, mirror: bool) -> Result<Self> {
        let https = Origin::new(Scheme::Https, host)?;
        let http = Origin::new(Scheme::Http, host)?;
        Ok(Self {
            registry: registry.to_owned(),
            plain_allowed: plain_allowed && https.is_loopback(),
            https,
            http,
            repository: repository.to_owned(),
            mirror,
            plain: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            authorization: Mutex::default(),
        })
    }

    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    pub(super) fn is_mirror(&self) -> bool {
        self.mirror
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.https, &self.repository, self.mirror) == (&other.https, &other.repository, other.mirror)
    }

    pub(super) fn is_usable(&self) -> bool {
        !self.given_up.load(Ordering::Relaxed)
    }

    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Gets something of the repository, and logs in if that is needed. `login` looks for the login.
    pub(super) fn get(
        &self,
        dialer: &Dialer,
        login: impl FnOnce() -> Result<Found>,
        target: &str,
        accept: Option<&str>,
        from: u64,
        patience: &Patience<'_>,
    ) -> Result<Response, Failure> {
        let known = self.authorization();
        let answer = self.send(dialer, target, accept, from, known.as_deref(), patience)?;
        let answer = if answer.response.status == 401 && !answer.redirected {
            let authorization = self.log_in(dialer, &answer, login, patience)?;
            let authorization = Arc::new(authorization);
            let mut last = self.authorization.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(Arc::clone(&authorization));
            drop(last);
            answer.response.discard(patience);
            self.send(dialer, target, accept, from, Some(&authorization), patience)?
        } else {
            answer
        };
        match answer.response.status {
            200 | 206 => Ok(answer.response),
            _ => {
                let asked = format!("{} {target}", self.https.authority());
                Err(refusal::failure(answer.response, &asked, patience))
            }
        }
    }

    fn authorization(&self) -> Option<Arc<Authorization>> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn send(
        &self,
        dialer: &Dialer,
        target: &str,
        accept: Option<&str>,
        from: u64,
        authorization: Option<&Authorization>,
        patience: &Patience<'_>,
    ) -> Result<Answer, Failure> {
        let request = Request { accept, authorization, from, form: None };
        if !self.plain.load(Ordering::Relaxed) {
            let url = Url::new(self.https.clone(), target.to_owned());
            match client::exchange(dialer, &url, NamedBy::User, &request, patience) {
                Err(ExchangeFailure::NotTls(_)) if self.plain_allowed => {}
                done => return done.map_err(|failure| self.explain(failure)),
            }
        }
        let url = Url::new(self.http.clone(), target.to_owned());
        let answer = client::exchange(dialer, &url, NamedBy::User, &request, patience);
        let answer = answer.map_err(ExchangeFailure::with_tls)?;
        self.plain.store(true, Ordering::Relaxed);
        Ok(answer)
    }

    /// Says to the failure of a server that doesn't speak TLS why it must.
    fn explain(&self, failure: ExchangeFailure) -> Failure {
        let why = if self.https.is_loopback() {
            ": it must, since a CA certificate is set"
        } else {
            ": plain http is for registries on this machine only"
        };
        match failure {
            ExchangeFailure::NotTls(Failure::Final(error)) => Failure::Final(error.append(why)),
            other => other.with_tls(),
        }
    }

    /// Answers a challenge: by a token if there is a service for that, else by the password.
    fn log_in(
        &self,
        dialer: &Dialer,
        answer: &Answer,
        login: impl FnOnce() -> Result<Found>,
        patience: &Patience<'_>,
    ) -> Result<Authorization, Failure> {
        let challenges: Vec<Challenge> =
            answer.response.headers.all("www-authenticate").take(8).flat_map(challenge::parse).collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let (login, hint) = match login()? {
            Found::Login(login) => (Some(login), None),
            Found::None { hint } => (None, hint),
        };
        let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        if let Some(bearer) = of("bearer") {
            let token = self.token(dialer, bearer, login.as_ref(), answer.reach, patience);
            return token.map_err(|failure| match failure {
                Failure::Final(error) => Failure::Final(error.append(&hint)),
                passing @ Failure::Passing { .. } => passing,
            });
        }
        let registry = &self.registry;
        match (of("basic"), login) {
            (None, _) => {
                let text = "wants a login, but by none of the ways that are supported (Bearer, Basic)";
                Err(error(format!("{registry} {text}")).into())
            }
            (Some(_), None) => Err(error(format!("{registry} wants a login{hint}")).into()),
            (Some(_), Some(login)) => login.basic().ok_or_else(|| {
                let text = "wants a password, but the login is an identity token";
                Failure::Final(error(format!("{registry} {text}")))
            }),
        }
    }

    /// Gets a token that allows pulling from the repository, and nothing else.
    fn token(
        &self,
        dialer: &Dialer,
        challenge: &Challenge,
        login: Option<&Login>,
        registry: Reach,
        patience: &Patience<'_>,
    ) -> Result<Authorization, Failure> {
        let realm = challenge.parameter("realm").unwrap_or_default();
        let context = format!("the token service of {}", self.registry);
        let realm = Url::parse(realm).map_err(|error| error.context(&context))?;
        let plain = self.plain.load(Ordering::Relaxed);
        let own = if plain { &self.http } else { &self.https };
        client::check_scheme(&realm, self.plain_allowed && plain)?;
        let named_by = if realm.origin() == own { NamedBy::User } else { NamedBy::Server(registry) };
        let scope = format!("repository:{}:pull", self.repository);
        let mut fields = vec![("scope", scope.as_str())];
        if let Some(service) = challenge.parameter("service") {
            fields.insert(0, ("service", service));
        }
        let answer = match login {
            Some(Login::IdentityToken(token)) => {
                let form = form(&fields, token);
                let request = Request { form: Some(&form), ..Request::default() };
                client::exchange(dialer, &realm, named_by, &request, patience)
            }
            other => {
                let basic = other.and_then(Login::basic);
                let request = Request { authorization: basic.as_ref(), ..Request::default() };
                client::exchange(dialer, &realm.with_query(&fields), named_by, &request, patience)
            }
        };
        let answer = answer.map_err(|failure| failure.with_tls().context(&context))?;
        if answer.response.status != 200 {
            return Err(refusal::failure(answer.response, &context, patience));
        }
        let body = answer.response.body(MAX_TOKEN_ANSWER, "the token", patience)?;
        token_of(&body).ok_or_else(|| Failure::Final(error(format!("{context}: its answer has no token"))))
    }
}

/// The form by which an identity token is exchanged (docker's OAuth2 endpoint).
fn form(fields: &[(&str, &str)], token: &str) -> Authorization {
    let token = Zeroizing::new(encode(token));
    let mut form = Zeroizing::new(String::with_capacity(token.len().saturating_add(4096)));
    form.push_str("grant_type=refresh_token&client_id=libsbx");
    for (name, value) in fields {
        form.push('&');
        form.push_str(name);
        form.push('=');
        form.push_str(&encode(value));
    }
    form.push_str("&refresh_token=");
    form.push_str(&token);
    Authorization(form)
}

fn token_of(body: &[u8]) -> Option<Authorization> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let mut take = |field: &str| match value.get_mut(field).map(Value::take) {
        Some(Value::String(text)) if !text.is_empty() => Some(Zeroizing::new(text)),
        _ => None,
    };
    let token = take("token").or_else(|| take("access_token"))?;
    // It becomes a header.
    let is_legal = token.len() <= MAX_TOKEN && token.bytes().all(|byte| byte.is_ascii_graphic());
    is_legal.then(|| Authorization(Zeroizing::new(format!("Bearer {}", token.as_str()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_could_be_more_than_a_header_is_none() {
        let token = |json: &str| token_of(json.as_bytes()).map(|token| token.0.to_string());
        assert_eq!(token(r#"{"token":"abc"}"#).as_deref(), Some("Bearer abc"));
        assert_eq!(token(r#"{"access_token":"abc","token":""}"#).as_deref(), Some("Bearer abc"));
        let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(MAX_TOKEN + 1));
        for bad in ["", "[]", "{}", r#"{"token":1}"#, r#"{"token":"a\r\nX: y"}"#, r#"{"token":"a b"}"#, &long]
        {
            assert_eq!(token(bad), None);
        }
    }

    #[test]
    fn a_form_is_encoded() {
        let form = form(&[("service", "a&b"), ("scope", "repository:x:pull")], "t+/=");
        let expected = "grant_type=refresh_token&client_id=libsbx&service=a%26b&scope=repository%3Ax%3Apull\
                        &refresh_token=t%2B%2F%3D";
        assert_eq!(form.0.as_str(), expected);
    }
}
