//! The certificates that registries are trusted by: the system's, and the caller's own.
//!
//! None are built in. `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's, as in OpenSSL.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::{Code, Context, Error, Result};

/// Where distributions keep all of them in one file; the first that exists is read.
const BUNDLES: [&str; 6] = [
    // Debian, Ubuntu, Arch, Alpine, Gentoo
    "/etc/ssl/certs/ca-certificates.crt",
    // Fedora, RHEL
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    // openSUSE
    "/etc/ssl/ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    // BSD's layout
    "/etc/ssl/cert.pem",
];

/// A bundle has some 200 KiB.
const MAX_FILE: u64 = 16 * 1024 * 1024;
const MAX_FILES: usize = 4096;

/// Which certificates are trusted.
#[derive(Clone, Debug, Default)]
pub(super) struct Roots<'a> {
    /// `SSL_CERT_FILE`.
    pub(super) file: Option<&'a Path>,
    /// `SSL_CERT_DIR`: directories, with colons between them.
    pub(super) directories: Option<&'a str>,
    /// Certificates of the caller's, in PEM, beside those.
    pub(super) own: Option<&'a str>,
}

impl Roots<'_> {
    /// What rustls needs to connect: TLS 1.2 and 1.3, no client certificate.
    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let mut store = RootCertStore::empty();
        let replaced = self.file.is_some() || self.directories.is_some();
        // Without any, registries with a certificate of the caller's, or without TLS on this machine, can be reached.
        if let Some(bundle) = BUNDLES.iter().map(Path::new).find(|bundle| !replaced && bundle.exists()) {
            add(&mut store, &read(bundle).context(format!("read {}", bundle.display()))?);
        }
        if let Some(file) = self.file {
            add_file(&mut store, file).map_err(|error| error.context("SSL_CERT_FILE"))?;
        }
        for directory in self.directories.unwrap_or_default().split(':').filter(|part| !part.is_empty()) {
            add_directory(&mut store, Path::new(directory)).map_err(|error| error.context("SSL_CERT_DIR"))?;
        }
        if self.own.is_some_and(|own| add(&mut store, own.as_bytes()) == 0) {
            return Err(Error::invalid("ca_pem: there is no certificate in it that can be used"));
        }
        // With the provider given here, the process's default one is neither needed nor touched.
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(Code::Internal, format!("TLS versions: {error}")))?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Whether there is a certificate in the text that can be trusted.
pub(super) fn is_usable(pem: &str) -> bool {
    add(&mut RootCertStore::empty(), pem.as_bytes()) > 0
}

/// Adds what can be used of a PEM text, and says how many those are. System bundles have some that rustls can't read.
fn add(store: &mut RootCertStore, pem: &[u8]) -> usize {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(std::result::Result::ok);
    store.add_parsable_certificates(certificates).0
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<()> {
    let bytes = read(path).context(format!("read {}", path.display()))?;
    if add(store, &bytes) == 0 {
        let text = format!("{}: there is no certificate in it that can be used", path.display());
        return Err(Error::new(Code::Host, text));
    }
    Ok(())
}

/// Adds the files of a directory; other files than certificates may be there.
fn add_directory(store: &mut RootCertStore, directory: &Path) -> Result<()> {
    let entries = fs::read_dir(directory).context(format!("read {}", directory.display()))?;
    let files: Vec<PathBuf> = entries.take(MAX_FILES).filter_map(|entry| Some(entry.ok()?.path())).collect();
    for file in files.iter().filter(|file| file.is_file()) {
        if let Ok(bytes) = read(file) {
            add(store, &bytes);
        }
    }
    Ok(())
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    // Opening a FIFO would wait for a writer.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::testing::Directory;
    use crate::tunnel::Identity;

    #[test]
    fn a_pem_of_the_callers_is_added() {
        let identity = Identity::make(&[]).unwrap();
        assert!(is_usable(identity.ca_pem()));
        assert!(Roots { own: Some(identity.ca_pem()), ..Roots::default() }.client_config().is_ok());
        for bad in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(!is_usable(bad));
            let error = Roots { own: Some(bad), ..Roots::default() }.client_config().unwrap_err();
            assert_eq!(error.code(), Code::Invalid);
        }
    }

    #[test]
    fn the_environments_files_are_named_where_they_are_of_no_use() {
        let missing = Roots { file: Some(Path::new("/nowhere/ca.pem")), ..Roots::default() };
        let error = missing.client_config().unwrap_err();
        assert!(error.message().starts_with("SSL_CERT_FILE: read /nowhere/ca.pem: "), "{error}");
        let scratch = Directory::new();
        let empty = Roots { file: Some(&scratch.file("empty", b"")), ..Roots::default() };
        assert!(empty.client_config().unwrap_err().message().contains("no certificate"));
        let fifo = scratch.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for special in [&fifo, Path::new("/dev/null")] {
            let special = Roots { file: Some(special), ..Roots::default() };
            assert!(special.client_config().unwrap_err().message().contains("no regular file"));
        }
        let missing = Roots { directories: Some("/nowhere"), ..Roots::default() };
        assert!(missing.client_config().unwrap_err().message().starts_with("SSL_CERT_DIR: "));
    }
}
