//! The login at a registry: the settings', a credential helper's, or one of docker's configuration file.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use super::client::{Authorization, Secret};
use super::credential_helper;
use super::patience::Patience;
use crate::error::{Error, Result};
use crate::image::error;

/// What docker calls Docker Hub in its configuration and towards credential helpers.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

const MAX_FILE: u64 = 1024 * 1024;

/// The longest user name or password. Some registries' passwords are tokens of several thousand bytes.
pub(super) const MAX_SECRET: usize = 16 * 1024;

/// A login.
pub(super) enum Login {
    Password {
        username: String,
        password: Secret,
    },
    /// A token that a token service exchanges for others.
    IdentityToken(Secret),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Login {
    pub(super) fn password(username: &str, password: &str) -> Self {
        Self::Password { username: username.to_owned(), password: Zeroizing::new(password.to_owned()) }
    }

    /// The value of `Authorization` for the Basic scheme, if the login has a password.
    pub(super) fn basic(&self) -> Option<Authorization> {
        let Self::Password { username, password } = self else { return None };
        let pair = Zeroizing::new(format!("{username}:{}", password.as_str()));
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
        Some(Authorization(Zeroizing::new(format!("Basic {}", encoded.as_str()))))
    }
}

/// Where logins are looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    /// The credential helper.
    pub(super) helper: Option<PathBuf>,
    /// What it finds in its environment.
    pub(super) helper_environment: Vec<CString>,
    /// docker's configuration file.
    pub(super) docker_config: Option<PathBuf>,
}

/// What is known of the login at a registry.
#[derive(Debug)]
pub(super) enum Found {
    Login(Login),
    /// None, and perhaps where it could be.
    None {
        hint: Option<String>,
    },
}

impl Sources {
    /// Looks for the login at a registry, which has the name that references have.
    pub(super) fn find(&self, registry: &str, patience: &Patience<'_>) -> Result<Found> {
        if let Some(helper) = &self.helper {
            let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
            if let Some(output) = credential_helper::ask(helper, server, &self.helper_environment, patience)?
            {
                let login = of_helper(&output);
                let text = format!("credential helper {}: its answer is no login", helper.display());
                return login.map(Found::Login).ok_or_else(|| error(text));
            }
        }
        match &self.docker_config {
            Some(path) => of_docker_config(path, registry),
            None => Ok(Found::None { hint: None }),
        }
    }
}

fn of_helper(output: &[u8]) -> Option<Login> {
    let mut value: Value = serde_json::from_slice(output).ok()?;
    let username = value.get("Username")?.as_str()?.to_owned();
    let secret = taken(value.get_mut("Secret")?)?;
    // docker's mark for a secret that is an identity token.
    if username == "<token>" {
        return Some(Login::IdentityToken(secret));
    }
    Some(Login::Password { username, password: secret })
}

/// A string out of a JSON document, so that it is overwritten when it is dropped.
fn taken(value: &mut Value) -> Option<Secret> {
    match value.take() {
        Value::String(text) if (1..=MAX_SECRET).contains(&text.len()) => Some(Zeroizing::new(text)),
        Value::String(mut text) => {
            text.zeroize();
            None
        }
        _ => None,
    }
}

/// The login that `docker login` has left. A file that isn't there has none; one that is no JSON is an error.
fn of_docker_config(path: &Path, registry: &str) -> Result<Found> {
    let text = match read(path) {
        Ok(text) => text,
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Found::None { hint: None });
        }
        Err(cause) => return Err(Error::system(format!("read {}", path.display()), &cause)),
    };
    // The error of serde_json has a line and a column, and nothing of the text.
    let mut config: Value =
        serde_json::from_slice(&text).map_err(|cause| error(format!("{}: {cause}", path.display())))?;
    let entry = config.get_mut("auths").and_then(Value::as_object_mut).and_then(|entries| {
        let key = entries.keys().find(|key| is_of(key, registry))?.clone();
        entries.get_mut(&key).and_then(of_entry)
    });
    if let Some(login) = entry {
        return Ok(Found::Login(login));
    }
    let helpers = config.get("credHelpers").and_then(Value::as_object);
    let own = helpers.and_then(|helpers| helpers.iter().find(|(key, _)| is_of(key, registry)));
    let helper = own.map(|(_, helper)| helper).or_else(|| config.get("credsStore")).and_then(Value::as_str);
    let hint = helper.filter(|name| !name.is_empty()).map(|name| {
        let name: String = name.chars().take(50).collect();
        let path = path.display();
        format!("{path} leaves logins to docker-credential-{name}: name it by its path as credential helper")
    });
    Ok(Found::None { hint })
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Opening a FIFO would wait for a writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(text)
}

/// Whether a key of docker's configuration means this registry: it may be a URL.
fn is_of(key: &str, registry: &str) -> bool {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default().to_ascii_lowercase();
    match registry {
        "docker.io" => matches!(host.as_str(), "docker.io" | "index.docker.io" | "registry-1.docker.io"),
        _ => host == registry,
    }
}

fn of_entry(entry: &mut Value) -> Option<Login> {
    if let Some(token) = entry.get_mut("identitytoken").and_then(taken) {
        return Some(Login::IdentityToken(token));
    }
    if let Some(encoded) = entry.get_mut("auth").and_then(taken) {
        let pair = Zeroizing::new(BASE64_STANDARD.decode(encoded.trim()).ok()?);
        let pair = std::str::from_utf8(&pair).ok()?;
        // docker pads the password with NUL bytes.
        let (username, password) = pair.trim_end_matches('\0').split_once(':')?;
        return Some(Login::password(username, password));
    }
    let username = entry.get("username").and_then(Value::as_str)?.to_owned();
    let password = entry.get_mut("password").and_then(taken)?;
    Some(Login::Password { username, password })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::registry::tests::script;
    use crate::image::testing::Directory;
    use std::sync::atomic::AtomicBool;
    use std::time::{Duration, Instant};

    fn find(sources: &Sources, registry: &str) -> Result<Found> {
        let cancelled = AtomicBool::new(false);
        sources.find(registry, &Patience::new(&cancelled, Instant::now() + Duration::from_secs(60)))
    }

    fn shown(found: &Found) -> String {
        match found {
            Found::Login(Login::Password { username, password }) => {
                format!("{username} {}", password.as_str())
            }
            Found::Login(Login::IdentityToken(token)) => format!("token {}", token.as_str()),
            Found::None { hint } => format!("none {hint:?}"),
        }
    }

    fn in_config(json: &str, registry: &str) -> Result<String> {
        let directory = Directory::new();
        let path = directory.path().join("config.json");
        std::fs::write(&path, json).unwrap();
        find(&Sources { docker_config: Some(path), ..Sources::default() }, registry)
            .map(|found| shown(&found))
    }

    #[test]
    fn logins_of_dockers_configuration() {
        let json = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
            "registry.example:5000": {"username": "a", "password": "b"},
            "https://azure.example": {"auth": "MDAwOg==", "identitytoken": "refresh"},
            "broken.example": {"auth": "%%%"},
            "empty.example": {}
        }, "credsStore": "desktop", "credHelpers": {"ecr.example": "ecr-login"}}"#;
        assert_eq!(in_config(json, "docker.io").unwrap(), "user pa:ss");
        assert_eq!(in_config(json, "registry.example:5000").unwrap(), "a b");
        assert_eq!(in_config(json, "azure.example").unwrap(), "token refresh");
        for registry in ["broken.example", "empty.example", "registry.example", "evil-registry.example:5000"]
        {
            let found = in_config(json, registry).unwrap();
            assert!(found.contains("docker-credential-desktop"), "{found}");
        }
        assert!(in_config(json, "ecr.example").unwrap().contains("docker-credential-ecr-login"));
        assert_eq!(in_config("{}", "a.example").unwrap(), "none None");
        for json in ["[]", "{\"auths\": 1}", "{\"auths\": {\"a.example\": []}}", "null"] {
            assert_eq!(in_config(json, "a.example").unwrap(), "none None", "{json}");
        }
    }

    #[test]
    fn a_configuration_that_is_no_json_is_an_error_without_its_text() {
        let error = in_config("{\"auths\": {\"a\": {\"auth\": \"c2VjcmV0\"", "a").unwrap_err();
        assert!(!error.message().contains("c2Vj"), "{error}");
        let missing = Sources { docker_config: Some("/nowhere/config.json".into()), ..Sources::default() };
        assert_eq!(shown(&find(&missing, "a").unwrap()), "none None");
        let directory = Sources { docker_config: Some("/".into()), ..Sources::default() };
        assert!(find(&directory, "a").unwrap_err().message().contains("no regular file"));
        let scratch = Directory::new();
        let fifo = scratch.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = Sources { docker_config: Some(fifo), ..Sources::default() };
        assert!(find(&fifo, "a").unwrap_err().message().contains("no regular file"));
    }

    #[test]
    fn a_helper_goes_first_and_a_wrong_answer_is_not_shown() {
        let directory = Directory::new();
        let helper = |text: &str| Sources { helper: Some(script(&directory, text)), ..Sources::default() };
        let answer = r#"echo '{"ServerURL":"x","Username":"u","Secret":"s"}'"#;
        assert_eq!(shown(&find(&helper(answer), "a.example").unwrap()), "u s");
        let answer = r#"read s; echo "{\"Username\":\"<token>\",\"Secret\":\"$s\"}""#;
        assert_eq!(shown(&find(&helper(answer), "docker.io").unwrap()), format!("token {DOCKER_HUB}"));
        for script in
            ["echo secret", "echo '{\"Username\":\"u\"}'", "echo '{\"Username\":1,\"Secret\":\"secret\"}'"]
        {
            let error = find(&helper(script), "a.example").unwrap_err();
            assert!(error.message().ends_with("its answer is no login"), "{error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }

    #[test]
    fn basic_is_as_in_rfc_7617() {
        let login = Login::password("Aladdin", "open sesame");
        assert_eq!(login.basic().unwrap().0.as_str(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(!format!("{login:?}").contains("Aladdin"));
    }
}
