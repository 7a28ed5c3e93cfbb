//! What strangers may put into archives.

use super::*;

#[test]
fn tricks_are_refused_with_their_entry_and_rule() {
    let with = |change: fn(&mut [u8])| Tar::default().header(b"entry", b'0', 0, change).end();
    let long = "n".repeat(256);
    let deep = "d/".repeat(66);
    let far = "x/".repeat(2100);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            Tar::default().pax(b'x', &[("size", b"18446744073709551615")]).file("big", b"").end(),
            "the header at byte 1024 of the layer is of big, with 18446744073709551615 bytes",
        ),
        (Tar::default().file("../out", b"").end(), "../out: a path in a layer must not contain .."),
        (Tar::default().file("a/../../out", b"").end(), "a/../../out: a path in a layer must not contain .."),
        (
            Tar::default().file("a", b"").hard_link("b", "../a").end(),
            "b: a path in a layer must not contain ..",
        ),
        (
            Tar::default().hard_link("b", "/etc/shadow").end(),
            "b: a hard link to /etc/shadow, which isn\\'t there",
        ),
        (
            Tar::default().directory("d").hard_link("b", "d").end(),
            "b: a hard link to d, which is a directory",
        ),
        (Tar::default().hard_link("b", "/").end(), "b: a hard link to /, which is a directory"),
        (Tar::default().file("a", b"").file("a/b", b"").end(), "a/b: a: is not a directory"),
        (Tar::default().file(".", b"").end(), ".: the root must be a directory"),
        (Tar::default().symlink("/", "/etc").end(), "/: the root must be a directory"),
        (Tar::default().file(".wh.", b"").end(), ".wh.: a whiteout must name an entry of its directory"),
        (
            Tar::default().file("d/.wh...", b"").end(),
            "d/.wh...: a whiteout must name an entry of its directory",
        ),
        (
            Tar::default().file("d/.wh..", b"").end(),
            "d/.wh..: a whiteout must name an entry of its directory",
        ),
        (
            Tar::default().symlink("l", "").end(),
            "the header at byte 0 of the layer is of l, a link without a target",
        ),
        (Tar::default().device("d", 4096, 0).end(), "d: a device 4096/0, limit 4095/1048575"),
        (Tar::default().header(b"", b'0', 0, |_| ()).end(), "an entry of the layer has no name"),
        (
            Tar::default().header(b"v", b'V', 0, |_| ()).end(),
            "the header at byte 0 of the layer is of v, of type V, which an image can\\'t hold",
        ),
        (with(|block| block[108..116].copy_from_slice(b"37777777")), ""),
        (
            with(|block| block[108..116].copy_from_slice(&[0x80, 0, 0, 0, 255, 255, 255, 255])),
            "the header at byte 0 of the layer has user 4294967295, which is none",
        ),
        (
            with(|block| block[116..124].copy_from_slice(&[0x80, 0, 0, 1, 0, 0, 0, 0])),
            "the header at byte 0 of the layer has group 4294967296, which is none",
        ),
        (
            with(|block| block[124..136].copy_from_slice(b"0000000000z\0")),
            "the header at byte 0 of the layer has the number 0000000000z\\\\x00",
        ),
        (
            with(|block| block[124..136].fill(0xff)),
            "the header at byte 0 of the layer has the number \\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff\\\\xff, below 0",
        ),
        (Tar::default().pax(b'x', &[("path", long.as_bytes())]).file("a", b"").end(), "limit 255"),
        (Tar::default().pax(b'x', &[("path", deep.as_bytes())]).directory("a").end(), "limit: "),
        (
            Tar::default().pax(b'x', &[("path", far.as_bytes())]).file("a", b"").end(),
            "the header at byte 5120 of the layer has a path of 4200 bytes, limit 4095",
        ),
        (Tar::default().pax(b'x', &[("path", b"a\0b")]).file("a", b"").end(), "announces path=a\\\\x00b"),
        (Tar::default().pax(b'x', &[("path", b"")]).file("a", b"").end(), "announces path="),
        (Tar::default().pax(b'x', &[("size", b"-1")]).file("a", b"").end(), "announces size=-1"),
        (
            Tar::default().pax(b'x', &[("size", b"99999999999999999999")]).file("a", b"").end(),
            "announces size=",
        ),
        (
            Tar::default().pax(b'x', &[("size", b"9223372036854775807")]).file("a", b"").end(),
            "limit: a: a file of 9223372036854775807 bytes",
        ),
        (Tar::default().pax(b'g', &[("path", b"a")]).file("b", b"").end(), "sets attributes of all entries"),
        (Tar::default().pax(b'g', &[("size", b"0")]).file("b", b"").end(), "sets attributes of all entries"),
        (
            Tar::default().pax(b'x', &[("path", b"a")]).pax(b'x', &[]).file("b", b"").end(),
            "is a second pax header",
        ),
        (Tar::default().long(b'L', b"a\0").long(b'L', b"b\0").file("c", b"").end(), "is a second long name"),
        (
            Tar::default().pax(b'x', &[("path", b"a")]).long(b'L', b"b\0").file("c", b"").end(),
            "has two names: a and b",
        ),
        (
            Tar::default().pax(b'x', &[("path", b"a")]).end(),
            "is the end, and not the entry that was announced",
        ),
        (
            Tar::default().header(b"x", b'x', 2 << 20, |_| ()).end(),
            "limit: the header at byte 0 of the layer announces 2097152 bytes of attributes, limit 1048576",
        ),
        (
            Tar::default().header(b"x", b'x', 5, |_| ()).content(b"9 a=b").end(),
            "announces attributes with a wrong length",
        ),
        (
            Tar::default().header(b"x", b'x', 5, |_| ()).content(b"5 ab\n").end(),
            "announces attributes with a record that isn't KEY=VALUE",
        ),
        (Tar::default().file("a/", b"data").end(), "a file whose name ends with a slash"),
        (Tar::default().file("a", b"data").cut()[..600].to_vec(), "the layer's archive ends too early"),
        (Tar::default().file("a", b"data").cut(), "the layer's archive ends too early"),
        (b"not an archive".repeat(100), "the header at byte 0 of the layer has a wrong checksum"),
        (Vec::new(), "the layer's archive ends too early"),
        (
            [&[0; 512][..], &Tar::default().file("a", b"").end()].concat(),
            "the header at byte 512 of the layer follows a block of zeroes",
        ),
    ];
    for (layer, expected) in cases {
        if expected.is_empty() {
            continue;
        }
        let text = refusal(&[layer]);
        let expected = expected.replace("\\\\", "\\").replace("\\'", "'");
        assert!(text.contains(&expected), "{text}\n{expected}");
    }
}

#[test]
fn odd_entries_are_harmless() {
    let layer = Tar::default()
        .file("/absolute", b"1")
        .file("./a//./b", b"2")
        .file("twice", b"one")
        .file("twice", b"two")
        .hard_link("twice", "twice")
        // Neither has content, whatever the size says.
        .header(b"d", b'5', 1 << 30, |_| ())
        .header(b"l", b'2', 77, |block| block[157..159].copy_from_slice(b"/x"))
        .pax(
            b'x',
            &[("SCHILY.xattr.security.capability", b"\x01\0\0\x02"), ("comment", b"x"), ("atime", b"?")],
        )
        .header(b"s", b'0', 0, |block| octal(block, 100, 8, 0o6755))
        .pax(b'g', &[("comment", b"0123")])
        .header(b"old", 0, 0, |block| block[257..265].fill(0))
        .header(b"before-ustar/", 0, 0, |block| block[257..265].fill(0))
        .end();
    let (image, summary) = convert_with(Limits::default(), &[(&layer, Whiteouts::Oci)]).unwrap();
    let found = found(&image);
    let expected = ["a", "a/b", "absolute", "before-ustar", "d", "l", "old", "s", "twice"];
    assert_eq!(paths(&found), expected);
    assert_eq!((&found["twice"].data[..], found["twice"].links), (&b"two"[..], 1));
    assert_eq!(found["s"].mode, 0o106_755);
    assert_eq!(found["before-ustar"].mode >> 12, 4);
    assert_eq!(summary.dropped_xattrs, 1);
}

#[test]
fn a_hard_link_in_the_place_of_its_targets_directory_is_refused() {
    let layer = Tar::default().file("d/x", b"").hard_link("d", "d/x").end();
    assert_eq!(refusal(&[layer]), "d: a hard link to d/x, which isn't there");
}
