//! A helper that an archive has taken over says anything.

use super::*;

/// A helper whose other end is in the test's hands; the process is `sleep`.
fn hostile(act: impl FnOnce(Channel) + Send + 'static) -> Helper {
    use crate::sys::spawn::{Command, EVERY_SIGNAL, Executable, spawn};
    let (ours, theirs) = channel::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    let child = spawn(&mut Command {
        executable: Executable::Paths(&[c"/bin/sleep".into()]),
        arguments: &[c"sleep".into(), c"1000".into()],
        environment: &[],
        descriptors: &[null.as_fd(), null.as_fd(), null.as_fd()],
        dispositions: EVERY_SIGNAL,
        prepare: &mut || Ok(()),
    })
    .unwrap();
    thread::spawn(move || act(Channel::new(theirs)));
    let limits = Limits::default();
    Helper {
        channel: Channel::new(ours),
        child,
        resources: limits.resources(),
        deadline: Instant::now() + PATIENCE,
        isolated: true,
        diff_ids: Vec::new(),
    }
}

/// Sends these replies, and holds the channel open until the library closes it.
fn says(replies: Vec<Reply>) -> impl FnOnce(Channel) + Send {
    move |mut channel| {
        for reply in replies {
            while channel.wants_write() {
                if channel.flush().is_err() {
                    return;
                }
            }
            if channel.send(&reply.encode(), vec![]).is_err() {
                return;
            }
        }
        loop {
            match channel.receive() {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

#[test]
fn a_lost_helper_is_believed_nothing() {
    let entry =
        |offset, length, name: usize| ArchiveEntry { name: vec![b'n'; name], offset, length, link: None };
    let entries = |entries, last| Reply::Entries { entries, last };
    let finished = |bytes, diff_ids| {
        Reply::Finished(Summary { entries: 1, bytes, content_bytes: 1, dropped_xattrs: 0, diff_ids })
    };
    let index: Vec<Vec<Reply>> = vec![
        vec![Reply::Done],
        vec![Reply::Ready { isolated: true }],
        vec![finished(1, vec![])],
        vec![entries(vec![entry(0, 11, 1)], true)],
        vec![entries(vec![entry(u64::MAX, 2, 1)], true)],
        vec![entries(vec![entry(0, 1, MAX_ARCHIVE_NAME + 1)], true)],
        vec![entries(vec![entry(0, 1, 1); 2048], false); 3],
        vec![entries(vec![], false); 1000],
        vec![Reply::Progress { bytes: u64::MAX }; 1000],
    ];
    for replies in index {
        let shown = format!("{:.80}", format!("{replies:?}"));
        let mut helper = hostile(says(replies));
        let pid = helper.pid();
        let archive = holding(b"0123456789");
        let error = watched(|watch| helper.index(archive.as_fd(), watch)).unwrap_err();
        assert!(error.message().contains("broke the rules"), "{shown}: {error}");
        drop(helper);
        assert!(!runs(pid));
    }
    for (diff_ids, believed) in
        [(vec![[1; 32]], true), (vec![], false), (vec![[2; 32]], false), (vec![[1; 32], [1; 32]], false)]
    {
        let mut helper = hostile(says(vec![Reply::Done, finished(1, diff_ids)]));
        let input = LayerInput { fd: file().into(), range: None };
        watched(|watch| helper.layer(input, Some([1; 32]), Whiteouts::Oci, watch)).unwrap();
        assert_eq!(watched(|watch| helper.finish(watch)).is_ok(), believed);
    }
    let helper = hostile(says(vec![finished(u64::MAX, vec![])]));
    assert!(watched(|watch| helper.finish(watch)).is_err());
    // The process ends, and somebody else holds its end of the channel.
    let mut helper = hostile(says(vec![]));
    pidfd::signal(helper.child.pidfd.as_fd(), libc::SIGKILL).unwrap();
    let error = layer(&mut helper, file()).unwrap_err();
    assert!(error.message().contains("SIGKILL"), "{error}");
    // Raw noise, and an end of the channel without an end of the process.
    let mut helper = hostile(|mut channel| drop(channel.send(&[99, 1, 2], vec![])));
    let error = layer(&mut helper, file()).unwrap_err();
    assert!(error.message().contains("broke the rules"), "{error}");
    let mut helper = hostile(|mut channel| {
        let null = File::open("/dev/null").unwrap();
        let _ = channel.send(&Reply::Done.encode(), vec![null.into()]);
    });
    let error = layer(&mut helper, file()).unwrap_err();
    assert!(error.message().contains("broke the rules"), "{error}");
}

#[test]
fn a_lost_helpers_text_is_made_harmless() {
    let text = [b"\x1b[31m a\nb \xff ".to_vec(), vec![b'x'; 5000]].concat();
    for failure in [Failure::Malformed, Failure::Limit, Failure::Digest, Failure::System, Failure::Internal] {
        for errno in [i32::MIN, -1, 0, libc::ENOSPC, i32::MAX] {
            let reply = Reply::Failed { failure, errno, text: text.clone() };
            let mut helper = hostile(says(vec![reply]));
            let error = layer(&mut helper, file()).unwrap_err();
            assert!(!error.message().contains(char::is_control), "{error}");
            assert!(error.message().len() < 2000, "{error}");
        }
    }
}
