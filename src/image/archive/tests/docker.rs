//! Archives of `docker save`.

use super::*;

fn docker(images: &Value, mut parts: Parts) -> Parts {
    parts.push(("manifest.json".to_owned(), images.to_string().into_bytes()));
    parts
}

/// What docker wrote before 25: equal layers are links.
pub(super) fn old_docker() -> Parts {
    let layers = [LAYERS[0], LAYERS[1], LAYERS[0]];
    let config = config("amd64", &layers);
    let name = format!("{}.json", Digest::of(&config).hex());
    let images = json!([{ "Config": name, "RepoTags": ["one:1"], "Layers": ["a/layer.tar", "b/layer.tar", "c/layer.tar"] }]);
    let parts = vec![
        ("a/layer.tar".to_owned(), LAYERS[0].to_vec()),
        ("b/layer.tar".to_owned(), LAYERS[1].to_vec()),
        ("c/layer.tar".to_owned(), b"-> ../a/layer.tar".to_vec()),
        (name, config),
    ];
    docker(&images, parts)
}

#[test]
fn an_old_archive_of_docker_is_read() {
    let mut rig = Rig::new();
    let path = rig.top.file("a.tar", &archive(&old_docker()));
    for name in [None, Some("one:1"), Some("docker.io/library/one:1")] {
        let found = rig.find_path(&path, name).unwrap();
        assert_eq!((found.kind, &found.names[..]), (OriginKind::DockerArchive, &["one:1".to_owned()][..]));
        assert_eq!(contents(&found).unwrap(), [LAYERS[0], LAYERS[1], LAYERS[0]]);
    }
    // The same from a pipe.
    let (reader, mut writer) = io::pipe().unwrap();
    let bytes = archive(&old_docker());
    let sender = thread::spawn(move || writer.write_all(&bytes));
    let found = rig.find(Source::Descriptor(reader.into()), Format::Docker, None).unwrap();
    sender.join().unwrap().unwrap();
    assert_eq!(contents(&found).unwrap().len(), 3);
    drop(found);
    assert_eq!(fs::read_dir(rig.top.path().join("store/v1/tmp")).unwrap().count(), 0);
}

#[test]
fn a_new_archive_of_docker_is_read_as_either() {
    let mut parts = Parts::new();
    let manifest = image(&mut parts, "amd64", LAYERS);
    let names: Vec<String> = parts.iter().map(|(name, _)| name.clone()).collect();
    let images = json!([{ "Config": names[0], "RepoTags": ["one:1"], "Layers": &names[1..3] }]);
    let mut manifest = named(manifest, "1");
    manifest["annotations"]["io.containerd.image.name"] = json!("docker.io/library/one:1");
    let parts = docker(&images, layout(parts, &[manifest]));
    let mut rig = Rig::new();
    let found = rig.find_both(&parts, Some("one:1")).unwrap();
    assert_eq!(
        (found.kind, &found.names[..]),
        (OriginKind::OciLayout, &["docker.io/library/one:1".to_owned()][..])
    );
    let path = rig.top.file("a.tar", &archive(&parts));
    let as_docker = rig.find(Source::Path(path), Format::Docker, Some("one:1")).unwrap();
    assert_eq!(as_docker.kind, OriginKind::DockerArchive);
    assert_eq!(as_docker.id(), found.id());
    assert_eq!(contents(&as_docker).unwrap(), contents(&found).unwrap());
}

#[test]
fn bad_archives_of_docker_are_refused() {
    let layer = || ("a/layer.tar".to_owned(), LAYERS[0].to_vec());
    let entry = |config: &str, layers: &[&str]| json!([{ "Config": config, "Layers": layers }]);
    let part = |name: &str, content: Vec<u8>| (name.to_owned(), content);
    let one = config("amd64", &LAYERS[..1]);
    let wrong_digest = format!("{}.json", Digest::of(b"other").hex());
    for (images, parts, text) in [
        (entry("c", &["a/layer.tar"]), vec![layer()], r#""c": is missing"#),
        (entry("c", &["a/layer.tar"]), vec![layer(), part("c", b"x".to_vec())], "is not valid JSON"),
        (entry("../c", &["a/layer.tar"]), vec![layer()], "leads out of the image"),
        (entry("/c", &["a/layer.tar"]), vec![layer()], "leads out of the image"),
        (
            entry(&wrong_digest, &["a/layer.tar"]),
            vec![layer(), part(&wrong_digest, one.clone())],
            "has the digest",
        ),
        (
            entry("c", &[]),
            vec![part("c", one.clone())],
            "has 0 layers, but its configuration has the digests of 1",
        ),
        (
            entry("c", &["a"]),
            vec![part("c", config("s390x", &LAYERS[..1]))],
            "there is no image for linux/amd64",
        ),
        (json!([{ "Config": 1, "Layers": [] }]), vec![], "manifest.json[0]: Config: is a number"),
        (
            json!([{ "Config": "a", "Layers": [] }, { "Config": "b", "RepoTags": ["x:1"], "Layers": [] }]),
            vec![],
            r#"there are several images, select one: "a", "x:1""#,
        ),
    ] {
        let mut rig = Rig::new();
        let path = rig.top.file("a.tar", &archive(&docker(&images, parts)));
        let error = rig.find(Source::Path(path), Format::Docker, None).unwrap_err();
        assert!(error.message().contains(text), "{error}");
    }
    let mut rig = Rig::new();
    let path = rig.top.file("old.tar", &archive(&vec![part("repositories", b"{}".to_vec())]));
    let error = rig.find(Source::Path(path.clone()), Format::Docker, None).unwrap_err();
    assert!(error.message().contains("docker before 1.10"), "{error}");
    let missing = "layers that are missing are found when they are opened";
    let path = rig.top.file("a.tar", &archive(&docker(&entry("c", &["x"]), vec![part("c", one)])));
    let found = rig.find_path(&path, None).unwrap();
    assert!(contents(&found).unwrap_err().message().contains(r#""x": is missing"#), "{missing}");
}
