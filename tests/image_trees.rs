//! Random trees: as they come out of a sandbox they are what went into the archive.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by it")]

mod common;

use std::process::Command;

use common::images::TestStore;
use common::{PATIENCE, config, output};
use sbx::{ImageOptions, Stdio, Stream};

/// Writes a tar archive with random trees, and a line for each of their files. Its arguments are a seed, how many trees, and
/// the archive's path.
const MAKE: &str = r#"
import hashlib, io, random, sys, tarfile
seed, count, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
r = random.Random(seed)
lines = []
archive = tarfile.open(path, "w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape")

def name():
    if r.random() < 0.05:
        return "n" * r.choice([99, 100, 101, 156, 254, 255])
    alphabet = r.choice(["abc", "a b\n\t'\"\\$*", "äßж漢", "\udc80\udcff\x01\x7f", ".-_~"])
    text = "".join(r.choice(alphabet) for _ in range(r.randint(1, 12)))
    while len(text.encode("utf-8", "surrogateescape")) > 255:
        text = text[:-1]
    return text + "x" if text in (".", "..") or text.startswith(".wh.") else text

def owner():
    return r.choice([0, 1, 1000, 65534, 100000, 2**31, 2**32 - 2])

def line(path, kind, info, size, links, rest):
    lines.append("|".join([path.encode("utf-8", "surrogateescape").hex(), kind, "%o" % info.mode, str(info.uid),
        str(info.gid), str(info.mtime), size, links, rest]))

def info(path, kind):
    made = tarfile.TarInfo(path)
    made.type, made.uid, made.gid = kind, owner(), owner()
    made.mode = r.choice([0o644, 0o755, 0, 0o7777, 0o4755, 0o2750, 0o1777, r.randrange(0o10000)])
    made.mtime = r.choice([0, 1, 1700000000, 2**31 + 5, 2**33])
    return made

def content():
    size = r.choice([0, 1, 4095, 4096, 4097, 65536, r.randint(0, 20000)])
    return r.randbytes(size)

def sparse(made):
    # As GNU tar writes it (GNU.sparse 1.0).
    size = r.randint(1, 40) * 4096 + r.choice([0, 17])
    parts, at = [], 0
    while at < size:
        at += r.randint(0, 5) * 4096
        length = min(r.randint(1, 3) * 1000, size - at)
        if length <= 0: break
        parts.append((at, r.randbytes(length)))
        at += length
    whole = bytearray(size)
    for at, data in parts: whole[at:at + len(data)] = data
    parts.append((size, b""))
    text = "%d\n" % len(parts) + "".join("%d\n%d\n" % (at, len(data)) for at, data in parts)
    head = text.encode()
    head += b"\0" * (-len(head) % 512)
    made.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": made.name,
        "GNU.sparse.realsize": str(size)}
    return bytes(whole), head + b"".join(data for _, data in parts)

def fill(directory, depth, files):
    names = set()
    for _ in range(r.randint(0, 6)):
        chosen = name()
        if chosen in names: continue
        names.add(chosen)
        path = directory + "/" + chosen
        kind = r.random()
        if kind < 0.25 and depth < 5:
            made = info(path, tarfile.DIRTYPE)
            archive.addfile(made)
            line(path, "d", made, "", "", "")
            fill(path, depth + 1, files)
        elif kind < 0.4:
            made = info(path, tarfile.SYMTYPE)
            made.mode = 0o777
            made.linkname = r.choice([name(), "../" + name(), "/" + name(), "t" * 1000])
            archive.addfile(made)
            line(path, "l", made, "", "1", made.linkname.encode("utf-8", "surrogateescape").hex())
        elif kind < 0.45:
            made = info(path, tarfile.FIFOTYPE)
            archive.addfile(made)
            line(path, "p", made, "", "1", "")
        elif kind < 0.55 and files:
            first, of = r.choice(files)
            made = info(path, tarfile.LNKTYPE)
            made.linkname = first
            archive.addfile(made)
            of.append(path)
        else:
            made = info(path, tarfile.REGTYPE)
            whole = data = content()
            if r.random() < 0.15:
                whole, data = sparse(made)
            made.size = len(data)
            archive.addfile(made, io.BytesIO(data))
            files.append((path, [path]))
            made_files.append((made, files[-1][1], whole))

made_files = []
for tree in range(count):
    top = info("tree%d" % tree, tarfile.DIRTYPE)
    archive.addfile(top)
    line("tree%d" % tree, "d", top, "", "", "")
    fill("tree%d" % tree, 0, [])
for made, paths, whole in made_files:
    for path in paths:
        line(path, "f", made, str(len(whole)), str(len(paths)), hashlib.sha256(whole).hexdigest())
archive.close()
print("\n".join(sorted(lines)))
"#;

/// Writes the same lines of what is below a directory.
const LIST: &str = r#"
import hashlib, os, stat, sys
top, lines = os.fsencode(sys.argv[1]), []
def look(path):
    s = os.lstat(path)
    kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFREG: "f"}.get(stat.S_IFMT(s.st_mode), "?")
    size = links = rest = ""
    if kind != "d": links = str(s.st_nlink)
    if kind == "f":
        size = str(s.st_size)
        with open(path, "rb") as file: rest = hashlib.sha256(file.read()).hexdigest()
    if kind == "l": rest = os.readlink(path).hex()
    lines.append("|".join([path[len(top) + 1:].hex(), kind, "%o" % stat.S_IMODE(s.st_mode), str(s.st_uid), str(s.st_gid),
        str(int(s.st_mtime)), size, links, rest]))
    if kind == "d":
        for name in os.listdir(path): look(path + b"/" + name)
# An image has some empty directories of its own, for what every sandbox mounts.
for name in os.listdir(top):
    if name.startswith(b"tree"): look(top + b"/" + name)
print("\n".join(sorted(lines)))
"#;

/// How many trees are in one image.
const TREES: u64 = 50;

fn trees_are_equal(seeds: std::ops::Range<u64>) {
    let store = TestStore::new("trees");
    for seed in seeds {
        let path = store.scratch.path("trees.tar");
        let (number, count) = (seed.to_string(), TREES.to_string());
        let made = Command::new("python3").args(["-c", MAKE, &number, &count, &path]).output().unwrap();
        assert!(made.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&made.stderr));
        let expected = String::from_utf8(made.stdout).unwrap();
        let image = store.runtime.import_image(&path[..], &ImageOptions::new()).unwrap();
        let mut config = config(&["python3", "-c", LIST, "/trees"]);
        config.set_user("0").unwrap();
        config.mount_image(&image, "/trees").unwrap();
        config.set_stdio(Stream::Stdout, Stdio::Capture { head: 4 << 20, tail: 0 }).unwrap();
        let sandbox = store.runtime.create(&config).unwrap();
        let exit = sandbox.wait(PATIENCE).unwrap();
        assert_eq!(exit.code, 0, "seed {seed}: {}", common::text(&sandbox, Stream::Stderr));
        let found = output(&sandbox);
        let missing: Vec<&str> = expected.lines().filter(|line| !found.contains(line)).collect();
        let more: Vec<&str> = found.lines().filter(|line| !expected.contains(line)).collect();
        assert!(
            missing.is_empty() && more.is_empty(),
            "seed {seed}: missing {missing:#?}, too much {more:#?}"
        );
        assert!(expected.lines().count() > 100 && expected == found, "seed {seed}");
        store.runtime.remove_image(image.id()).unwrap();
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs SBX_RUNSC: sh tests/run.sh sets it")]
fn random_trees_come_out_as_they_went_in() {
    trees_are_equal(0..3);
}

#[test]
#[ignore = "a thousand trees take a minute"]
fn a_thousand_random_trees_come_out_as_they_went_in() {
    trees_are_equal(1000..1000 + 1000 / TREES);
}
