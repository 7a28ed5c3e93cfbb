//! What is found in archives, layouts and directories.

mod docker;

use super::*;
use crate::image::testing::Directory;
use docker::old_docker;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use serde_json::{Value, json};

/// The parts of an image by name; a link is a text that begins with an arrow.
type Parts = Vec<(String, Vec<u8>)>;

/// Stands for the helper: reads plain tar headers, and knows what is decompressed to what.
#[derive(Default)]
struct Fake {
    inflated: HashMap<Vec<u8>, Vec<u8>>,
    /// Why no archive can be listed.
    refuses: Option<Code>,
}

impl Unpacker for Fake {
    fn index(&mut self, archive: BorrowedFd<'_>) -> Result<Vec<ArchiveEntry>> {
        if let Some(code) = self.refuses {
            return Err(Error::new(code, "the archive is not an image's"));
        }
        let file = File::from(archive.try_clone_to_owned().unwrap());
        let (mut at, mut entries) = (0, Vec::new());
        let mut block = [0; 512];
        while file.read_exact_at(&mut block, at).is_ok() && block[257..262] == *b"ustar" {
            let text = |range: std::ops::Range<usize>| {
                block[range].iter().copied().take_while(|byte| *byte != 0).collect::<Vec<u8>>()
            };
            let length = u64::from_str_radix(&String::from_utf8(text(124..136)).unwrap(), 8).unwrap();
            let link = matches!(block[156], b'1' | b'2').then(|| text(157..257));
            entries.push(ArchiveEntry { name: text(0..100), offset: at + 512, length, link });
            at += 512 + length.next_multiple_of(512);
        }
        Ok(entries)
    }

    fn inflate(&mut self, input: OwnedFd, into: OwnedFd) -> Result<u64> {
        let mut bytes = vec![0; 4];
        File::from(input).read_exact_at(&mut bytes, 0).unwrap();
        let plain = &self.inflated[&bytes];
        File::from(into).write_all_at(plain, 0).unwrap();
        Ok(plain.len() as u64)
    }
}

fn archive(parts: &Parts) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = tar::Archive::new(&mut bytes);
    for (path, content) in parts {
        let text = String::from_utf8_lossy(content);
        let kind = match text.strip_prefix("-> ") {
            Some(target) => tar::Kind::SymbolicLink(target.as_bytes()),
            None => tar::Kind::File,
        };
        let entry = tar::Entry {
            path: path.as_bytes(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            seconds: 0,
            nanoseconds: 0,
        };
        if kind != tar::Kind::File {
            archive.entry(&entry).unwrap();
            continue;
        }
        archive.file(&entry, content.len() as u64).unwrap();
        archive.content(content).unwrap();
        archive.pad(content.len() as u64).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

fn unpack(parts: &Parts) -> Directory {
    let top = Directory::new();
    for (path, content) in parts {
        top.file(path, content);
    }
    top
}

/// Adds a blob, and gives its descriptor.
fn blob(parts: &mut Parts, media_type: &str, content: &[u8]) -> Value {
    let digest = Digest::of(content);
    parts.push((container::blob(digest), content.to_vec()));
    json!({ "mediaType": media_type, "digest": digest.to_string(), "size": content.len() })
}

fn config(architecture: &str, layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    json!({
        "os": "linux", "architecture": architecture, "config": { "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
    .to_string()
    .into_bytes()
}

/// Adds an image of an OCI layout, and gives its manifest's descriptor.
fn image(parts: &mut Parts, architecture: &str, layers: &[&[u8]]) -> Value {
    let config = blob(parts, "application/vnd.oci.image.config.v1+json", &config(architecture, layers));
    let layers: Vec<Value> =
        layers.iter().map(|layer| blob(parts, "application/vnd.oci.image.layer.v1.tar", layer)).collect();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
    blob(parts, "application/vnd.oci.image.manifest.v1+json", manifest.as_bytes())
}

fn index(manifests: &[Value]) -> Vec<u8> {
    json!({ "schemaVersion": 2, "manifests": manifests }).to_string().into_bytes()
}

fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    descriptor
}

fn on(mut descriptor: Value, architecture: &str) -> Value {
    descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
    descriptor
}

/// A layout with these entries of its index.
fn layout(mut parts: Parts, manifests: &[Value]) -> Parts {
    parts.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    parts.push(("index.json".to_owned(), index(manifests)));
    parts
}

struct Rig {
    top: Directory,
    store: Store,
    fake: Fake,
    cancelled: AtomicBool,
}

impl Rig {
    fn new() -> Self {
        let top = Directory::new();
        let store = Store::open(&top.path().join("store")).unwrap();
        Self { top, store, fake: Fake::default(), cancelled: AtomicBool::new(false) }
    }

    fn find(&mut self, source: Source, format: Format, name: Option<&str>) -> Result<Found> {
        let platform = Platform::parse("linux/amd64").unwrap();
        let mut importer = Importer {
            store: &self.store,
            unpacker: &mut self.fake,
            max_bytes: 1 << 20,
            cancelled: &self.cancelled,
        };
        importer.find(source, format, Select { platform: &platform, name })
    }

    fn find_path(&mut self, path: &Path, name: Option<&str>) -> Result<Found> {
        self.find(Source::Path(path.to_owned()), Format::Auto, name)
    }

    /// Looks for it in a directory and in an archive, and expects the same of both.
    fn find_both(&mut self, parts: &Parts, name: Option<&str>) -> Result<Found> {
        let directory = unpack(parts);
        let from_directory = self.find_path(directory.path(), name);
        let file = self.top.file("archive.tar", &archive(parts));
        let from_archive = self.find_path(&file, name);
        match (&from_directory, &from_archive) {
            (Ok(a), Ok(b)) => {
                assert_eq!((&a.config, &a.names, a.kind, a.id()), (&b.config, &b.names, b.kind, b.id()));
                assert_eq!(contents(a).unwrap(), contents(b).unwrap());
            }
            (Err(a), Err(b)) => {
                let text = |error: &Error| error.message().split_once(": ").unwrap().1.to_owned();
                assert_eq!((a.code(), text(a)), (b.code(), text(b)));
            }
            _ => panic!("{from_directory:?} and {from_archive:?}"),
        }
        from_archive
    }

    fn failure(&mut self, parts: &Parts, name: Option<&str>) -> String {
        self.find_both(parts, name).unwrap_err().message().to_owned()
    }
}

/// The bytes of each layer.
fn contents(found: &Found) -> Result<Vec<Vec<u8>>> {
    let layers = match &found.content {
        Content::Layers(layers) => layers.clone(),
        Content::Tarball(layer) => vec![layer.clone()],
        Content::Directory(_) => Vec::new(),
    };
    let live = AtomicBool::new(false);
    let read = |layer: &Layer| {
        let (fd, (offset, length)) = layer.open(&live)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        File::from(fd).read_exact_at(&mut bytes, offset).unwrap();
        Ok(bytes)
    };
    layers.iter().map(read).collect()
}

const LAYERS: &[&[u8]] = &[b"the lowest layer", b"the next layer"];

#[test]
fn the_only_image_of_a_layout_is_found() {
    let mut parts = Parts::new();
    let manifest = image(&mut parts, "amd64", LAYERS);
    for manifest in [manifest.clone(), named(manifest.clone(), "latest"), on(manifest, "amd64")] {
        let found = Rig::new().find_both(&layout(parts.clone(), &[manifest]), None).unwrap();
        assert_eq!(found.kind, OriginKind::OciLayout);
        assert_eq!(contents(&found).unwrap(), LAYERS);
        let diff_ids: Vec<Digest> = LAYERS.iter().map(|layer| Digest::of(layer)).collect();
        assert_eq!(found.id(), Some(id_of_layers(Digest::of(&config("amd64", LAYERS)), &diff_ids)));
        assert_eq!(found.bytes().unwrap(), 30);
    }
}

#[test]
fn an_image_is_chosen_by_name() {
    let mut parts = Parts::new();
    let one = named(image(&mut parts, "amd64", &LAYERS[..1]), "docker.io/library/one:1");
    let two = named(image(&mut parts, "amd64", LAYERS), "2");
    let parts = layout(parts, &[one, two]);
    let mut rig = Rig::new();
    for name in ["docker.io/library/one:1", "one:1"] {
        let found = rig.find_both(&parts, Some(name)).unwrap();
        assert_eq!(found.names, ["docker.io/library/one:1"]);
        assert_eq!(contents(&found).unwrap(), LAYERS[..1]);
    }
    assert_eq!(contents(&rig.find_both(&parts, Some("2")).unwrap()).unwrap(), LAYERS);
    let several = rig.failure(&parts, None);
    assert!(
        several.ends_with(r#"there are several images, select one: "2", "docker.io/library/one:1""#),
        "{several}"
    );
    let none = rig.failure(&parts, Some("three"));
    assert!(
        none.ends_with(r#"there is no image "three"; there are: "2", "docker.io/library/one:1""#),
        "{none}"
    );
}

#[test]
fn an_image_with_several_names_is_one() {
    let mut parts = Parts::new();
    let manifest = image(&mut parts, "amd64", LAYERS);
    let entries = [named(manifest.clone(), "1"), named(manifest.clone(), "1.0"), manifest];
    let parts = layout(parts, &entries);
    let mut rig = Rig::new();
    assert_eq!(rig.find_both(&parts, None).unwrap().names, ["1", "1.0"]);
    assert_eq!(rig.find_both(&parts, Some("1.0")).unwrap().names, ["1.0"]);
}

#[test]
fn an_image_is_chosen_by_platform_also_in_an_index_in_the_index() {
    let mut parts = Parts::new();
    let arm = on(image(&mut parts, "arm64", &LAYERS[..1]), "arm64");
    let amd = on(image(&mut parts, "amd64", LAYERS), "amd64");
    let inner =
        blob(&mut parts, "application/vnd.oci.image.index.v1+json", &index(&[arm.clone(), amd.clone()]));
    let mut rig = Rig::new();
    for manifests in [vec![arm.clone(), amd], vec![named(inner, "x")]] {
        let found = rig.find_both(&layout(parts.clone(), &manifests), None).unwrap();
        assert_eq!(contents(&found).unwrap(), LAYERS);
    }
    let other = rig.failure(&layout(parts, &[arm]), None);
    assert!(other.contains("there is no image for linux/amd64; there are: \"linux/arm64\""), "{other}");
}

#[test]
fn indexes_that_lead_to_one_another_end() {
    let mut parts = Parts::new();
    let mut inner = image(&mut parts, "amd64", LAYERS);
    for _ in 0..8 {
        inner = blob(&mut parts, "application/vnd.oci.image.index.v1+json", &index(&[inner]));
    }
    let text = Rig::new().failure(&layout(parts, &[inner]), None);
    assert!(text.ends_with("has more than 4 indexes in one another"), "{text}");
}

#[test]
fn every_part_of_a_layout_has_to_have_its_digest_and_size() {
    let mut parts = Parts::new();
    let manifest = image(&mut parts, "amd64", LAYERS);
    let good = layout(parts, std::slice::from_ref(&manifest));
    // The configuration, each layer, and the manifest: another byte, or one more, or missing.
    for number in 0..4 {
        let mut changed = good.clone();
        changed[number].1[0] ^= 1;
        let mut longer = good.clone();
        longer[number].1.push(b' ');
        let mut missing = good.clone();
        let name = missing.remove(number).0;
        for (parts, text) in [(changed, "has the digest"), (longer, "not "), (missing, "is missing")] {
            let file = archive(&parts);
            let mut rig = Rig::new();
            for path in [rig.top.file("a.tar", &file), unpack(&parts).path().to_owned()] {
                if !path.exists() {
                    continue;
                }
                let error = rig.find_path(&path, None).and_then(|found| contents(&found)).unwrap_err();
                assert!(error.message().contains(text) && error.message().contains(&name), "{error}");
            }
        }
    }
    let mut wrong = manifest;
    wrong["size"] = json!(1);
    let mut parts = good[..4].to_vec();
    parts = layout(parts, &[wrong]);
    assert!(Rig::new().failure(&parts, None).contains("not 1 as its descriptor says"));
}

#[test]
fn a_layout_s_parts_are_not_read_through_links() {
    let mut parts = Parts::new();
    let manifest = image(&mut parts, "amd64", LAYERS);
    let parts = layout(parts, &[manifest]);
    let mut rig = Rig::new();
    let top = unpack(&parts);
    let config = top.path().join(&parts[0].0);
    fs::rename(&config, top.path().join("elsewhere")).unwrap();
    symlink(top.path().join("elsewhere"), &config).unwrap();
    let error = rig.find_path(top.path(), None).unwrap_err();
    assert!(error.message().contains("is reached through a symbolic link"), "{error}");
    fs::remove_file(&config).unwrap();
    fs::create_dir(&config).unwrap();
    let error = rig.find_path(top.path(), None).unwrap_err();
    assert!(error.message().contains("is not a regular file"), "{error}");
    let bad = |digest: &str| {
        let descriptor =
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 2 });
        Rig::new().failure(&layout(Vec::new(), &[descriptor]), None)
    };
    for digest in ["sha256:../../../../etc/passwd", "sha512:00", "", "sha256:"] {
        bad(digest);
    }
}

#[test]
fn what_is_no_image_is_a_root_file_system() {
    let mut rig = Rig::new();
    let root = vec![("bin/sh".to_owned(), b"x".to_vec()), ("manifest.json".to_owned(), b"{}".to_vec())];
    let bytes = archive(&root);
    let path = rig.top.file("root.tar", &bytes);
    for format in [Format::Auto, Format::Tarball] {
        let found = rig.find(Source::Path(path.clone()), format, None).unwrap();
        assert_eq!((found.kind, found.id()), (OriginKind::RootTarball, None));
        assert_eq!(contents(&found).unwrap(), [&bytes[..]]);
        let config = ImageConfig::parse(&found.config).unwrap();
        assert_eq!((&config.os[..], &config.architecture[..]), ("linux", "amd64"));
    }
    for code in [Code::Limit, Code::Image] {
        rig.fake.refuses = Some(code);
        assert_eq!(rig.find_path(&path, None).unwrap().kind, OriginKind::RootTarball);
        assert_eq!(rig.find(Source::Path(path.clone()), Format::Oci, None).unwrap_err().code(), code);
    }
    rig.fake.refuses = Some(Code::Closed);
    assert_eq!(rig.find_path(&path, None).unwrap_err().code(), Code::Closed);
    rig.fake.refuses = None;
    let directory = unpack(&root);
    let found = rig.find_path(directory.path(), None).unwrap();
    assert_eq!(found.kind, OriginKind::Directory);
    assert!(matches!(found.content, Content::Directory(_)));
    for (source, format, text) in [
        (path.clone(), Format::Oci, "is no OCI image layout"),
        (path.clone(), Format::Docker, "must be an array of images"),
        (path, Format::Directory, "is not a directory"),
        (directory.path().to_owned(), Format::Oci, "is no OCI image layout"),
        (directory.path().to_owned(), Format::Tarball, "is a directory, not an archive"),
    ] {
        let error = rig.find(Source::Path(source.clone()), format, None).unwrap_err();
        assert!(error.message().contains(text), "{error}");
        assert!(error.message().starts_with(&format!("{source:?}: ")), "{error}");
    }
    let missing = rig.find_path(&directory.path().join("missing"), None).unwrap_err();
    assert_eq!(missing.os_error(), Some(libc::ENOENT));
}

#[test]
fn a_compressed_archive_is_decompressed_by_the_helper_first() {
    let mut rig = Rig::new();
    let magics: [&[u8]; 3] = [&[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18]];
    for magic in magics {
        rig.fake.inflated.insert(magic.to_vec(), archive(&old_docker()));
        let path = rig.top.file("compressed", magic);
        let found = rig.find_path(&path, None).unwrap();
        assert_eq!(contents(&found).unwrap().len(), 3);
        // A root's tarball is decompressed as a layer is.
        let found = rig.find(Source::Path(path), Format::Tarball, None).unwrap();
        assert_eq!(contents(&found).unwrap(), [magic]);
    }
    for (magic, text) in [
        (&b"\xfd7zXZ\0"[..], "is compressed by xz"),
        (b"BZh9", "is compressed by bzip2"),
        (b"PK\x03\x04", "is a zip archive"),
        (b"!<arch>\n", "is an ar archive"),
    ] {
        let path = rig.top.file("other", magic);
        let error = rig.find_path(&path, None).unwrap_err();
        assert!(error.message().contains(text), "{error}");
    }
}

#[test]
fn a_pipe_has_a_limit_and_can_be_cancelled() {
    let mut rig = Rig::new();
    let (reader, mut writer) = io::pipe().unwrap();
    let sender = thread::spawn(move || while writer.write_all(&[0; 4096]).is_ok() {});
    let error = rig.find(Source::Descriptor(reader.into()), Format::Auto, None).unwrap_err();
    assert_eq!(error.code(), Code::Limit, "{error}");
    sender.join().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let cancel = thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let platform = Platform::host();
            let mut importer = Importer {
                store: &rig.store,
                unpacker: &mut rig.fake,
                max_bytes: 1,
                cancelled: &rig.cancelled,
            };
            let select = Select { platform: &platform, name: None };
            importer.find(Source::Descriptor(reader.into()), Format::Auto, select)
        });
        rig.cancelled.store(true, Ordering::Relaxed);
        waiting.join().unwrap().unwrap_err()
    });
    assert_eq!(cancel.code(), Code::Closed);
    assert_eq!(fs::read_dir(rig.top.path().join("store/v1/tmp")).unwrap().count(), 0);
}

#[test]
fn the_sum_of_layers_has_no_overflow() {
    let entry = ArchiveEntry { name: b"layer".to_vec(), offset: 0, length: u64::MAX, link: None };
    let file = File::open("/dev/null").unwrap();
    let layer = Layer {
        container: Arc::new(Container::archive(file, None, vec![entry])),
        name: "layer".to_owned(),
        digest: None,
        size: None,
        diff_id: None,
    };
    let content = Content::Layers(vec![layer.clone(), layer]);
    let found = Found { kind: OriginKind::OciLayout, config: Vec::new(), names: Vec::new(), content };
    assert_eq!(found.bytes().unwrap(), u64::MAX);
}
