//! Certificates: one authority and one leaf a sandbox, or the host's own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest, Sha256};

use crate::error::{Code, Error, Result};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Certificates are valid for half a year either way from now, so that one holds although the host's clock or the
/// client's is wrong by months. Together that is a year: clients and scanners refuse or report a leaf that lives longer
/// (browsers beyond 398 days).
const BEFORE: Duration = Duration::from_secs(182 * 24 * 3600);
const AFTER: Duration = Duration::from_secs(183 * 24 * 3600);

/// The names that every leaf is for.
const NAMES: [&str; 3] = ["127.0.0.1", "::1", "localhost"];

/// What a sandbox's encrypted tunnels prove themselves with.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    ca_pem: String,
    pin: String,
}

impl Identity {
    /// Makes an authority and under it a leaf for 127.0.0.1, ::1, localhost and further names or addresses. The
    /// authority is this sandbox's alone, so that a client which trusts it can't take another sandbox on the same port
    /// for this one. It may vouch for these names only, and its key is forgotten here.
    pub(crate) fn make(names: &[String]) -> Result<Self> {
        let mut all: Vec<String> = NAMES.map(str::to_owned).into();
        all.extend(names.iter().filter(|name| !NAMES.contains(&name.as_str())).cloned());
        // This checks the names, which rcgen takes on trust as constraints.
        let mut params = CertificateParams::new(all.clone()).map_err(|error| {
            Error::invalid(format!("the tunnels' names {names:?} can't stand in a certificate: {error}"))
        })?;
        let (authority, key) = (authority(&all)?, new_key()?);
        set_validity(&mut params);
        params.distinguished_name.push(DnType::CommonName, "libsbx tunnel");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &authority).map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = CertifiedKey::from_der(vec![leaf.der().clone()], key, &ring::default_provider())
            .map_err(|error| Error::new(Code::Internal, format!("make a certificate: {error}")))?;
        Self::new(Arc::new(key), authority.pem())
    }

    /// The host's own certificate and key. Clients then trust what they trust; the chain's last certificate
    /// is handed out in the place of a CA.
    pub(crate) fn of_host(key: Arc<CertifiedKey>, chain_pem: &str) -> Result<Self> {
        let begin = chain_pem.rfind("-----BEGIN CERTIFICATE-----").unwrap_or(0);
        Self::new(key, chain_pem.get(begin..).unwrap_or_default().to_owned())
    }

    fn new(key: Arc<CertifiedKey>, ca_pem: String) -> Result<Self> {
        let leaf = key.cert.first().ok_or_else(|| Error::invalid("the certificate chain is empty"))?;
        let parsed = ParsedCertificate::try_from(leaf)
            .map_err(|error| Error::invalid(format!("the first certificate can't be read: {error}")))?;
        let digest = Sha256::digest(parsed.subject_public_key_info());
        let pin = format!("sha256//{}", BASE64_STANDARD.encode(digest));
        let provider = Arc::new(ring::default_provider());
        Ok(Self { provider, key, ca_pem, pin })
    }

    /// What rustls needs to serve: TLS 1.2 and 1.3, no early data, tickets of this sandbox's own; `h2` offers
    /// HTTP/2 before HTTP/1.1.
    pub(crate) fn server_config(&self, h2: bool) -> Result<Arc<ServerConfig>> {
        // With the provider given here, the process's default one is neither needed nor touched.
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(Code::Internal, format!("TLS versions: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.key))));
        config.alpn_protocols = if h2 { vec![b"h2".to_vec()] } else { Vec::new() };
        config.alpn_protocols.push(b"http/1.1".to_vec());
        // Resumption by tickets only: a cache would grow with the number of clients.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new()
            .map_err(|error| Error::new(Code::Internal, format!("TLS tickets: {error}")))?;
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// The certificate that clients have to trust, in PEM.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The pin of the leaf's public key.
    pub(crate) fn pin(&self) -> &str {
        &self.pin
    }
}

/// A key and a self-signed certificate for it, which may vouch for these names and addresses.
fn authority(names: &[String]) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let key = new_key()?;
    let digest = Sha256::digest(key.subject_public_key_info());
    let mut params = CertificateParams::default();
    set_validity(&mut params);
    // A name of its own: a client that knows many authorities looks for the one of that name.
    let number: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("libsbx sandbox authority {number}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let permitted_subtrees = names.iter().map(|name| subtree(name)).collect();
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    CertifiedIssuer::self_signed(params, key).map_err(|error| failed(&error))
}

/// What an authority has to be allowed so that it may vouch for a name.
fn subtree(name: &str) -> GeneralSubtree {
    match name.parse::<IpAddr>() {
        Ok(ip) => {
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(ip, if ip.is_ipv4() { 32 } else { 128 }))
        }
        Err(_) => GeneralSubtree::DnsName(name.strip_prefix("*.").unwrap_or(name).to_owned()),
    }
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(&error))
}

fn set_validity(params: &mut CertificateParams) {
    let now = SystemTime::now();
    params.not_before = now.checked_sub(BEFORE).unwrap_or(SystemTime::UNIX_EPOCH + DAY).into();
    params.not_after = now.checked_add(AFTER).unwrap_or(now).into();
}

/// What can go wrong is that the system gives no random numbers, of which ring says no more than that.
fn failed(error: &rcgen::Error) -> Error {
    let why = match error {
        rcgen::Error::RingUnspecified => "the system gave no random numbers".to_owned(),
        other => other.to_string(),
    };
    Error::new(Code::System, format!("make a certificate: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    #[test]
    fn base64_is_as_in_rfc_4648() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(BASE64_STANDARD.encode(bytes), text);
        }
    }

    /// Whether a client that trusts `authority` takes `served` for the server `name` it asked for.
    fn trusts(authority: &Identity, served: &Identity, name: &str) -> bool {
        trusts_at(authority, served, name, UnixTime::now())
    }

    fn trusts_at(authority: &Identity, served: &Identity, name: &str, now: UnixTime) -> bool {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.ca_pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let name = ServerName::try_from(name).unwrap();
        let leaf = served.key.cert.first().unwrap();
        verifier.verify_server_cert(leaf, &[], &name, &[], now).is_ok()
    }

    #[test]
    fn an_authority_vouches_for_one_sandbox_and_a_bad_name_is_refused() {
        let names = ["box.example", "*.wild.example", "192.0.2.7", "2001:db8::7"].map(str::to_owned);
        let (one, two) = (Identity::make(&names).unwrap(), Identity::make(&[]).unwrap());
        assert_ne!(one.pin(), two.pin());
        assert!(one.pin().starts_with("sha256//") && one.pin().len() == 8 + 44, "{}", one.pin());
        for name in
            ["127.0.0.1", "::1", "localhost", "box.example", "a.wild.example", "192.0.2.7", "2001:db8::7"]
        {
            assert!(trusts(&one, &one, name), "{name}");
            assert!(!trusts(&two, &one, name), "{name} with another's authority");
        }
        assert!(trusts(&two, &two, "127.0.0.1") && !trusts(&one, &two, "127.0.0.1"));
        assert!(!trusts(&two, &two, "box.example"));
        assert_eq!(Identity::make(&["\u{fc}mlaut".into()]).unwrap_err().code(), Code::Invalid);
    }

    #[test]
    fn an_authority_may_vouch_for_its_own_names_only() {
        let issuer = authority(&["localhost".into(), "127.0.0.1".into()]).unwrap();
        let served = |name: &str| {
            let key = new_key().unwrap();
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            let leaf = params.signed_by(&key, &issuer).unwrap();
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let key = CertifiedKey::from_der(vec![leaf.der().clone()], key, &ring::default_provider());
            Identity::new(Arc::new(key.unwrap()), issuer.pem()).unwrap()
        };
        for (name, allowed) in
            [("localhost", true), ("127.0.0.1", true), ("example.org", false), ("192.0.2.1", false)]
        {
            let served = served(name);
            assert_eq!(trusts(&served, &served, name), allowed, "{name}");
        }
    }

    #[test]
    fn certificates_are_valid_for_half_a_year_either_way() {
        let (made, one) = (UnixTime::now().as_secs(), Identity::make(&[]).unwrap());
        let day = DAY.as_secs();
        let at = |seconds| {
            trusts_at(&one, &one, "localhost", UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
        };
        assert!(at(made - 182 * day + 3600) && at(made) && at(made + 183 * day - 3600));
        assert!(!at(made - 182 * day - 3600) && !at(made + 183 * day + 3600));
    }

    #[test]
    fn the_hosts_own_certificate_is_served_with_its_pin_and_last_link() {
        let own = rcgen::generate_simple_self_signed(vec!["example.org".into()]).unwrap();
        let mut config = crate::Config::new();
        config.set_tls_certificate(&own.cert.pem(), &own.signing_key.serialize_pem()).unwrap();
        let certificate = config.certificate().unwrap();
        let identity = Identity::of_host(certificate.key(), certificate.chain_pem()).unwrap();
        assert_eq!(identity.ca_pem().trim(), own.cert.pem().trim());
        identity.server_config(true).unwrap();
    }
}
