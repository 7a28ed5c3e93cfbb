//! The certificate of encrypted tunnels: the host's own, or further names for the one that the library makes.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::Config;
use super::rules::{is_rfc1123, refuse};
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The most further names.
const MAX_TLS_NAMES: usize = 64;

/// The host's certificate chain and key, checked to belong together.
#[derive(Clone)]
pub(crate) struct Certificate {
    key: Arc<CertifiedKey>,
    chain_pem: String,
}

impl Certificate {
    fn new(chain_pem: &str, key_pem: &str) -> Result<Self> {
        // Errors quote nothing of the PEMs: one of them is a secret.
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|_| Error::invalid("tls certificate: the chain is not PEM"))?;
        if chain.is_empty() {
            return Err(Error::invalid("tls certificate: the chain has no BEGIN CERTIFICATE"));
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| {
            Error::invalid("tls certificate: the key is not an unencrypted private key in PEM")
        })?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|cause| {
            Error::invalid(format!("tls certificate: chain and key can't be used: {cause}"))
        })?;
        Ok(Self { key: Arc::new(key), chain_pem: chain_pem.to_owned() })
    }

    /// The form that rustls serves.
    pub(crate) fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.key)
    }

    /// The chain as the host gave it.
    pub(crate) fn chain_pem(&self) -> &str {
        &self.chain_pem
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("certificates", &self.key.cert.len()).finish_non_exhaustive()
    }
}

impl Config {
    /// Uses the host's own certificate for encrypted tunnels: a chain, the leaf first, and its key, both PEM. The default
    /// is one that the library makes under a CA of the sandbox's own.
    pub fn set_tls_certificate(&mut self, chain_pem: &str, key_pem: &str) -> Result<&mut Self> {
        self.latch(|config| {
            config.certificate = Some(Certificate::new(chain_pem, key_pem)?);
            Ok(())
        })
    }

    /// Adds a name or address to the certificate that the library makes, beside 127.0.0.1, ::1 and localhost.
    pub fn add_tls_name(&mut self, name: &str) -> Result<&mut Self> {
        self.latch(|config| {
            let host = name.strip_prefix("*.").unwrap_or(name);
            let known = name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && is_rfc1123(host));
            if !known {
                return Err(refuse(
                    "tls name",
                    name,
                    "must be a DNS name, a wildcard like *.example.org, or an address",
                ));
            }
            if config.tls_names.len() >= MAX_TLS_NAMES {
                return Err(refuse(
                    "tls name",
                    name,
                    format_args!("a sandbox takes at most {MAX_TLS_NAMES} names"),
                ));
            }
            if !config.tls_names.iter().any(|other| other == name) {
                config.tls_names.push(name.to_owned());
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["example.org".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_chain_and_its_key_are_taken() {
        let (chain, key) = pair();
        let mut config = Config::new();
        config.set_tls_certificate(&chain, &key).unwrap();
        assert_eq!(config.certificate().unwrap().chain_pem(), chain);
        assert_eq!(config.certificate().unwrap().key().cert.len(), 1);
        assert!(!format!("{config:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_does_not_fit_is_refused_without_repeating_it() {
        let (chain, key) = pair();
        let (_, other) = pair();
        for (chain, key) in
            [("", &*key), ("nonsense", &key), (&chain, ""), (&chain, &other), (&key, &key), (&chain, &chain)]
        {
            let error = Config::new().set_tls_certificate(chain, key).unwrap_err();
            assert!(error.message().starts_with("tls certificate: "), "{error}");
            assert!(!error.message().contains("MI"), "{error}");
        }
    }

    #[test]
    fn names() {
        let mut config = Config::new();
        for good in ["example.org", "*.example.org", "192.0.2.1", "2001:db8::1", "example.org"] {
            config.add_tls_name(good).unwrap();
        }
        assert_eq!(config.tls_names().len(), 4);
        for bad in ["", "*", "a.*.b", "exa mple", "ex\0", "-a", &"a.".repeat(200)] {
            assert!(Config::new().add_tls_name(bad).is_err(), "{bad:?}");
        }
    }
}
