//! What a program in a sandbox sees of an image.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use sha2::{Digest, Sha256};

use super::{Node, Seen, attributes, children, make, read, tame};
use crate::image::testing::Directory;
use crate::{Config, ImageFile, Process, Runtime, RuntimeConfig, Sandbox, Stdio, Stream};

const PATIENCE: Duration = Duration::from_secs(300);
const TREES: usize = 1000;

/// Prints a digest of each tree, or what it is of, of those that are named. Each file is read and mapped.
const LOOK: &str = r#"
import hashlib, mmap, os, stat, sys

def lines(top):
    rest = [b""]
    while rest:
        path = rest.pop()
        full = top + (b"/" + path if path else b"")
        there = os.lstat(full)
        data, links = b"", there.st_nlink
        if stat.S_ISDIR(there.st_mode):
            links = 0
            rest += [path + b"/" + name if path else name for name in os.listdir(full)]
        elif stat.S_ISLNK(there.st_mode):
            data = os.readlink(full)
        elif stat.S_ISREG(there.st_mode):
            with open(full, "rb") as file:
                data = file.read()
                if data:
                    assert mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[:] == data, path
        yield "%s %o %d:%d %d %d %s" % (path.hex(), there.st_mode, there.st_uid, there.st_gid, there.st_mtime_ns,
                                        links, hashlib.sha256(data).hexdigest())

for name in sys.argv[1:] or sorted(os.listdir("/image")):
    text = "\n".join(sorted(lines(os.fsencode("/image/" + name))))
    print(text if sys.argv[1:] else name + " " + hashlib.sha256(text.encode()).hexdigest())
"#;

fn look(sandbox: &Sandbox, names: &[&str]) -> String {
    let mut exec = crate::Exec::new();
    exec.set_command(["/usr/bin/python3", "-c", LOOK].iter().chain(names)).unwrap();
    exec.set_stdio(Stream::Stdout, Stdio::Capture { head: 1 << 18, tail: 0 }).unwrap();
    exec.set_stdio(Stream::Stderr, Stdio::capture()).unwrap();
    let process: Process = sandbox.exec(&exec).unwrap();
    let exit = process.wait(Some(PATIENCE)).unwrap();
    let captured = |stream| String::from_utf8(process.captured(stream).unwrap().head).unwrap();
    assert_eq!(exit.code, 0, "{}", captured(Stream::Stderr));
    captured(Stream::Stdout)
}

/// The same of what the tests' own reader finds, by tree.
fn expected(image: &[u8]) -> BTreeMap<String, String> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, seen) in read(image).into_iter().filter(|(path, _)| !path.is_empty()) {
        let (tree, rest) = match path.iter().position(|byte| *byte == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..], &b""[..]),
        };
        let Seen { mode, user, group, seconds, nanoseconds, links, data, .. } = seen;
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").unwrap();
                text
            })
        };
        let links = if mode >> 12 == 4 { 0 } else { links };
        let time = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        let digest = hex(&Sha256::digest(&data));
        let line = format!("{} {mode:o} {user}:{group} {time} {links} {digest}", hex(rest));
        lines.entry(String::from_utf8(tree.to_vec()).unwrap()).or_default().push(line);
    }
    lines
        .into_iter()
        .map(|(tree, mut lines)| {
            lines.sort();
            (tree, lines.join("\n"))
        })
        .collect()
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_thousand_trees_are_seen_as_they_were_written() {
    let mut runner = TestRunner::deterministic();
    let mut trees: BTreeMap<Vec<u8>, Node> = (0..TREES)
        .map(|at| {
            let own = attributes().new_tree(&mut runner).unwrap().current();
            let tree = children().new_tree(&mut runner).unwrap().current();
            (format!("{at:03}").into_bytes(), Node::Directory(own, tree))
        })
        .collect();
    tame(&mut trees);
    let (image, ..) = make(&super::attributes_of(0o755), &trees, &[]);
    let expected = expected(&image);
    assert_eq!(expected.len(), TREES);
    let directory = Directory::new();
    let file = File::open(directory.file("image", &image)).unwrap();
    let mut config = Config::new();
    config.mount_image_file(&ImageFile::new(file), "/image").unwrap();
    let runtime = Runtime::new(&RuntimeConfig::default()).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let seen = look(&sandbox, &[]);
    let digests = seen.lines().filter_map(|line| line.split_once(' '));
    for (name, digest) in digests.clone() {
        let text = &expected[name];
        if Sha256::digest(text)[..] != decode(digest)[..] {
            assert_eq!(look(&sandbox, &[name]).trim_end(), text, "tree {name}");
        }
    }
    assert_eq!(digests.count(), TREES);
}

fn decode(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
