//! What registries are reached with: the environment of the process, and the caller's settings.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::credentials::{MAX_SECRET, Sources};
use super::roots;
use super::url::{Origin, Scheme};
use crate::error::{Error, Result};
use crate::image::reference::{check_repository, normal_registry, shown};
use crate::sys::secure;

/// How long a pull may take. What stands still ends much earlier.
const TIMEOUT: Duration = Duration::from_secs(12 * 3600);

const MAX_PEM: usize = 4 * 1024 * 1024;
const MAX_MIRRORS: usize = 64;

/// The variables that credential helpers get.
const FOR_HELPERS: [&str; 4] = ["HOME", "USER", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

/// How registries are reached.
#[derive(Clone)]
pub(crate) struct RegistrySettings {
    pub(super) environment: Environment,
    pub(super) ca_pem: Option<String>,
    pub(super) login: Option<(String, Zeroizing<String>)>,
    pub(super) helper: Option<PathBuf>,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) timeout: Duration,
}

/// The part of the process's environment that matters.
#[derive(Clone, Default)]
pub(super) struct Environment {
    pub(super) https_proxy: Option<Zeroizing<String>>,
    pub(super) no_proxy: Option<String>,
    pub(super) cert_file: Option<PathBuf>,
    pub(super) cert_directories: Option<String>,
    docker_config: Option<PathBuf>,
    for_helpers: Vec<CString>,
}

/// Where images whose full name begins in a certain way are looked for first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mirror {
    /// A registry, or one and the first parts of names.
    pub(super) prefix: String,
    pub(super) host: String,
    /// What stands in the place of the prefix's parts of names.
    pub(super) path: String,
}

impl RegistrySettings {
    /// The settings that the environment makes. Reads the environment, and no file.
    pub(crate) fn from_environment() -> Self {
        Self {
            environment: Environment::read(secure::variable),
            ca_pem: None,
            login: None,
            helper: None,
            mirrors: Vec::new(),
            timeout: TIMEOUT,
        }
    }

    /// Settings without any environment.
    #[cfg(test)]
    pub(super) fn bare() -> Self {
        Self { environment: Environment::default(), ..Self::from_environment() }
    }

    /// Trusts the certificates of a PEM text beside the system's. Registries on this machine must then speak TLS.
    pub(crate) fn set_ca_pem(&mut self, pem: &str) -> Result<()> {
        if pem.len() > MAX_PEM || !roots::is_usable(pem) {
            return Err(Error::invalid(format!(
                "ca_pem: must have at least one certificate that can be used, and {MAX_PEM} bytes at most"
            )));
        }
        self.ca_pem = Some(pem.to_owned());
        Ok(())
    }

    /// Logs in with this user and password, or token, at the registry that a reference names. Mirrors don't get it.
    pub(crate) fn set_login(&mut self, username: &str, password: &str) -> Result<()> {
        let legal = |text: &str| text.len() <= MAX_SECRET && !text.chars().any(char::is_control);
        if username.is_empty() || username.contains(':') || !legal(username) {
            return Err(Error::invalid(format!(
                "username {}: must not be empty or have a colon or control characters",
                shown(username)
            )));
        }
        if !legal(password) {
            return Err(Error::invalid(format!(
                "password: must have {MAX_SECRET} bytes at most and no control characters"
            )));
        }
        self.login = Some((username.to_owned(), Zeroizing::new(password.to_owned())));
        Ok(())
    }

    /// Asks this program for logins, by docker's protocol for credential helpers. Of the environment it gets HOME, USER,
    /// XDG_RUNTIME_DIR and DBUS_SESSION_BUS_ADDRESS, and a PATH of the system's programs.
    pub(crate) fn set_credential_helper(&mut self, program: &Path) -> Result<()> {
        if !program.is_absolute() || program.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(Error::invalid(format!(
                "credential helper {}: must be an absolute path",
                shown(&program.to_string_lossy())
            )));
        }
        self.helper = Some(program.to_owned());
        Ok(())
    }

    /// Has images whose full name begins with `prefix` (`docker.io`, `registry.example/team`) looked for at `mirror` (a host
    /// with an optional port, and the path in the place of the prefix's) before their own registry. Of several prefixes the
    /// longest counts; its mirrors are asked in the order of these calls.
    pub(crate) fn add_mirror(&mut self, prefix: &str, mirror: &str) -> Result<()> {
        if self.mirrors.len() >= MAX_MIRRORS {
            return Err(Error::invalid(format!("mirror: at most {MAX_MIRRORS} can be set")));
        }
        let named = |error: Error| error.context(format!("mirror {} for {}", shown(mirror), shown(prefix)));
        let (registry, path) = prefix.split_once('/').unwrap_or((prefix, ""));
        let prefix = joined(&normal_registry(registry).map_err(named)?, path).map_err(named)?;
        let (host, path) = mirror.split_once('/').unwrap_or((mirror, ""));
        Origin::new(Scheme::Https, host).map_err(|error| named(Error::invalid(error.message())))?;
        joined("", path).map_err(named)?;
        self.mirrors.push(Mirror { prefix, host: host.to_ascii_lowercase(), path: path.to_owned() });
        Ok(())
    }

    /// Bounds the time of a whole pull, which is cancelled otherwise.
    #[cfg(test)]
    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub(super) fn sources(&self) -> Sources {
        Sources {
            helper: self.helper.clone(),
            helper_environment: self.environment.for_helpers.clone(),
            docker_config: self.environment.docker_config.clone(),
        }
    }
}

/// No secret is in it: neither the login nor a proxy's.
impl std::fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistrySettings")
            .field("helper", &self.helper)
            .field("mirrors", &self.mirrors)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn joined(registry: &str, path: &str) -> Result<String> {
    if path.is_empty() {
        return Ok(registry.to_owned());
    }
    check_repository(path)?;
    Ok(format!("{registry}/{path}"))
}

impl Environment {
    fn read(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let either = |upper: &str| text(upper).or_else(|| text(&upper.to_ascii_lowercase()));
        let path = |name: &str| variable(name).map(PathBuf::from);
        let docker_config = path("DOCKER_CONFIG").or_else(|| Some(path("HOME")?.join(".docker")));
        let for_helper = |name: &&str| {
            let mut pair = OsString::from(format!("{name}="));
            pair.push(variable(name)?);
            CString::new(pair.into_vec()).ok()
        };
        let mut for_helpers = vec![
            CString::from(c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            CString::from(c"LC_ALL=C"),
        ];
        for_helpers.extend(FOR_HELPERS.iter().filter_map(for_helper));
        Self {
            https_proxy: either("HTTPS_PROXY").or_else(|| either("ALL_PROXY")).map(Zeroizing::new),
            no_proxy: either("NO_PROXY"),
            cert_file: path("SSL_CERT_FILE"),
            cert_directories: text("SSL_CERT_DIR"),
            docker_config: docker_config.map(|directory| directory.join("config.json")),
            for_helpers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::read(|name| {
            pairs.iter().find(|(own, _)| *own == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_environment_is_read_once_in_both_cases() {
        let found = environment(&[
            ("https_proxy", "http://p"),
            ("NO_PROXY", "a"),
            ("SSL_CERT_FILE", "/c"),
            ("HOME", "/home/u"),
            ("SECRET", "s"),
        ]);
        assert_eq!(found.https_proxy.unwrap().as_str(), "http://p");
        assert_eq!(found.no_proxy.unwrap(), "a");
        assert_eq!(found.cert_file.unwrap(), Path::new("/c"));
        assert_eq!(found.docker_config.unwrap(), Path::new("/home/u/.docker/config.json"));
        assert!(found.for_helpers.contains(&c"HOME=/home/u".into()));
        assert_eq!(found.for_helpers.len(), 3);
        let found = environment(&[("DOCKER_CONFIG", "/d"), ("HOME", "/h"), ("ALL_PROXY", "http://all")]);
        assert_eq!(found.docker_config.unwrap(), Path::new("/d/config.json"));
        assert_eq!(found.https_proxy.unwrap().as_str(), "http://all");
        assert!(environment(&[]).docker_config.is_none());
    }

    #[test]
    fn bad_settings_are_refused_with_the_rule() {
        let mut settings = RegistrySettings::from_environment();
        for error in [
            settings.set_ca_pem("rubbish").unwrap_err(),
            settings.set_login("", "p").unwrap_err(),
            settings.set_login("a:b", "p").unwrap_err(),
            settings.set_login("a", "secret\r\nX: y").unwrap_err(),
            settings.set_credential_helper(Path::new("docker-credential-x")).unwrap_err(),
            settings.add_mirror("docker.io", "https://mirror.example").unwrap_err(),
            settings.add_mirror("docker.io", "").unwrap_err(),
            settings.add_mirror("docker.io/UPPER", "mirror.example").unwrap_err(),
            settings.add_mirror("docker.io", "mirror.example/../x").unwrap_err(),
        ] {
            assert_eq!(error.code(), crate::error::Code::Invalid, "{error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
        settings.set_login("user", "secret").unwrap();
        assert!(!format!("{settings:?}").contains("secret"));
        settings.add_mirror("index.docker.io/library", "Mirror.example:5000/hub").unwrap();
        let expected = Mirror {
            prefix: "docker.io/library".to_owned(),
            host: "mirror.example:5000".to_owned(),
            path: "hub".to_owned(),
        };
        assert_eq!(settings.mirrors, [expected]);
    }
}
