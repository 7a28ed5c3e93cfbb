//! Layers to images: what docker and umoci make of them, and what other programs write. One file: what a test does is to compare
//! an image with what a list of layers should make.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::{Converter, Limits, Output, Summary, Trouble, Whiteouts};
use crate::image::erofs::tests::{Seen, plain, read};

mod archive;
mod programs;
mod tricks;

use archive::{Tar, octal};

type Found = BTreeMap<String, Seen>;

fn convert_with(limits: Limits, layers: &[(&[u8], Whiteouts)]) -> Result<(Vec<u8>, Summary), Trouble> {
    let mut converter = Converter::new(Vec::new(), limits);
    for (layer, whiteouts) in layers {
        converter.layer(&mut &**layer, None, *whiteouts)?;
    }
    converter.finish()
}

/// Converts, and reads what comes of it, without the directories that sandboxes mount over.
fn convert(layers: &[Vec<u8>]) -> Result<Found, Trouble> {
    let layers: Vec<_> = layers.iter().map(|layer| (&layer[..], Whiteouts::Oci)).collect();
    convert_with(Limits::default(), &layers).map(|(image, _)| found(&image))
}

fn found(image: &[u8]) -> Found {
    let mut found: Found =
        read(image).into_iter().map(|(path, seen)| (path.escape_ascii().to_string(), seen)).collect();
    for added in ["", "proc", "sys", "dev", "tmp", "etc", ".sbx"] {
        if found.get(added).is_some_and(|seen| seen.seconds == 0) {
            found.remove(added);
        }
    }
    found
}

fn paths(found: &Found) -> Vec<&str> {
    found.keys().map(String::as_str).collect()
}

fn refusal(layers: &[Vec<u8>]) -> String {
    match convert(layers) {
        Err(Trouble::Malformed(text)) => text,
        Err(Trouble::Limit(text)) => format!("limit: {text}"),
        other => panic!("{other:?}"),
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn a_layer_has_files_of_every_type() {
    let layer = Tar::default()
        .directory("./")
        .directory("usr/")
        .file("usr/file", b"data")
        .symlink("link", "usr/file")
        .hard_link("hard", "/usr/file")
        .device("null", 1, 3)
        .header(b"disk", b'4', 0, |block| {
            octal(block, 329, 8, 259);
            octal(block, 337, 8, 65_537);
        })
        .header(b"fifo", b'6', 0, |block| octal(block, 100, 8, 0o4711))
        .end();
    let (image, summary) = convert_with(Limits::default(), &[(&layer, Whiteouts::Oci)]).unwrap();
    let found = found(&image);
    let expected = ["", "disk", "fifo", "hard", "link", "null", "usr", "usr/file"];
    assert_eq!(paths(&found), expected);
    assert_eq!(found["usr/file"].data, b"data");
    assert_eq!(found["usr/file"].inode, found["hard"].inode);
    assert_eq!((found["link"].mode, &found["link"].data[..]), (0o120_777, &b"usr/file"[..]));
    assert_eq!((found["null"].mode, found["null"].device), (0o020_644, 0x103));
    assert_eq!((found["disk"].mode, found["disk"].device), (0o060_644, 0x1001_0301));
    assert_eq!(found["fifo"].mode, 0o014_711);
    assert_eq!(found["usr"].seconds, 1_700_000_000);
    let Summary { entries, bytes, content_bytes, dropped_xattrs, diff_ids } = summary;
    assert_eq!((entries, content_bytes, dropped_xattrs), (14, 4, 0));
    assert_eq!(bytes, image.len() as u64);
    assert_eq!(diff_ids, [<[u8; 32]>::from(Sha256::digest(&layer))]);
}

#[test]
fn directories_that_are_mounted_over_are_added() {
    let layer = Tar::default().directory("usr").symlink("etc", "usr/etc").directory("usr/etc").end();
    let (image, _) = convert_with(Limits::default(), &[(&layer, Whiteouts::Oci)]).unwrap();
    let all = read(&image);
    for (path, mode) in [("proc", 0o755), ("sys", 0o755), ("dev", 0o755), (".sbx", 0o755), ("tmp", 0o1777)] {
        assert_eq!(all[path.as_bytes()].mode, 0o040_000 | mode, "{path}");
    }
    assert_eq!(all[&b"etc"[..]].mode, 0o120_777);
    for (name, target) in
        [("proc", "usr"), ("dev", "/tmp"), ("sys", ".."), (".sbx", "usr"), ("etc", "nothing")]
    {
        let layer = Tar::default().directory("usr").symlink(name, target).end();
        let rule = "is mounted over or written to in every sandbox and must be a directory";
        assert_eq!(refusal(&[layer]), format!("{name}: {rule}"));
    }
}

#[test]
fn a_later_layer_replaces_and_deletes() {
    let lower = Tar::default()
        .directory("keep/")
        .file("keep/a", b"old")
        .file("keep/b", b"old")
        .directory("hide/")
        .directory("hide/inner/")
        .file("hide/inner/old", b"old")
        .file("gone", b"gone")
        .directory("directory/")
        .file("directory/file", b"old")
        .file("file", b"old")
        .file("first", b"shared")
        .hard_link("second", "first")
        .end();
    let upper = Tar::default()
        .file("keep/a", b"new")
        .file("keep/a", b"newer")
        .file(".wh.gone", b"")
        // Before and after what this layer has there itself.
        .file("hide/before", b"new")
        .file("hide/.wh..wh..opq", b"")
        .file("hide/inner/new", b"new")
        // Types change.
        .file("directory", b"file now")
        .directory("file/")
        .file("file/in", b"new")
        // One of two names.
        .file("first", b"its own")
        .file("keep/.wh.nothing", b"")
        .file("no/such/.wh.directory", b"")
        .end();
    let found = convert(&[lower, upper]).unwrap();
    let expected = [
        "directory",
        "file",
        "file/in",
        "first",
        "hide",
        "hide/before",
        "hide/inner",
        "hide/inner/new",
        "keep",
        "keep/a",
        "keep/b",
        "second",
    ];
    assert_eq!(paths(&found).into_iter().filter(|path| !path.is_empty()).collect::<Vec<_>>(), expected);
    assert_eq!(found["keep/a"].data, b"newer");
    assert_eq!(found["keep/b"].data, b"old");
    assert_eq!((&found["first"].data[..], &found["second"].data[..]), (&b"its own"[..], &b"shared"[..]));
    assert_eq!((found["first"].links, found["second"].links), (1, 1));
    // Made without an entry.
    assert_eq!((found["hide/inner"].mode, found["hide/inner"].seconds), (0o040_755, 0));
}

#[test]
fn a_whiteout_hides_what_is_below_its_layer_alone() {
    let lower = Tar::default().file("d/old", b"").file("d/both", b"old").end();
    let upper = Tar::default().file("d/both", b"new").file(".wh.d", b"").file("d/.wh.both", b"").end();
    let found = convert(&[lower.clone(), upper]).unwrap();
    assert_eq!(paths(&found), ["d", "d/both"]);
    assert_eq!(found["d/both"].data, b"new");
    let all = Tar::default().file("new", b"").file(".wh..wh..opq", b"").file(".wh..wh.plnk/1", b"").end();
    assert_eq!(paths(&convert(&[lower, all]).unwrap()), ["new"]);
}

#[test]
fn what_a_later_layer_deletes_takes_no_space() {
    let data = vec![1; 1 << 20];
    let lower = Tar::default().file("a", &data).file("b", &data).end();
    let upper = Tar::default().file(".wh.a", b"").file("b", b"small").end();
    let layers = [(&lower[..], Whiteouts::Oci), (&upper[..], Whiteouts::Oci)];
    let (image, summary) = convert_with(Limits::default(), &layers).unwrap();
    assert_eq!(summary.content_bytes, 5);
    assert!(image[4096..4096 + (2 << 20)].iter().all(|byte| *byte == 0), "a hole");
    assert_eq!(convert_with(Limits::default(), &layers).unwrap().0, image, "the same bytes again");
}

#[test]
fn parents_that_are_links_are_followed_in_the_tree() {
    let lower = Tar::default()
        .directory("usr/lib/")
        .symlink("lib", "usr/lib")
        .symlink("absolute", "/usr/lib")
        .symlink("out", "../../../../usr")
        .symlink("there", "usr/missing")
        .symlink("a", "b")
        .symlink("b", "a")
        .end();
    let upper = Tar::default()
        .file("lib/one", b"1")
        .file("absolute/two", b"2")
        .file("out/three", b"3")
        .file("there/four", b"4")
        .hard_link("five", "lib/one")
        .file("out/lib/.wh.one", b"")
        .end();
    let found = convert(&[lower.clone(), upper]).unwrap();
    for (path, data) in
        [("usr/lib/one", "1"), ("usr/lib/two", "2"), ("usr/three", "3"), ("usr/missing/four", "4")]
    {
        assert_eq!(found[path].data, data.as_bytes(), "{path}");
    }
    assert_eq!(found["five"].inode, found["usr/lib/one"].inode);
    assert_eq!(found["lib"].mode, 0o120_777, "the link stays");
    let circle = Tar::default().file("a/file", b"").end();
    assert_eq!(refusal(&[lower.clone(), circle]), "a/file: a: more than 40 symbolic links in a path");
    // Each leads through the one before, after many steps that lead nowhere.
    let mut winding = Tar::default().directory("d").symlink("w0", "d");
    for number in 1..5 {
        let target = format!("{}w{}", "d/../".repeat(500), number - 1);
        winding = winding.long(b'K', target.as_bytes()).symlink(&format!("w{number}"), "");
    }
    let winding = winding.end();
    assert_eq!(
        convert(&[winding.clone(), Tar::default().file("w4/f", b"").end()]).unwrap()["d/f"].data,
        b"",
        "4006 names"
    );
    let longer = Tar::default().long(b'K', format!("{}w4", "d/../".repeat(500)).as_bytes()).symlink("w5", "");
    assert_eq!(
        refusal(&[winding, longer.file("w5/f", b"").end()]),
        "w5/f: w1: more than 4096 names in a path and its symbolic links"
    );
    // As docker: an entry for the directory itself is another thing than the link.
    let replaced = convert(&[lower, Tar::default().directory("lib/").end()]).unwrap();
    assert_eq!(replaced["lib"].mode, 0o040_755);
}

#[test]
fn overlays_whiteouts_are_devices_and_attributes() {
    let lower = Tar::default()
        .file("a", b"a")
        .file("b", b"b")
        .file("d/old", b"old")
        .file("e/old", b"old")
        .directory("f")
        .end();
    let opaque: &[(&str, &[u8])] =
        &[("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("SCHILY.xattr.user.x", b"1")];
    let upper = Tar::default()
        .directory("./")
        .device("./a", 0, 0)
        // One device stands for all whiteouts, so the others are hard links to it.
        .hard_link("./b", "./a")
        .pax(b'x', opaque)
        .directory("./d/")
        .file("./d/new", b"new")
        .directory("./e/")
        .device("./e/null", 1, 3)
        .file("./e/.wh.old", b"a name like any other")
        .end();
    let layers = [(&lower[..], Whiteouts::Oci), (&upper[..], Whiteouts::Devices)];
    let (image, summary) = convert_with(Limits::default(), &layers).unwrap();
    let expected = ["", "d", "d/new", "e", "e/.wh.old", "e/null", "e/old", "f"];
    assert_eq!(paths(&found(&image)), expected);
    assert_eq!(summary.dropped_xattrs, 1);
}

#[test]
fn the_archive_of_a_root_has_no_whiteouts() {
    let layer = Tar::default().file(".wh.a", b"1").device("null", 0, 0).file("d/.wh..wh..opq", b"").end();
    let (image, _) = convert_with(Limits::default(), &[(&layer, Whiteouts::None)]).unwrap();
    assert_eq!(paths(&found(&image)), [".wh.a", "d", "d/.wh..wh..opq", "null"]);
}

#[test]
fn times_and_ids_have_their_whole_range() {
    let layer = Tar::default()
        .pax(b'x', &[("mtime", b"1700000001.123456789123"), ("uid", b"4294967294"), ("gid", b"100000")])
        .file("a", b"")
        .pax(b'x', &[("mtime", b"-1.5")])
        .file("b", b"")
        .header(b"c", b'0', 0, |block| block[136..148].copy_from_slice(&[&[0xff; 11][..], &[0xfe]].concat()))
        .header(b"d", b'0', 0, |block| block[108..116].copy_from_slice(&[0x80, 0, 0, 0, 0, 1, 0, 0]))
        .end();
    let found = convert(&[layer]).unwrap();
    let time = |path: &str| (found[path].seconds, found[path].nanoseconds);
    assert_eq!(time("a"), (1_700_000_001, 123_456_789));
    assert_eq!(time("b"), (-2, 500_000_000));
    assert_eq!(time("c"), (-2, 0));
    assert_eq!((found["a"].user, found["a"].group, found["d"].user), (4_294_967_294, 100_000, 65_536));
}

#[test]
fn layers_are_decompressed_by_their_first_bytes() {
    let layer = Tar::default().file("a", &vec![7; 300_000]).file("b", b"b").end();
    let (first, second) = layer.split_at(100_000);
    let skippable = [&[0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let forms = [
        layer.clone(),
        gzip(&layer),
        [gzip(first), gzip(second)].concat(),
        zstd(&layer),
        [skippable.clone(), zstd(first), skippable, zstd(second)].concat(),
    ];
    let digest: [u8; 32] = Sha256::digest(&layer).into();
    for (which, form) in forms.iter().enumerate() {
        let mut converter = Converter::new(Vec::new(), Limits::default());
        // In pieces of a byte, too.
        let mut slow = Slow(form);
        let input: &mut dyn Read = if which % 2 == 0 { &mut slow } else { &mut &form[..] };
        converter.layer(input, Some(digest), Whiteouts::Oci).unwrap();
        let (image, _) = converter.finish().unwrap();
        assert_eq!(found(&image)["a"].data, [7; 300_000], "{which}");
    }
    for form in &forms[1..] {
        for end in [5, 30, form.len() / 2, form.len() - 1] {
            let text = refusal(&[form[..end].to_vec()]);
            assert!(text.contains("too early") || text.contains("can't be decompressed"), "{end}: {text}");
        }
        let text = refusal(&[[form, &b"garbage that is no header of anything"[..]].concat()]);
        assert!(text.contains("can't be decompressed"), "{text}");
    }
}

struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(1);
        self.0.read(&mut into[..most])
    }
}

#[test]
fn the_digest_is_of_the_whole_layer() {
    let mut layer = Tar::default().file("a", b"").end();
    layer.extend(b"behind the end");
    let digest: [u8; 32] = Sha256::digest(&layer).into();
    let mut converter = Converter::new(Vec::new(), Limits::default());
    converter.layer(&mut &gzip(&layer)[..], Some(digest), Whiteouts::Oci).unwrap();
    let wrong = converter.layer(&mut &layer[..layer.len() - 1], Some(digest), Whiteouts::Oci).unwrap_err();
    let text = format!(
        "a layer has digest sha256:{:x}, not sha256:{:x}",
        Hex(Sha256::digest(&layer[..layer.len() - 1]).into()),
        Hex(digest)
    );
    assert_eq!(wrong.to_string(), text);
    // Known to be whole, it needs no end.
    let bare = Tar::default().file("a", b"").cut();
    let mut converter = Converter::new(Vec::new(), Limits::default());
    converter.layer(&mut &bare[..], Some(Sha256::digest(&bare).into()), Whiteouts::Oci).unwrap();
}

struct Hex([u8; 32]);

impl std::fmt::LowerHex for Hex {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
    }
}

#[test]
fn every_limit_is_held_and_named() {
    let limits = Limits::default();
    let refused = |limits: Limits, layers: &[&[u8]]| {
        let layers: Vec<_> = layers.iter().map(|layer| (*layer, Whiteouts::Oci)).collect();
        match convert_with(limits, &layers) {
            Err(Trouble::Limit(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    let two = Tar::default().file("a", &[1; 5000]).file("b", &[1; 5000]).end();
    let many = (0..20).fold(Tar::default(), |tar, at| tar.file(&format!("{at}"), b"1")).end();
    let text = refused(Limits { bytes: 50_000, ..limits }, &[&many]);
    assert_eq!(text, "12: a file of 1 bytes, where the image may have 50000 bytes");
    assert_eq!(
        refused(Limits { bytes: 20_000, ..limits }, &[&two, &two]),
        "the layers have more than 20000 bytes when decompressed"
    );
    assert_eq!(refused(Limits { entries: 1, ..limits }, &[&two]), "more than 1 entries");
    assert_eq!(refused(Limits { layers: 1, ..limits }, &[&two, &two]), "more than 1 layers");
    let deep = Tar::default().file("a/b/c/d", b"").end();
    assert_eq!(
        refused(Limits { depth: 2, ..limits }, &[&deep]),
        "a/b/c/d: more than 2 directories in one another"
    );
    assert!(convert_with(Limits { depth: 3, ..limits }, &[(&deep, Whiteouts::Oci)]).is_ok());
    let text = refused(Limits { memory: 1000, ..limits }, &[&two]);
    assert!(text.starts_with("names and attributes take") && text.ends_with("limit 1000"), "{text}");
    // 64 MiB of zeroes in 64 KiB.
    let bomb = gzip(&Tar::default().file("zeroes", &vec![0; 64 << 20]).end());
    let text = refused(Limits { ratio: 10, ..limits }, &[&bomb]);
    assert!(text.ends_with("limit 10 times as many beyond the first 16 MiB"), "{text}");
    let behind = gzip(&[Tar::default().file("a", b"").end(), vec![0; 64 << 20]].concat());
    assert!(refused(Limits { ratio: 10, ..limits }, &[&behind]).contains("limit 10 times"));
}

/// Fails at the nth write, as a full disk does.
struct Full(Vec<u8>, usize);

impl Output for Full {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1 = self.1.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        self.0.write_at(bytes, offset)
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.1 = self.1.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
        self.0.discard(offset, length)
    }
}

#[test]
fn a_full_disk_is_an_error_at_every_write() {
    let lower = Tar::default().file("a", &vec![1; 600_000]).file("b", b"b").end();
    let upper = Tar::default().file(".wh.a", b"").directory("c").file("c/d", &vec![2; 300_000]).end();
    let mut writes = 0;
    loop {
        let mut converter = Converter::new(Full(Vec::new(), writes), Limits::default());
        let outcome = converter
            .layer(&mut &lower[..], None, Whiteouts::Oci)
            .and_then(|()| converter.layer(&mut &upper[..], None, Whiteouts::Oci))
            .and_then(|()| converter.finish());
        match outcome {
            Err(Trouble::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
            Err(other) => panic!("{other:?}"),
            Ok((Full(image, 0), _)) => {
                assert_eq!(found(&image)["c/d"].data, [2; 300_000]);
                break;
            }
            Ok(_) => panic!("it needs as many writes as before"),
        }
        writes += 1;
    }
    assert!(writes > 4);
}

#[test]
fn what_cannot_be_read_is_not_malformed() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let layer = Tar::default().file("a", b"").end();
    for form in [layer.clone(), gzip(&layer), zstd(&layer)] {
        let mut converter = Converter::new(Vec::new(), Limits::default());
        let mut input = form[..form.len() / 2].chain(Failing);
        match converter.layer(&mut input, None, Whiteouts::Oci) {
            Err(Trouble::Io(error)) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_image_is_the_base_of_another() {
    let lower = Tar::default()
        .directory("./")
        .file("a", &vec![1; 10_000])
        .hard_link("b", "a")
        .file("zeroes", &[0; 9000])
        .directory("d")
        .file("d/old", b"old")
        .symlink("l", "d")
        .device("null", 1, 3)
        .header(b"fifo", b'6', 0, |_| ())
        .file("empty", b"")
        .end();
    let (base, first) = convert_with(Limits::default(), &[(&lower, Whiteouts::Oci)]).unwrap();
    let mut image = base.clone();
    for depth in 0..20 {
        let mut converter = Converter::new(Vec::new(), Limits::default());
        converter.base(&mut &image[..]).unwrap();
        if depth == 0 {
            let (copy, _) = {
                let mut converter = Converter::new(Vec::new(), Limits::default());
                converter.base(&mut &image[..]).unwrap();
                converter.finish().unwrap()
            };
            assert_eq!(plain(&read(&copy)), plain(&read(&base)));
            assert_eq!(read(&copy)[&b"a"[..]].links, 2);
        }
        let upper = Tar::default()
            .directory("./")
            .device("./d/old", 0, 0)
            .file("./d/new", &vec![depth + 1; 9000])
            .end();
        converter.layer(&mut &upper[..], None, Whiteouts::Devices).unwrap();
        let (next, summary) = converter.finish().unwrap();
        assert_eq!(summary.content_bytes, first.content_bytes - 3 + 9000);
        image = next;
    }
    let found = found(&image);
    assert_eq!(found["d/new"].data, [20; 9000]);
    assert!(!found.contains_key("d/old"));
    assert!(image.len() < base.len() + 9 * 4096, "it doesn't grow with each");
    let mut converter = Converter::new(Vec::new(), Limits::default());
    converter.layer(&mut &lower[..], None, Whiteouts::Oci).unwrap();
    assert!(converter.base(&mut &base[..]).is_err(), "below all layers");
}
