//! Images that tests make by hand: tar archives, layers, OCI layouts and archives of `docker save`.
#![allow(clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Scratch;
use sbx::{Runtime, RuntimeConfig};

/// Debian's busybox-static: an image of one program.
pub const BUSYBOX: &str = "/usr/bin/busybox";
/// The programs of it that the tests use.
const APPLETS: &[&str] =
    &["sh", "id", "cat", "ls", "echo", "sleep", "stat", "pwd", "touch", "env", "test", "true"];

/// A tar archive in the making.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    fn entry(
        mut self,
        path: &str,
        kind: u8,
        mode: u32,
        owner: (u32, u32),
        link: &str,
        content: &[u8],
    ) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, &format!("{:07o}", owner.0));
        put(116, &format!("{:07o}", owner.1));
        put(124, &format!("{:011o}", content.len()));
        put(136, "14700000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: &str, mode: u32, owner: (u32, u32), content: &[u8]) -> Self {
        self.entry(path, b'0', mode, owner, "", content)
    }

    pub fn directory(self, path: &str, mode: u32, owner: (u32, u32)) -> Self {
        self.entry(path, b'5', mode, owner, "", &[])
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, b'2', 0o777, (0, 0), target, &[])
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, b'1', 0o644, (0, 0), target, &[])
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// A root file system with busybox, and a user `web`.
pub fn root_layer() -> Tar {
    let busybox = fs::read(BUSYBOX).expect("busybox-static is installed by tests/run.sh");
    let mut tar = Tar::default()
        .directory("bin", 0o755, (0, 0))
        .file("bin/busybox", 0o755, (0, 0), &busybox)
        .directory("etc", 0o755, (0, 0))
        .file("etc/passwd", 0o644, (0, 0), b"root:x:0:0::/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n")
        .file("etc/group", 0o644, (0, 0), b"root:x:0:\nweb:x:1001:\nextra:x:1005:web\n")
        .file("etc/motd", 0o644, (0, 0), b"below\n")
        .file("etc/gone", 0o644, (0, 0), b"not for long\n")
        .directory("home/web", 0o750, (1000, 1001))
        .file("home/web/own", 0o600, (1000, 1001), b"mine\n")
        .file("secret", 0o600, (0, 0), b"root's\n");
    for applet in APPLETS {
        tar = tar.symlink(&format!("bin/{applet}"), "busybox");
    }
    tar
}

/// What lies above it: another motd, a file gone, a hard link to a file below.
pub fn upper_layer() -> Tar {
    Tar::default()
        .file("etc/motd", 0o644, (0, 0), b"above\n")
        .file("etc/.wh.gone", 0o644, (0, 0), b"")
        .hard_link("etc/linked", "home/web/own")
}

/// A layer as it is in an image.
pub struct Layer {
    pub plain: Vec<u8>,
    pub bytes: Vec<u8>,
    pub media_type: &'static str,
}

impl Layer {
    pub fn plain(tar: Tar) -> Self {
        let plain = tar.finish();
        Self { bytes: plain.clone(), plain, media_type: "application/vnd.oci.image.layer.v1.tar" }
    }

    pub fn gzip(tar: Tar) -> Self {
        let plain = tar.finish();
        Self { bytes: gzip(&plain), plain, media_type: "application/vnd.oci.image.layer.v1.tar+gzip" }
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let scratch = Scratch::new(&format!("gzip-{:p}", bytes));
    let path = scratch.path("plain");
    fs::write(&path, bytes).unwrap();
    let output = Command::new("gzip").args(["-1nc", &path]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An image: its layers and its configuration.
pub struct Made {
    pub layers: Vec<Layer>,
    pub config: Vec<u8>,
}

impl Made {
    /// An image whose program runs as `web`.
    pub fn new(layers: Vec<Layer>, settings: &Value) -> Self {
        let diff_ids: Vec<String> =
            layers.iter().map(|layer| format!("sha256:{}", sha256(&layer.plain))).collect();
        let config = json!({
            "architecture": architecture(), "os": "linux", "config": settings,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self { layers, config: config.to_string().into_bytes() }
    }

    /// The usual one.
    pub fn busybox() -> Self {
        Self::new(
            vec![Layer::gzip(root_layer()), Layer::plain(upper_layer())],
            &json!({
                "User": "web", "WorkingDir": "/home/web", "Env": ["PATH=/bin", "GREETING=hello"],
                "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["id -u; id -G; pwd; echo $GREETING; cat /etc/motd; cat own"],
            }),
        )
    }

    /// The usual one, and a layer with so many bytes that can't be compressed.
    pub fn with_ballast(bytes: usize) -> Self {
        let mut made = Self::busybox();
        let mut state = 88_172_645_463_325_252_u64;
        let mut ballast = Vec::with_capacity(bytes + 8);
        while ballast.len() < bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ballast.extend_from_slice(&state.to_le_bytes());
        }
        made.layers.push(Layer::plain(Tar::default().file("ballast", 0o644, (0, 0), &ballast)));
        Self::new(made.layers, &json!({"Cmd": ["/bin/true"]}))
    }

    pub fn manifest(&self) -> Vec<u8> {
        let blob = |bytes: &[u8], media_type: &str| json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()});
        let layers: Vec<Value> =
            self.layers.iter().map(|layer| blob(&layer.bytes, layer.media_type)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": blob(&self.config, "application/vnd.oci.image.config.v1+json"), "layers": layers,
        });
        manifest.to_string().into_bytes()
    }

    /// Writes an OCI layout.
    pub fn layout(&self, directory: &Path) {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let manifest = self.manifest();
        let layers = self.layers.iter().map(|layer| &layer.bytes);
        for bytes in layers.chain([&self.config, &manifest]) {
            fs::write(blobs.join(sha256(bytes)), bytes).unwrap();
        }
        let index = json!({"schemaVersion": 2, "manifests": [
            {"mediaType": MANIFEST, "digest": format!("sha256:{}", sha256(&manifest)), "size": manifest.len()},
        ]});
        fs::write(directory.join("index.json"), index.to_string()).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    }

    /// An archive as `docker save` makes it, with the manifest at its end.
    pub fn docker_archive(&self, tag: &str) -> Vec<u8> {
        let mut tar = Tar::default();
        let mut names = Vec::new();
        for layer in &self.layers {
            let name = format!("{}/layer.tar", &sha256(&layer.plain)[..20]);
            tar = tar.file(&name, 0o644, (0, 0), &layer.plain);
            names.push(name);
        }
        let config = format!("{}.json", sha256(&self.config));
        let manifest = json!([{"Config": config, "RepoTags": [tag], "Layers": names}]).to_string();
        tar.file(&config, 0o644, (0, 0), &self.config)
            .file("manifest.json", 0o644, (0, 0), manifest.as_bytes())
            .finish()
    }
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A directory as a tar archive, made by GNU tar.
pub fn tar_of(directory: &Path, archive: &Path) {
    let status =
        Command::new("tar").arg("-C").arg(directory).arg("-cf").arg(archive).arg(".").status().unwrap();
    assert!(status.success());
}

/// A root file system in a directory.
pub fn root_directory(directory: &Path) {
    let bin = directory.join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
    fs::set_permissions(bin.join("busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).unwrap();
    }
    fs::create_dir(directory.join("etc")).unwrap();
    fs::write(directory.join("etc/motd"), "from a directory\n").unwrap();
}

/// A store of the test's own.
pub struct TestStore {
    pub scratch: Scratch,
    pub runtime: Runtime,
}

impl TestStore {
    pub fn new(name: &str) -> Self {
        super::runsc();
        let scratch = Scratch::new(name);
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
        let runtime = open(&scratch.0);
        Self { scratch, runtime }
    }

    /// What is being written there, and what is believed.
    pub fn left(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        (list(&self.scratch.0, "tmp"), list(&self.scratch.0, "images"))
    }
}

/// The files of that kind in the store in this directory.
fn list(directory: &Path, kind: &str) -> Vec<PathBuf> {
    let found = fs::read_dir(directory.join("images/v1").join(kind));
    found.map(|found| found.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
}

/// Waits until the next process that opens the store in this directory collects what a killed one was writing. Its confined
/// helpers, which have no name of a sandbox in their command lines, hold the files until they have ended, too.
pub fn collected(directory: &Path) {
    super::eventually("what a killed process was writing is collected", || {
        open(directory).list_images().unwrap();
        list(directory, "tmp").is_empty()
    });
}

/// A runtime with the store that is in this directory.
pub fn open(directory: &Path) -> Runtime {
    Runtime::new(&RuntimeConfig::new().image_directory(directory.join("images"))).unwrap()
}
