//! Debian's docker-registry on loopback, with TLS and a login.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::images::{MANIFEST, Made, sha256};
use super::{Scratch, eventually};

pub const USER: &str = "robot";
/// A test vector of bcrypt's, which is all that the registry takes.
pub const PASSWORD: &str = "U*U";
const HASH: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// A registry that runs as long as this is held.
pub struct Registry {
    scratch: Scratch,
    server: Child,
    /// Host and port.
    pub address: String,
    /// The authority of its certificate.
    pub ca_pem: String,
}

impl Registry {
    pub fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let ca_pem = made.cert.pem();
        let certificate = scratch.file("certificate.pem", &ca_pem);
        let key = scratch.file("key.pem", &made.signing_key.serialize_pem());
        let passwords = scratch.file("htpasswd", &format!("{USER}:{HASH}\n"));
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:{free}', tls: {{certificate: {certificate}, key: {key}}}}}\n\
             auth: {{htpasswd: {{realm: test, path: {passwords}}}}}\n",
            scratch.path("storage")
        );
        let settings = scratch.file("config.yml", &settings);
        let mut server = Command::new("docker-registry");
        server.args(["serve", &settings]).stdout(Stdio::null()).stderr(Stdio::null());
        let server = server.spawn().expect("docker-registry is installed by tests/run.sh");
        eventually("the registry listens", || TcpStream::connect(("127.0.0.1", free)).is_ok());
        Self { scratch, server, address: format!("localhost:{free}"), ca_pem }
    }

    fn curl(&self, arguments: &[&str]) -> String {
        let certificate = self.scratch.path("certificate.pem");
        let login = format!("{USER}:{PASSWORD}");
        let output = Command::new("curl")
            .args(["-fsS", "--noproxy", "*", "--cacert", &certificate, "-u", &login])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Puts an image there, and returns its reference.
    pub fn push(&self, made: &Made, repository: &str, tag: &str) -> String {
        let base = format!("https://{}/v2/{repository}", self.address);
        let layers = made.layers.iter().map(|layer| &layer.bytes);
        for bytes in layers.chain([&made.config]) {
            let uploads = format!("{base}/blobs/uploads/");
            let answer = self.curl(&["-X", "POST", "-D", "-", "-o", "/dev/null", &uploads]);
            let location = answer
                .lines()
                .filter_map(|line| line.split_once(": "))
                .find_map(|(name, value)| name.eq_ignore_ascii_case("location").then_some(value.trim()))
                .unwrap();
            let (file, digest) = (self.scratch.path("blob"), sha256(bytes));
            fs::write(&file, bytes).unwrap();
            let octets = "Content-Type: application/octet-stream";
            let data = format!("@{file}");
            self.curl(&[
                "-X",
                "PUT",
                "-H",
                octets,
                "--data-binary",
                &data,
                &format!("{location}&digest=sha256:{digest}"),
            ]);
        }
        let file = self.scratch.path("manifest");
        fs::write(&file, made.manifest()).unwrap();
        let media_type = format!("Content-Type: {MANIFEST}");
        let to = format!("{base}/manifests/{tag}");
        self.curl(&["-X", "PUT", "-H", &media_type, "--data-binary", &format!("@{file}"), &to]);
        format!("{}/{repository}:{tag}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
