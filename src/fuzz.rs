//! What the fuzz targets call, each with bytes that a stranger may send: `fuzz/run.sh`.
//!
//! There with `--cfg fuzzing`, and in the library's own tests, which try the seeds in `fuzz/seeds` again. Nothing here
//! may panic but by an assertion that fails.

use crate::build::fuzzed as builds;
use crate::egress::fuzzed::dns::{Answer, Asked, Query, Response};
use crate::egress::fuzzed::{ClientHello, Found, MAX_BYTES};
use crate::event::{EventKind, EventRecord, Queue};
use crate::image::convert::{Converter, Limits, Whiteouts};
use crate::image::fuzzed as registry_answers;
use crate::keeper::tar as format;
use crate::keeper::wire::{files, image, init, keeper};
use crate::policy::Policy;

/// A TLS greeting, at once and in pieces: the same comes of it, and no more is kept than may be.
pub fn client_hello(data: &[u8]) {
    let Some((size, stream)) = data.split_first() else { return };
    let mut pieces = ClientHello::default();
    let mut found = Found::More;
    for piece in stream.chunks(usize::from(*size).max(1)) {
        let piece = piece.get(..piece.len().min(pieces.room())).unwrap_or_default();
        found = pieces.push(piece);
        assert!(pieces.held() <= 2 * MAX_BYTES, "more is held than is read");
        if found != Found::More {
            break;
        }
    }
    if let Found::Server(name) = &found {
        assert!(name.is_ascii() && !name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name:?}");
    }
    let read = pieces.into_bytes();
    assert!(stream.starts_with(&read), "what was read is passed on");
    let mut whole = ClientHello::default();
    assert_eq!(whole.push(&read), found, "pieces make no difference");
}

/// A message to the resolver, and the same as an upstream's answer, which is written for the sandbox again.
pub fn dns(data: &[u8]) {
    let query = match Query::read(data) {
        Asked::Ask(query, _) => {
            let written = Answer::bare(domain::base::iana::OptRcode::SERVFAIL, None).write(&query, 512, 0);
            assert!(written.len() <= 512, "no answer is longer than it may be");
            Some(query)
        }
        _ => None,
    };
    let Some(response) = Response::read(data) else { return };
    assert_eq!(Response::question(data).as_ref(), Some(&response.question), "both read the same question");
    let asked = Query { header: response.header, question: Some(response.question.clone()), edns: None };
    for query in [Some(asked), query].into_iter().flatten() {
        let answer = Answer {
            code: response.code(),
            authentic: false,
            answers: response.answers.clone(),
            authority: response.authority.clone(),
            why: None,
        };
        for limit in [512, usize::from(u16::MAX)] {
            let written = answer.write(&query, limit, 0);
            assert!(written.len() <= limit, "{} bytes of {limit}", written.len());
            assert!(Response::read(&written).is_some(), "what is written can be read");
        }
    }
}

/// Messages between library, keeper and init, either way: what is read is written as it was.
pub fn wire(data: &[u8]) {
    let Some((which, message)) = data.split_first() else { return };
    let again = match which % 8 {
        0 => init::Request::decode(message).map(|message| message.encode()),
        1 => init::Reply::decode(message).map(|message| message.encode()),
        2 => keeper::Request::decode(message).map(|message| message.encode()),
        3 => keeper::Reply::decode(message).map(|message| message.encode()),
        4 => files::Outcome::decode(message).map(|message| message.encode()),
        5 => return records(message),
        6 => image::Request::decode(message).map(|message| message.encode()),
        _ => image::Reply::decode(message).map(|message| message.encode()),
    };
    if let Ok(again) = again {
        assert_eq!(again, message, "one value has one encoding");
    }
}

/// The records of a list and of a watch, as a helper streams them.
fn records(mut stream: &[u8]) {
    while let Ok(Some((record, rest))) = files::split(stream) {
        assert!(rest.len() < stream.len(), "it gets shorter");
        if let Ok(entry) = files::Entry::from_record(record) {
            assert!(stream.starts_with(&entry.record()), "one entry has one encoding");
        }
        if let Ok(change) = files::Change::from_record(record) {
            assert!(stream.starts_with(&change.record()), "one change has one encoding");
        }
        stream = rest;
    }
}

/// An archive's headers as unpacking reads them, and each entry written and read again.
pub fn tar(data: &[u8]) {
    let mut archive = data;
    while let Some((entry, rest)) = tar_entry(archive) {
        let header = entry.header();
        assert_eq!(header.len() % format::BLOCK, 0, "whole blocks");
        if let Some((again, behind)) = tar_entry(&header) {
            assert!(behind.is_empty(), "its header is all of it");
            assert_eq!((&again.path, again.size, again.kind), (&entry.path, entry.size, entry.kind));
        }
        let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
        let whole = size.saturating_add(format::padding(entry.size));
        archive = rest.get(whole..).unwrap_or_default();
    }
}

fn tar_entry(mut archive: &[u8]) -> Option<(format::Entry, &[u8])> {
    let mut overrides = format::Overrides::default();
    loop {
        let (block, rest) = archive.split_first_chunk()?;
        archive = rest;
        match format::parse(block, &mut overrides).ok()? {
            format::Header::End => return None,
            format::Header::Entry(entry) => return Some((entry, archive)),
            format::Header::Extended(kind, size) => {
                assert!(size <= format::MAX_EXTENDED_HEADER, "bounded before room for it is made");
                let whole = usize::try_from(size).ok()?.checked_add(format::padding(size))?;
                overrides.take(kind, archive.get(..usize::try_from(size).ok()?)?).ok()?;
                archive = archive.get(whole..)?;
            }
        }
    }
}

/// Two layers, plain or compressed, and the image that comes of them, which is the base of another.
///
/// The first byte says how whiteouts are written, and whether checksums are mended, without which hardly any change
/// would get past a header. The second one says where the second layer begins, in blocks of tar.
pub fn layer(data: &[u8]) {
    let Some(([how, blocks], archives)) = data.split_first_chunk() else { return };
    let whiteouts = match how % 3 {
        0 => Whiteouts::Oci,
        1 => Whiteouts::Devices,
        _ => Whiteouts::None,
    };
    let (mut first, mut second) = {
        let at = (usize::from(*blocks) * format::BLOCK).min(archives.len());
        let (first, second) = archives.split_at(at);
        (first.to_vec(), second.to_vec())
    };
    if how & 0x80 != 0 {
        [&mut first, &mut second].into_iter().for_each(|layer| mend_checksums(layer));
    }
    let limits = Limits { bytes: 1 << 20, entries: 500, memory: 1 << 20, ..Limits::default() };
    let convert = || {
        let mut converter = Converter::new(Vec::new(), limits);
        converter.layer(&mut &first[..], None, whiteouts)?;
        if !second.is_empty() {
            converter.layer(&mut &second[..], None, whiteouts)?;
        }
        converter.finish()
    };
    let Ok((image, summary)) = convert() else { return };
    assert_eq!(summary.bytes, image.len() as u64);
    assert!(summary.content_bytes <= limits.bytes && summary.entries <= limits.entries);
    let again = convert().map(|(image, _)| image);
    assert_eq!(again.ok().as_ref(), Some(&image), "the same layers make the same bytes");
    let mut converter = Converter::new(Vec::new(), limits);
    assert!(converter.base(&mut &image[..]).is_ok(), "what is written can be read");
    let copied = converter.finish().map(|(_, summary)| (summary.entries, summary.content_bytes));
    assert_eq!(copied.ok(), Some((summary.entries, summary.content_bytes)), "it is the same tree");
}

/// Gives every block that may be a header the checksum that it should have.
fn mend_checksums(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(format::BLOCK) {
        if block.get(257..262) != Some(b"ustar") {
            continue;
        }
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let Some(place) = block.get_mut(148..156) else { continue };
        let own: u32 = place.iter().map(|byte| u32::from(*byte)).sum();
        let text = format!("{:06o}\0 ", sum - own + 8 * u32::from(b' '));
        place.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    }
}

/// What a registry says: an answer of HTTP with its body, a redirect, a challenge, a manifest; and a name that a user gives.
pub fn registry(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match kind % 5 {
        0 => {
            if let Some(body) = registry_answers::body(rest) {
                assert!(body.len() < rest.len(), "a body is shorter than its answer");
            }
        }
        1 => {
            if let Some((server, target)) = registry_answers::location(&text) {
                assert!(server.starts_with("https://") || server.starts_with("http://"), "{server}");
                assert!(
                    target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()),
                    "{target}"
                );
                let again = registry_answers::location(&format!("{server}{target}"));
                assert_eq!(again, Some((server, target)), "an absolute URL means itself");
            }
        }
        2 => assert!(registry_answers::realms(&text).len() <= text.len()),
        3 => assert!(registry_answers::layers(rest).is_none_or(|layers| layers <= 127)),
        _ => {
            if let Some(name) = registry_answers::full_name(&text) {
                assert_eq!(
                    registry_answers::full_name(&name).as_ref(),
                    Some(&name),
                    "a full name means itself"
                );
            }
        }
    }
}

/// A Dockerfile, and a `.dockerignore` with a path that it is asked about.
pub fn dockerfile(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    if kind % 2 == 0 {
        if let Some(recipe) = builds::recipe(&text) {
            assert!(recipe.steps.len() <= 1000, "steps are bounded");
            assert_eq!(builds::recipe(&text), Some(recipe), "the same text means the same");
        }
        return;
    }
    let (patterns, path) = text.split_once('\0').unwrap_or((&text, "a/b"));
    if let Some(ignored) = builds::ignored(patterns, path).filter(|_| !path.is_empty()) {
        let none = builds::ignored(&format!("{patterns}\n**\n"), path);
        assert!(none.unwrap_or(true), "the last pattern decides");
        let all = builds::ignored(&format!("{patterns}\n!**\n"), path);
        assert!(!ignored || !all.unwrap_or(false), "the last pattern decides");
    }
}

/// Lines of a policy. What is taken is written as it is understood, and understood the same again.
pub fn cidr(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for line in text.lines().take(64) {
        let added = |add: fn(&mut Policy, &str) -> bool, text: &str| {
            let mut policy = Policy::allowlist();
            add(&mut policy, text).then(|| policy.entries().to_vec())
        };
        type Add = fn(&mut Policy, &str) -> bool;
        let adds: [(&str, Add); 4] = [
            ("allow ", |policy, text| policy.allow_cidr(text).is_ok()),
            ("deny ", |policy, text| policy.deny_cidr(text).is_ok()),
            ("local ", |policy, text| policy.allow_local_cidr(text).is_ok()),
            ("domain ", |policy, text| policy.allow_domain(text).is_ok()),
        ];
        let taken = adds.map(|(_, add)| added(add, line));
        let [range, denied, _, domain] = taken.each_ref().map(Option::is_some);
        assert_eq!(range, denied, "what may be allowed may be denied: {line:?}");
        assert!(!(range && domain), "a range is no name: {line:?}");
        for (entries, (word, add)) in taken.into_iter().zip(adds) {
            let Some(entries) = entries else { continue };
            let written = entries.first().map(ToString::to_string).unwrap_or_default();
            let again = written.strip_prefix(word).and_then(|written| added(add, written));
            assert_eq!(again, Some(entries), "{written}");
        }
    }
}

/// A queue of events, pushed and taken in any order: none is lost without being counted, none comes twice.
pub fn events(data: &[u8]) {
    let Some((capacity, moves)) = data.split_first() else { return };
    let Ok(queue) = Queue::new(usize::from(*capacity).max(1)) else { return };
    let mut senders = Vec::new();
    let (mut told, mut heard) = (0_u64, 0_u64);
    for one in moves {
        match one % 8 {
            0 => senders.extend(queue.sender(u64::from(*one))),
            1 => drop(senders.pop()),
            2 | 3 => {
                if let Some(event) = queue.next_record() {
                    assert_eq!(event.sequence, heard + 1, "in their order, and none is left out");
                    heard = event.sequence + event.lost;
                }
            }
            kind => {
                let kind = match kind {
                    4 => EventKind::Started,
                    5 => EventKind::Exited,
                    6 => EventKind::Denied,
                    _ => EventKind::Limit,
                };
                if let Some(sender) = senders.last() {
                    told += 1;
                    drop(sender.push(EventRecord::new(kind)));
                }
            }
        }
    }
    while let Some(event) = queue.next_record() {
        heard = event.sequence + event.lost;
    }
    assert_eq!(heard, told, "each was taken or counted as lost");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::any;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;

    fn again(target: &str, call: fn(&[u8])) {
        // Of the moment: tests/run.sh runs this where the directory that it was compiled in can't be read.
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let seeds = format!("{root}/fuzz/seeds/{target}");
        let paths: Vec<_> = std::fs::read_dir(&seeds).expect(&seeds).collect();
        assert!(!paths.is_empty());
        for path in paths {
            let path = path.unwrap().path();
            println!("{}", path.display());
            call(&std::fs::read(path).unwrap());
        }
    }

    /// Calls a target with its seeds, changed a little.
    fn changed(target: &str, cases: u32, call: fn(&[u8])) {
        let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
        let seeds: Vec<Vec<u8>> = std::fs::read_dir(format!("{root}/fuzz/seeds/{target}"))
            .unwrap()
            .map(|path| std::fs::read(path.unwrap().path()).unwrap())
            .collect();
        let seed = proptest::sample::select(seeds);
        let change = (any::<proptest::sample::Index>(), any::<u8>(), 0_u8..4);
        let mut runner = TestRunner::new(Config::with_cases(cases));
        let outcome = runner.run(&(seed, proptest::collection::vec(change, 1..6)), |(mut seed, changes)| {
            for (at, byte, how) in changes {
                let at = at.index(seed.len());
                match how {
                    // The first blocks have the headers that matter most.
                    0 => seed[at.min(at % 4096)] = byte,
                    1 => seed[at] = byte,
                    2 => seed.truncate(at.max(2)),
                    _ => seed.extend_from_within(at..),
                }
            }
            call(&seed);
            Ok(())
        });
        outcome.unwrap();
    }

    /// Layers are what strangers control most of, so their seeds are changed a little in every run of the tests.
    #[test]
    fn changed_layers_are_refused_or_converted() {
        changed("layer", 500, layer);
    }

    #[test]
    fn changed_dockerfiles_are_refused_or_read() {
        changed("dockerfile", 2000, dockerfile);
    }

    #[test]
    fn what_was_found_by_fuzzing_stays_mended() {
        again("client_hello", client_hello);
        again("dns", dns);
        again("wire", wire);
        again("tar", tar);
        again("layer", layer);
        again("registry", registry);
        again("dockerfile", dockerfile);
        again("cidr", cidr);
        again("events", events);
    }
}
