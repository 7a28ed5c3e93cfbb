//! Images whose layers do everything that layers can do to one another, in every form that skopeo writes. A sandbox's files
//! are compared with those that `umoci unpack` makes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by it")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{PATIENCE, Scratch, output, runsc};
use sbx::{Config, Image, ImageFormat, ImageOptions, Runtime, RuntimeConfig, Stdio, Stream};

/// Debian's busybox-static.
const BUSYBOX: &str = "/usr/bin/busybox";

/// Lists all files of the image, but for what every sandbox has its own of.
const LIST: &str = r#"
all="bin changed kinds lib links names owned sizes sticky usr"
find $all -print0 | xargs -0 stat -c '%F|%n|%a|%u|%g|%s|%Y|%h|%t:%T'
find $all -type f -print0 | xargs -0 sha256sum
find $all -type l -print0 | xargs -0 -n 1 sh -c 'echo "$0 -> $(readlink "$0")"'
"#;

/// An image's files, one line for each of their properties.
fn listed(text: &str, with_owners: bool) -> Vec<String> {
    // gVisor reads no device numbers from an EROFS file, so that a character device looks like a whiteout.
    let devices = ["kinds/null", "kinds/loop"];
    // An ordinary user can't read it on the host.
    let unreadable = "owned/none";
    let is_compared = |line: &&str| {
        !devices.iter().any(|name| line.contains(name)) && (with_owners || !line.contains(unreadable))
    };
    let mut lines: Vec<String> = text
        .lines()
        .filter(is_compared)
        .map(|line| {
            let mut fields: Vec<&str> = line.split('|').collect();
            if fields.len() == 9 {
                if fields[0] == "directory" {
                    // The size, the time of those that no layer has, and the number of names are the file system's.
                    fields[5..8].fill("");
                }
                if !with_owners {
                    fields[3..5].fill("");
                }
            }
            fields.join("|")
        })
        .collect();
    lines.sort();
    lines
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn skopeo(scratch: &Scratch, from: &str, to: &str, options: &[&str]) {
    let transport = |text: &str| {
        let (kind, path) = text.split_once(':').unwrap();
        format!("{kind}:{}", scratch.path(path))
    };
    run(Command::new("skopeo")
        .env("HOME", &scratch.0)
        .args(["--insecure-policy", "copy", "--quiet"])
        .args(options)
        .args([transport(from), transport(to)]));
}

/// Makes the image, and unpacks it with umoci; whether with the owners that it has.
fn make(scratch: &Scratch) -> bool {
    // Where it is now: the build's place may not be visible here.
    let top = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let script = Path::new(&top).join("tests/images/layout.py");
    run(Command::new("python3").arg(script).args([&scratch.path("layout"), BUSYBOX]));
    // Devices need more than being root.
    let with_owners = Command::new("mknod")
        .args([&scratch.path("probe"), "c", "1", "3"])
        .output()
        .unwrap()
        .status
        .success();
    let rootless: &[&str] = if with_owners { &[] } else { &["--rootless"] };
    run(Command::new("umoci").env("HOME", &scratch.0).arg("unpack").args(rootless).args([
        "--image",
        &scratch.path("layout:odd"),
        &scratch.path("bundle"),
    ]));
    with_owners
}

fn files_of_umoci(scratch: &Scratch, with_owners: bool) -> Vec<String> {
    let output = Command::new(BUSYBOX)
        .args(["sh", "-c", LIST])
        .current_dir(scratch.0.join("bundle/rootfs"))
        .env("PATH", scratch.0.join("bundle/rootfs/bin"))
        .output()
        .unwrap();
    listed(&String::from_utf8(output.stdout).unwrap(), with_owners)
}

fn files_of_image(runtime: &Runtime, image: &Image, with_owners: bool) -> Vec<String> {
    let mut config = Config::new();
    config.set_image(image).unwrap();
    config.set_command(["sh", "-c", &format!("cd /\n{LIST}")]).unwrap();
    config.set_stdio(Stream::Stdout, Stdio::Capture { head: 1 << 20, tail: 0 }).unwrap();
    config.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap().code, 0, "{}", output(&sandbox));
    listed(&output(&sandbox), with_owners)
}

fn scratch(name: &str) -> (Scratch, Runtime) {
    runsc();
    let scratch = Scratch::new(name);
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
    let runtime = Runtime::new(&RuntimeConfig::new().image_directory(scratch.0.join("images"))).unwrap();
    (scratch, runtime)
}

#[track_caller]
fn assert_same(found: &[String], expected: &[String], what: &str) {
    let missing: Vec<&String> = expected.iter().filter(|line| !found.contains(line)).collect();
    let more: Vec<&String> = found.iter().filter(|line| !expected.contains(line)).collect();
    assert!(missing.is_empty() && more.is_empty(), "{what}: missing {missing:#?}, too much {more:#?}");
    assert!(found.len() > 100, "{what}: {}", found.len());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn the_layers_of_an_image_are_applied_as_umoci_applies_them() {
    let (scratch, runtime) = scratch("layers");
    let with_owners = make(&scratch);
    let expected = files_of_umoci(&scratch, with_owners);
    skopeo(&scratch, "oci:layout:odd", "oci-archive:oci.tar:odd", &[]);
    skopeo(&scratch, "oci:layout:odd", "docker-archive:docker.tar:odd:1", &[]);
    skopeo(&scratch, "oci:layout:odd", "oci:zstd:odd", &["--dest-compress-format", "zstd"]);
    run(Command::new("gzip").args(["-k", &scratch.path("docker.tar")]));
    let mut ids = Vec::new();
    for (name, format) in [
        ("layout", ImageFormat::Auto),
        ("oci.tar", ImageFormat::Auto),
        ("docker.tar", ImageFormat::Auto),
        ("docker.tar.gz", ImageFormat::Docker),
        ("zstd", ImageFormat::Oci),
    ] {
        let mut options = ImageOptions::new();
        options.format = format;
        let image = runtime.import_image(scratch.0.join(name), &options).unwrap();
        // The same layers make the same image, however they are compressed.
        if !ids.iter().any(|id| id == image.id()) {
            assert_same(&files_of_image(&runtime, &image, with_owners), &expected, name);
            ids.push(image.id().to_owned());
        }
    }
    assert_eq!(ids.len(), 1, "skopeo keeps the configuration");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn a_directory_and_its_tarball_make_what_is_in_them() {
    let (scratch, runtime) = scratch("tree");
    let with_owners = make(&scratch);
    let root = scratch.0.join("bundle/rootfs");
    if !with_owners {
        fs::set_permissions(root.join("owned/none"), fs::Permissions::from_mode(0o400)).unwrap();
    }
    let sparse = File::create(root.join("sizes/sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 32 << 20).unwrap();
    let expected = files_of_umoci(&scratch, with_owners);
    run(Command::new("tar").args(["--sparse", "-C"]).arg(&root).args([
        "-cf",
        &scratch.path("root.tar"),
        ".",
    ]));
    let mut images = Vec::new();
    for (path, format) in [
        (root.clone(), ImageFormat::Directory),
        (root.clone(), ImageFormat::Auto),
        (PathBuf::from(scratch.path("root.tar")), ImageFormat::Auto),
    ] {
        let mut options = ImageOptions::new();
        options.format = format;
        let image = runtime.import_image(path.clone(), &options).unwrap();
        images.push((image, path));
    }
    // The holes are none of the image's on disk either. (Those of a tmpfs are filled when a sandbox maps them.)
    for file in fs::read_dir(scratch.0.join("images/v1/images")).unwrap() {
        let file = file.unwrap();
        let bytes = file.metadata().unwrap().blocks() * 512;
        assert!(bytes < 16 << 20, "{file:?}: {bytes}");
    }
    for (image, path) in images {
        assert_same(&files_of_image(&runtime, &image, with_owners), &expected, &format!("{path:?}"));
    }
    // The store is within the directory.
    let inner = Runtime::new(&RuntimeConfig::new().image_directory(root.join("cache/images"))).unwrap();
    let image = inner.import_image(root.clone(), &ImageOptions::new()).unwrap();
    assert_same(&files_of_image(&inner, &image, with_owners), &expected, "the store within");
    fs::remove_dir_all(root.join("cache")).unwrap();
    // More files than an image's archive may have.
    fs::create_dir(root.join("many")).unwrap();
    for number in 0..5000 {
        fs::write(root.join("many").join(number.to_string()), "").unwrap();
    }
    run(Command::new("tar").args(["--sparse", "-C"]).arg(&root).args([
        "-cf",
        &scratch.path("many.tar"),
        ".",
    ]));
    let image = runtime.import_image(scratch.0.join("many.tar"), &ImageOptions::new()).unwrap();
    assert_same(&files_of_image(&runtime, &image, with_owners), &expected, "many.tar");
}
