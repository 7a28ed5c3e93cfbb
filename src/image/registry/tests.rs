//! Whole pulls from servers of the tests' own, good and hostile.

mod good;
mod hostile;
mod real;
mod server;

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::{Descriptor, Manifest, Platform, Registry, RegistrySettings, Watch};
use crate::error::Result;
use crate::image::Digest;
use crate::image::reference::Reference;
use crate::image::testing::Directory;

/// A program for `sh` in a file of its own.
pub(super) fn script(directory: &Directory, body: &str) -> PathBuf {
    let path = directory.file("program", format!("#!/bin/sh\n{body}\n").as_bytes());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}

/// An image of two layers for two platforms, as a registry has it.
struct TestImage {
    index: String,
    manifest: String,
    config: String,
    layers: [Vec<u8>; 2],
}

impl TestImage {
    fn new() -> Self {
        let config = r#"{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let layers = [b"the first layer".to_vec(), (0..300_000_u32).flat_map(u32::to_le_bytes).collect()];
        let layer = |bytes: &[u8]| {
            let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
            format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, digest(bytes), bytes.len())
        };
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":
            "application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{},{}]}}"#,
            digest(config.as_bytes()),
            config.len(),
            layer(&layers[0]),
            layer(&layers[1])
        );
        let entry = |architecture: &str, manifest: &str| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{},"platform":
                {{"os":"linux","architecture":"{architecture}"}}}}"#,
                digest(manifest.as_bytes()),
                manifest.len()
            )
        };
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{},{}]}}"#,
            entry("arm64", "another"),
            entry("amd64", &manifest)
        );
        Self { index, manifest, config: config.to_owned(), layers }
    }

    /// What a registry has at a path, and its media type.
    fn at(&self, path: &str) -> Option<(&'static str, Vec<u8>)> {
        let (repository, what) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
        if what == "1.0" {
            return Some(("application/vnd.oci.image.index.v1+json", self.index.clone().into_bytes()));
        }
        if repository.ends_with("/manifests") && what == digest(self.manifest.as_bytes()).to_string() {
            return Some(("application/vnd.oci.image.manifest.v1+json", self.manifest.clone().into_bytes()));
        }
        let blobs = [self.config.as_bytes(), &self.layers[0], &self.layers[1]];
        let blob = blobs.into_iter().find(|blob| digest(blob).to_string() == what)?;
        Some(("application/octet-stream", blob.to_vec()))
    }

    /// The descriptor of a layer.
    fn layer(&self, number: usize) -> Descriptor {
        let bytes = &self.layers[number];
        Descriptor { media_type: String::new(), digest: digest(bytes), size: bytes.len() as u64 }
    }
}

/// A client with settings and a reference.
struct Pull {
    registry: Registry,
    reference: Reference,
}

impl Pull {
    fn new(settings: &RegistrySettings, reference: &str) -> Self {
        Self { registry: Registry::new(settings).unwrap(), reference: Reference::parse(reference).unwrap() }
    }

    /// Calls a server by a name, as if it had an address of the Internet.
    fn named(mut self, name: &str, address: &str, server: &server::Server) -> Self {
        let address = (address.parse().unwrap(), server.address);
        self.registry.dialer.names.insert(name.to_owned(), address);
        self
    }

    fn resolve(&self) -> Result<Manifest> {
        let (cancelled, mut progress) = (AtomicBool::new(false), |_| ());
        let platform = Platform::parse("linux/amd64").unwrap();
        let watch = &mut Watch { cancelled: &cancelled, progress: &mut progress };
        self.registry.resolve(&self.reference, &platform, watch)
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let directory = Directory::new();
        let path = directory.file("blob", b"");
        let mut file = File::options().read(true).write(true).open(path).unwrap();
        let (cancelled, mut done) = (AtomicBool::new(false), 0);
        let mut progress = |bytes| done = bytes;
        let watch = &mut Watch { cancelled: &cancelled, progress: &mut progress };
        let result = self.registry.blob(&self.reference, descriptor, &file, watch);
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() as u64 <= descriptor.size, "more was written than the descriptor says");
        result.map(|()| {
            assert_eq!(done, descriptor.size);
            bytes
        })
    }
}

fn settings() -> RegistrySettings {
    let mut settings = RegistrySettings::bare();
    settings.set_timeout(Duration::from_secs(60));
    settings
}
