//! What a helper may use: time, memory, the disk, and what it may make of a small archive.

use super::*;

#[test]
fn bombs_end_at_a_limit() {
    let content = vec![0; 64 << 20];
    let bomb = archive(&[regular("zeros", &content)]);
    for bytes in [gzip(&bomb), zstd(&bomb), gzip(&gzip(&bomb))] {
        let (outcome, out) = image(&Limits::default(), &[bytes]);
        let error = outcome.unwrap_err();
        assert!(
            matches!(error.code(), Code::Limit) || error.code() == crate::image::error("").code(),
            "{error}"
        );
        assert!(out.metadata().unwrap().len() <= 64 << 20);
    }
    for bytes in [gzip(&bomb), zstd(&bomb)] {
        let mut helper = start(&Limits::default());
        let (input, into) = (holding(&bytes), file());
        let error = watched(|watch| helper.inflate(input.into(), output(&into), watch)).unwrap_err();
        assert_eq!(error.code(), Code::Limit, "{error}");
        assert!(into.metadata().unwrap().len() < 64 << 20);
    }
}

#[test]
fn its_processor_time_is_bounded() {
    let limits = Limits { bytes: u64::MAX, ratio: u64::MAX, ..Limits::default() };
    let resources = Resources { cpu_seconds: 1, ..Limits::default().resources() };
    let mut helper = Helper::start_with(&program(), file().into(), &limits, resources).unwrap();
    // Members of a gzip stream.
    let member = gzip(&vec![0; 4 << 20]);
    let (read, mut write) = io::pipe().unwrap();
    let writer = thread::spawn(move || while write.write_all(&member).is_ok() {});
    let into = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let error = watched(|watch| helper.inflate(read.into(), into.into(), watch)).unwrap_err();
    writer.join().unwrap();
    assert!(error.message().contains("1 s of processor time"), "{error}");
}

#[test]
fn its_memory_is_bounded() {
    let mut helper = start_with(&file(), |resources| resources.address_space = 24 << 20);
    let entries = (0..200_000).map(|index| entry(&format!("{index:0>90}"), Kind::Fifo, 0, "").header());
    let many = entries.collect::<Vec<_>>().concat();
    let error = layer(&mut helper, holding(&many)).unwrap_err();
    assert!(error.message().contains("more memory than 24 MiB"), "{error}");
}

/// Each write is the last that there is room for.
#[test]
fn a_full_disk_at_any_write_is_an_error_and_nothing_more() {
    let bytes = archive(&[regular("a", &[1; 5000]), regular("b", &[2; 9000]), regular("d/e", b"x")]);
    let whole = {
        let out = file();
        let mut helper = Helper::start(&program(), output(&out), &Limits::default()).unwrap();
        layer(&mut helper, holding(&bytes)).unwrap();
        watched(|watch| helper.finish(watch)).unwrap().bytes
    };
    for room in (0..whole).step_by(1024) {
        let out = file();
        let mut helper = start_with(&out, |resources| resources.file_size = room);
        let pid = helper.pid();
        let result = layer(&mut helper, holding(&bytes))
            .and_then(|()| watched(|watch| helper.finish(watch)).map(|_| ()));
        let error = result.unwrap_err();
        assert_eq!(error.code(), Code::Limit, "{room}: {error}");
        assert!(!runs(pid));
        assert!(out.metadata().unwrap().len() <= room);
    }
    // A device that is always full.
    let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
    let mut helper = Helper::start(&program(), full.into(), &Limits::default()).unwrap();
    let result =
        layer(&mut helper, holding(&bytes)).and_then(|()| watched(|watch| helper.finish(watch)).map(|_| ()));
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.os_error()), (Code::System, Some(libc::ENOSPC)), "{error}");
}

#[test]
#[ignore = "run by another test, on disks of many sizes"]
fn on_a_small_disk() {
    let Some(directory) = std::env::var_os(HOST) else { return };
    let bytes = archive(&[regular("a", &[1; 30_000]), regular("b", &[2; 30_000])]);
    let out = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(&directory);
    let mut helper = Helper::start(&program(), output(&out.unwrap()), &Limits::default()).unwrap();
    let error =
        layer(&mut helper, holding(&bytes)).and_then(|()| watched(|watch| helper.finish(watch))).unwrap_err();
    assert_eq!((error.code(), error.os_error()), (Code::System, Some(libc::ENOSPC)), "{error}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn a_disk_that_fills_up_is_an_error_at_any_size() {
    // The image has 17 pages of content and metadata, and a superblock.
    let script = "for pages in 1 2 3 5 8 12 15 16 17; do mount -t tmpfs -o size=$((pages * 4))k,mode=700 none /mnt; \
                  SBX_TEST_IMAGE_HOST=/mnt \"$0\" \"$@\"; umount /mnt; done";
    let output = process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-ec", script])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "image::helper::tests::limits::on_a_small_disk", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.matches("1 passed").count() == 9, "{output:?}");
}

#[test]
fn layers_larger_than_an_image_are_refused_before_they_come() {
    let limits = Limits { bytes: 1000, ..Limits::default() };
    assert!(limits.check_compressed(1000).is_ok());
    let error = limits.check_compressed(1001).unwrap_err();
    assert_eq!(error.code(), Code::Limit);
    assert_eq!(error.message(), "the layers have 1001 bytes; the limit of an image is 1000");
    assert!(limits.check_compressed(u64::MAX).is_err());
}

#[test]
fn an_index_is_bounded_and_refuses_what_is_no_archive() {
    let index = |bytes: &[u8]| {
        let file = holding(bytes);
        let mut helper = start(&Limits::default());
        watched(|watch| helper.index(file.as_fd(), watch))
    };
    assert_eq!(index(b"").unwrap(), []);
    let many = |count| {
        let names = (0..count).map(|index| regular(&format!("f{index}"), b"x"));
        archive(&names.collect::<Vec<_>>())
    };
    assert_eq!(index(&many(MAX_ARCHIVE_ENTRIES)).unwrap().len(), MAX_ARCHIVE_ENTRIES);
    let mut sparse = regular("sparse", b"");
    sparse[156] = b'S';
    for (bytes, code) in [
        (many(MAX_ARCHIVE_ENTRIES + 1), Code::Limit),
        (archive(&[regular(&"n".repeat(2000), b"")]), Code::Limit),
        (vec![b'x'; 2000], crate::image::error("").code()),
        (regular("cut", &[1; 600])[..512].to_vec(), crate::image::error("").code()),
        (regular("cut", b"")[..300].to_vec(), crate::image::error("").code()),
        (archive(&[entry("fifo", Kind::Fifo, 0, "").header()]), crate::image::error("").code()),
        (archive(&[entry("huge", Kind::File, u64::MAX, "").header()]), crate::image::error("").code()),
        (sparse, crate::image::error("").code()),
    ] {
        let error = index(&bytes).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
}
