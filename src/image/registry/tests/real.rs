//! Debian's docker-registry on this machine, filled by curl.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::error::Code;

/// `user:pass`, as htpasswd writes it.
const HTPASSWD: &str = "user:$2b$05$gHRx9vHo1H.QcI2D0XVObeDIzRNC9xjEfZG4UYC.1ntDACe/uvufe\n";

struct RealRegistry {
    process: Child,
    directory: Directory,
    address: SocketAddr,
    /// Its certificate, if it speaks TLS and wants a login.
    certificate: Option<String>,
}

impl RealRegistry {
    fn start(tls: bool) -> Self {
        let directory = Directory::new();
        let (mut secure, mut certificate) = (String::new(), None);
        if tls {
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let made = rcgen::generate_simple_self_signed(names).unwrap();
            let file = directory.file("certificate.pem", made.cert.pem().as_bytes());
            let key = directory.file("key.pem", made.signing_key.serialize_pem().as_bytes());
            let users = directory.file("htpasswd", HTPASSWD.as_bytes());
            secure = format!(
                "  tls: {{certificate: {}, key: {}}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                file.display(),
                key.display(),
                users.display()
            );
            certificate = Some(made.cert.pem());
        }
        // The port may be taken by another in between; then it is tried with another.
        for _ in 0..10 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let storage = directory.path().join("storage");
            let config = format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http:\n  addr: {address}\n{secure}",
                storage.display()
            );
            let config = directory.file("config.yml", config.as_bytes());
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(config).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = command.spawn().expect("docker-registry is installed by tests/run.sh");
            if is_up(&mut process, address) {
                let certificate = certificate.clone();
                return Self { process, directory, address, certificate };
            }
        }
        panic!("docker-registry does not start");
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--http1.1", "--noproxy", "*"]);
        if let Some(certificate) = &self.certificate {
            let file = self.directory.file("ca.pem", certificate.as_bytes());
            command.arg("--cacert").arg(file).args(["--user", "user:pass"]);
        }
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Pushes the image as `team/name:1.0`, as clients do.
    fn fill(&self, image: &TestImage) {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}/v2/team/name", self.address);
        for blob in [image.config.as_bytes(), &image.layers[0], &image.layers[1]] {
            let begun = self.curl(&["--request", "POST", "--include", &format!("{base}/blobs/uploads/")]);
            let location = begun.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().trim();
            let file = self.directory.file("blob", blob);
            let to = format!("{location}&digest={}", digest(blob));
            self.curl(&["--upload-file", file.to_str().unwrap(), "--header", "Expect:", &to]);
        }
        let put = |json: &str, kind: &str, version: &str| {
            let file = self.directory.file("manifest", json.as_bytes());
            let kind = format!("Content-Type: application/vnd.oci.image.{kind}.v1+json");
            let to = format!("{base}/manifests/{version}");
            self.curl(&["--upload-file", file.to_str().unwrap(), "--header", &kind, &to]);
        };
        put(&image.manifest, "manifest", &digest(image.manifest.as_bytes()).to_string());
        put(&image.manifest, "manifest", "single");
    }

    fn settings(&self) -> RegistrySettings {
        let mut settings = settings();
        if let Some(certificate) = &self.certificate {
            settings.set_ca_pem(certificate).unwrap();
            settings.set_login("user", "pass").unwrap();
        }
        settings
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn is_up(process: &mut Child, address: SocketAddr) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(address).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = process.kill();
    let _ = process.wait();
    false
}

fn check(pull: &Pull, image: &TestImage) {
    let manifest = pull.resolve().unwrap();
    assert_eq!(manifest.digest, digest(image.manifest.as_bytes()));
    assert_eq!(manifest.config_bytes, image.config.as_bytes());
    for (layer, bytes) in manifest.layers.iter().zip(&image.layers) {
        assert_eq!(&pull.blob(layer).unwrap(), bytes);
    }
}

#[test]
fn docker_registry_without_tls() {
    let (registry, image) = (RealRegistry::start(false), TestImage::new());
    registry.fill(&image);
    let pull = |version: &str| {
        Pull::new(&registry.settings(), &format!("localhost:{}/team/name{version}", registry.address.port()))
    };
    check(&pull(":single"), &image);
    check(&pull(&format!("@{}", digest(image.manifest.as_bytes()))), &image);
    let error = pull(":nope").resolve().unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().ends_with("not found (status 404): manifest unknown"), "{error}");
    let mut missing = image.layer(0);
    missing.digest = digest(b"missing");
    assert_eq!(pull(":single").blob(&missing).unwrap_err().code(), Code::NotFound);
}

#[test]
fn docker_registry_with_tls_and_a_login() {
    let (registry, image) = (RealRegistry::start(true), TestImage::new());
    registry.fill(&image);
    let reference = format!("{}/team/name:single", registry.address);
    check(&Pull::new(&registry.settings(), &reference), &image);
    let mut wrong = registry.settings();
    wrong.set_login("user", "wrong").unwrap();
    let error = Pull::new(&wrong, &reference).resolve().unwrap_err();
    assert!(error.message().contains("access denied (status 401): authentication required"), "{error}");
    let mut anonymous = registry.settings();
    anonymous.login = None;
    let error = Pull::new(&anonymous, &reference).resolve().unwrap_err();
    assert!(error.message().ends_with("wants a login"), "{error}");
    // By docker's configuration file.
    let mut pull = Pull::new(&anonymous, &reference);
    let json = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpwYXNz"}}}}}}"#, registry.address);
    pull.registry.sources.docker_config = Some(registry.directory.file("config.json", json.as_bytes()));
    check(&pull, &image);
    // Another certificate than that of the settings.
    let mut stranger = registry.settings();
    let names = vec!["127.0.0.1".to_owned()];
    stranger.set_ca_pem(&rcgen::generate_simple_self_signed(names).unwrap().cert.pem()).unwrap();
    let error = Pull::new(&stranger, &reference).resolve().unwrap_err();
    assert!(error.message().contains(": TLS: "), "{error}");
}

/// Passes connections on, and cuts each after so many bytes of what comes back.
fn cutting(server: SocketAddr, bytes: u64) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let connections = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            connections.fetch_add(1, Ordering::Relaxed);
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut stream = stream?;
                let to = TcpStream::connect(server)?;
                let (mut from, mut back) = (stream.try_clone()?, to.try_clone()?);
                std::thread::spawn(move || std::io::copy(&mut from, &mut back));
                std::io::copy(&mut to.take(bytes), &mut stream)?;
                stream.flush()?;
                stream.shutdown(std::net::Shutdown::Both)
            });
        }
    });
    (address, count)
}

#[test]
fn docker_registry_behind_a_line_that_breaks() {
    let (registry, image) = (RealRegistry::start(true), TestImage::new());
    registry.fill(&image);
    let (address, connections) = cutting(registry.address, 400_000);
    check(&Pull::new(&registry.settings(), &format!("{address}/team/name:single")), &image);
    assert!(connections.load(Ordering::Relaxed) >= 4);
    // Where nothing breaks, all requests go over one.
    let (address, connections) = cutting(registry.address, u64::MAX);
    check(&Pull::new(&registry.settings(), &format!("{address}/team/name:single")), &image);
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}
