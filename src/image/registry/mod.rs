//! Fetches images from registries, by the OCI distribution protocol and docker's.
//!
//! Everything here runs on the caller's thread and ends: when it is cancelled, when the time of the whole pull is up, and
//! when a server stays silent. A server is believed nothing: every part of an answer has a bound, a manifest asked for by
//! digest and every blob are checked against theirs, and where a server leads to is checked before it is followed (`reach`).
//! Passwords and tokens are in no error, no log and no `Debug`.

mod blob;
mod buffered;
mod challenge;
mod client;
mod credential_helper;
mod credentials;
mod dial;
mod endpoint;
mod failure;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzed;
pub(crate) mod manifest;
mod patience;
mod pool;
mod proxy;
mod reach;
mod refusal;
mod resolve;
mod response;
mod roots;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod url;

use std::fs::File;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

pub(crate) use manifest::{Descriptor, Manifest, Platform};
pub(crate) use settings::RegistrySettings;

use credentials::{Login, Sources};
use dial::Dialer;
use endpoint::Endpoint;
use failure::{Failure, retried};
use manifest::Document;
use patience::Patience;
use proxy::Proxies;
use response::Response;
use roots::Roots;
use sha2::{Digest as _, Sha256};

use super::reference::Reference;
use super::{Digest, Watch, json};
use crate::error::{Code, Result};
use crate::image::error;

/// How many indexes may lead to one another before a manifest.
const MAX_INDEXES: usize = 3;

/// One pull from registries: its connections, its tokens and its time, which begins with it.
#[derive(Debug)]
pub(crate) struct Registry {
    dialer: Dialer,
    settings: RegistrySettings,
    sources: Sources,
    deadline: Instant,
    /// The servers asked so far.
    endpoints: std::sync::Mutex<Vec<std::sync::Arc<Endpoint>>>,
}

impl Registry {
    /// Reads the trusted certificates; connects to nothing yet.
    pub(crate) fn new(settings: &RegistrySettings) -> Result<Self> {
        let environment = &settings.environment;
        let roots = Roots {
            file: environment.cert_file.as_deref(),
            directories: environment.cert_directories.as_deref(),
            own: settings.ca_pem.as_deref(),
        };
        let https_proxy = environment.https_proxy.as_ref().map(|text| text.as_str());
        let proxies = Proxies::new(https_proxy, environment.no_proxy.as_deref());
        let now = Instant::now();
        Ok(Self {
            dialer: Dialer::new(roots.client_config()?, proxies),
            settings: settings.clone(),
            sources: settings.sources(),
            deadline: now.checked_add(settings.timeout).unwrap_or(now),
            endpoints: std::sync::Mutex::default(),
        })
    }

    /// Finds out what a name means on a platform: asks for the manifest, and for the configuration that it names.
    pub(crate) fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        watch: &mut Watch<'_>,
    ) -> Result<Manifest> {
        self.at_any(reference, watch.cancelled, |endpoint, patience| {
            self.resolve_at(endpoint, reference, platform, patience)
        })
    }

    /// Writes a blob to the beginning of a file, checks its size and digest, and reports how much of it is there. A broken
    /// connection is made again and gone on with.
    pub(crate) fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        into: &File,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let progress = &mut *watch.progress;
        self.at_any(reference, watch.cancelled, |endpoint, patience| {
            blob::download(descriptor, into, patience, progress, |from| {
                self.get_blob(endpoint, descriptor, from, patience)
            })
        })
    }

    fn resolve_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        platform: &Platform,
        patience: &Patience<'_>,
    ) -> Result<Manifest> {
        let mut version = reference.version();
        let mut expected = reference.digest();
        for _ in 0..=MAX_INDEXES {
            let (bytes, served) = retried(patience, || self.get_manifest(endpoint, &version, patience))?;
            let digest = digest_of(&bytes);
            if expected.is_some_and(|expected| expected != digest) {
                return Err(error(format!("manifest {version}: what came has the digest {digest}")));
            }
            match manifest::parse(&bytes, served.as_deref(), platform)? {
                Document::Index(next) => (version, expected) = (next.digest.to_string(), Some(next.digest)),
                Document::Image { config, layers } => {
                    let config_bytes = self.get_config(endpoint, &config, patience)?;
                    manifest::check_platform(&config_bytes, platform)?;
                    return Ok(Manifest { digest, config, config_bytes, layers });
                }
            }
        }
        Err(error(format!("the manifest is behind more than {MAX_INDEXES} indexes")))
    }

    /// A manifest and the media type by which the server calls it.
    fn get_manifest(
        &self,
        endpoint: &Endpoint,
        version: &str,
        patience: &Patience<'_>,
    ) -> Result<(Vec<u8>, Option<String>), Failure> {
        let target = format!("/v2/{}/manifests/{version}", endpoint.repository());
        let response = self.get(endpoint, &target, Some(manifest::ACCEPT), 0, patience)?;
        let served = response.headers.get("content-type").map(str::to_owned);
        let bytes = response.body(json::MAX_JSON_BYTES, "the manifest", patience)?;
        Ok((bytes.to_vec(), served))
    }

    fn get_config(
        &self,
        endpoint: &Endpoint,
        config: &Descriptor,
        patience: &Patience<'_>,
    ) -> Result<Vec<u8>> {
        let bytes = retried(patience, || {
            let response = self.get_blob(endpoint, config, 0, patience)?;
            response.body(json::MAX_JSON_BYTES, "the configuration", patience)
        })?;
        let found = digest_of(&bytes);
        if found != config.digest || bytes.len() as u64 != config.size {
            let (digest, size) = (config.digest, config.size);
            let length = bytes.len();
            return Err(error(format!(
                "configuration {digest} of {size} bytes: what came has the digest {found} and {length} bytes"
            )));
        }
        Ok(bytes.to_vec())
    }

    fn get_blob(
        &self,
        endpoint: &Endpoint,
        descriptor: &Descriptor,
        from: u64,
        patience: &Patience<'_>,
    ) -> Result<Response, Failure> {
        let target = format!("/v2/{}/blobs/{}", endpoint.repository(), descriptor.digest);
        self.get(endpoint, &target, None, from, patience)
    }

    fn get(
        &self,
        endpoint: &Endpoint,
        target: &str,
        accept: Option<&str>,
        from: u64,
        patience: &Patience<'_>,
    ) -> Result<Response, Failure> {
        let login = || self.login(endpoint, patience);
        endpoint.get(&self.dialer, login, target, accept, from, patience)
    }

    /// The login at an endpoint. The settings' is for the registry of the reference.
    fn login(&self, endpoint: &Endpoint, patience: &Patience<'_>) -> Result<credentials::Found> {
        match &self.settings.login {
            Some((username, password)) if !endpoint.is_mirror() => {
                Ok(credentials::Found::Login(Login::password(username, password)))
            }
            _ => self.sources.find(endpoint.registry(), patience),
        }
    }

    /// Asks the mirrors of a reference in their order, then its own registry.
    fn at_any<T>(
        &self,
        reference: &Reference,
        cancelled: &AtomicBool,
        mut ask: impl FnMut(&Endpoint, &Patience<'_>) -> Result<T>,
    ) -> Result<T> {
        let whole = Patience::new(cancelled, self.deadline);
        let mut endpoints = self.endpoints(reference)?;
        let own = endpoints.pop();
        for mirror in endpoints.iter().filter(|mirror| mirror.is_usable()) {
            match ask(mirror, &whole) {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    whole.check()?;
                    // Not again in this pull: a mirror that doesn't answer costs time.
                    if error.code() != Code::NotFound {
                        mirror.give_up();
                    }
                    log::warn!("image {reference}: mirror {}: {error}", mirror.registry());
                }
            }
        }
        let own = own.ok_or_else(|| error("no registry"))?;
        ask(&own, &whole).map_err(|error| error.context(format!("image {reference}")))
    }

    /// The servers for a reference, its own last. The same ones each time, since they have tokens.
    fn endpoints(&self, reference: &Reference) -> Result<Vec<std::sync::Arc<Endpoint>>> {
        let plain_allowed = self.settings.ca_pem.is_none();
        let mut wanted = Vec::new();
        for (host, repository) in mirrors(&self.settings.mirrors, reference) {
            wanted.push(Endpoint::mirror(&host, &repository, plain_allowed)?);
        }
        wanted.push(Endpoint::new(reference, plain_allowed)?);
        let mut known = self.endpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut endpoints = Vec::with_capacity(wanted.len());
        for endpoint in wanted {
            if let Some(same) = known.iter().find(|known| known.is_same(&endpoint)) {
                endpoints.push(std::sync::Arc::clone(same));
                continue;
            }
            let endpoint = std::sync::Arc::new(endpoint);
            known.push(std::sync::Arc::clone(&endpoint));
            endpoints.push(endpoint);
        }
        Ok(endpoints)
    }
}

/// The hosts and names at mirrors for a reference, by the longest prefix that it has.
fn mirrors(mirrors: &[settings::Mirror], reference: &Reference) -> Vec<(String, String)> {
    let full = format!("{}/{}", reference.registry(), reference.repository());
    let behind = |prefix: &str| {
        let rest = full.strip_prefix(prefix)?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
    };
    let longest =
        mirrors.iter().filter(|mirror| behind(&mirror.prefix).is_some()).map(|m| m.prefix.len()).max();
    mirrors
        .iter()
        .filter(|mirror| Some(mirror.prefix.len()) == longest)
        .filter_map(|mirror| {
            let parts = [mirror.path.as_str(), behind(&mirror.prefix)?];
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            Some((mirror.host.clone(), parts.join("/")))
        })
        .filter(|(_, repository)| !repository.is_empty())
        .collect()
}

fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}
