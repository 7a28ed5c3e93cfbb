//! The form of messages, byte by byte: what is sent, and what is taken and refused.

use domain::base::iana::{Class, OptRcode, Rtype};

use super::message::{Asked, Query, Question, Response};
use super::name::Name;
use super::record::Record;
use super::write::{self, Answer, Why};

const EDNS: &[u8] = b"\0\0\x29\x04\xd0\0\0\0\0\0\0";

fn question(name: &str, kind: Rtype) -> Question {
    Question { name: Name::of(name), kind, class: Class::IN }
}

fn record(name: &str, kind: Rtype, ttl: u32, data: &[u8]) -> Record {
    Record { name: Name::of(name), kind, class: Class::IN, ttl, data: data.to_vec() }
}

/// A message of these parts: its number, its flags, how many records of each section, and what follows.
fn message(flags: u16, counts: [u16; 4], rest: &[&[u8]]) -> Vec<u8> {
    let words = [&[0xabcd, flags][..], &counts].concat();
    [words.iter().flat_map(|word| word.to_be_bytes()).collect(), rest.concat()].concat()
}

/// A question for addresses of `wWw.ExAmple`.
const ASKED: &[u8] = b"\x03wWw\x07ExAmple\0\0\x01\0\x01";

fn asked(flags: u16, edns: &[u8]) -> Query {
    let bytes = message(flags, [1, 0, 0, u16::from(!edns.is_empty())], &[ASKED, edns]);
    let Asked::Ask(query, _) = Query::read(&bytes) else { panic!("{:?}", Query::read(&bytes)) };
    query
}

/// A record as it stands in a message.
fn raw(name: &[u8], kind: u16, length: u16, data: &[u8]) -> Vec<u8> {
    [name, &kind.to_be_bytes(), b"\0\x01\0\0\0\x3c", &length.to_be_bytes(), data].concat()
}

/// What is made of an answer to `wWw.ExAmple` with these records.
fn read(records: &[Vec<u8>]) -> Option<Response> {
    let count = u16::try_from(records.len()).unwrap();
    Response::read(&message(0x8180, [1, count, 0, 0], &[ASKED, &records.concat()]))
}

/// What is made of one record: its name and data.
fn one(name: &[u8], kind: u16, data: &[u8]) -> Option<(String, Vec<u8>)> {
    let length = u16::try_from(data.len()).unwrap();
    let record = read(&[raw(name, kind, length, data)])?.answers.remove(0);
    Some((record.name.text(), record.data))
}

#[test]
fn questions_to_servers_byte_by_byte() {
    let asked = question("wWw.ExAmple", Rtype::AAAA);
    let body = b"\x03wWw\x07ExAmple\0\0\x1c\0\x01";
    let of = |flags, edns: &[u8]| message(flags, [1, 0, 0, u16::from(!edns.is_empty())], &[body, edns]);
    assert_eq!(write::question(0xabcd, &asked, false, false, false), of(0x0120, b""));
    assert_eq!(write::question(0xabcd, &asked, true, true, false), of(0x0130, b""));
    assert_eq!(write::question(0xabcd, &asked, false, false, true), of(0x0120, EDNS));
    assert_eq!(
        write::question(0xabcd, &asked, true, true, true),
        of(0x0130, b"\0\0\x29\x04\xd0\0\0\x80\0\0\0")
    );
    let root = write::question(0xabcd, &question("", Rtype::NS), false, false, false);
    assert_eq!(root, message(0x0120, [1, 0, 0, 0], &[b"\0\0\x02\0\x01"]));
}

#[test]
fn answers_byte_by_byte() {
    let answer = Answer {
        authentic: true,
        answers: vec![
            record("www.example", Rtype::CNAME, 60, Name::of("host.other").wire()),
            record("host.other", Rtype::A, 61, &[192, 0, 2, 1]),
            record("host.other", Rtype::A, 3, &[192, 0, 2, 2]),
            record("third.other", Rtype::TXT, 60, b"\x02hi"),
        ],
        authority: vec![record(
            "other",
            Rtype::SOA,
            60,
            b"\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05",
        )],
        ..Answer::bare(OptRcode::NOERROR, None)
    };
    let body: &[&[u8]] = &[
        ASKED,
        b"\xc0\x0c\0\x05\0\x01\0\0\0\x38\0\x0c\x04host\x05other\0",
        b"\xc0\x29\0\x01\0\x01\0\0\0\x39\0\x04\xc0\0\x02\x01",
        b"\xc0\x29\0\x01\0\x01\0\0\0\0\0\x04\xc0\0\x02\x02",
        b"\x05third\x05other\0\0\x10\0\x01\0\0\0\x38\0\x03\x02hi",
        b"\x05other\0\0\x06\0\x01\0\0\0\x38\0\x16\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05",
    ];
    let plain = message(0x81b0, [1, 4, 1, 0], body);
    assert_eq!(answer.write(&asked(0x0130, b""), 512, 4), plain);
    let edns = message(0x80a0, [1, 4, 1, 1], &[body, &[EDNS]].concat());
    assert_eq!(answer.write(&asked(0, EDNS), 512, 4), edns);
    assert_eq!(answer.write(&asked(0, EDNS), edns.len(), 4), edns, "as long as it may be");
    // A byte less: nothing of it, marked. The bit for "authentic" goes, too.
    let truncated = message(0x8280, [1, 0, 0, 1], &[ASKED, EDNS]);
    assert_eq!(answer.write(&asked(0, EDNS), edns.len() - 1, 4), truncated);
}

#[test]
fn refusals_byte_by_byte() {
    let refusal = Answer::bare(OptRcode::REFUSED, Some(Why::Blocked));
    assert_eq!(refusal.write(&asked(0x0100, b""), 512, 0), message(0x8185, [1, 0, 0, 0], &[ASKED]));
    let why = b"\0\0\x29\x04\xd0\0\0\x80\0\0\x06\0\x0f\0\x02\0\x0f";
    let signed = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";
    assert_eq!(refusal.write(&asked(0x0110, signed), 512, 0), message(0x8195, [1, 0, 0, 1], &[ASKED, why]));
    // Another version of EDNS: a code of more than four bits.
    let bytes = message(0, [1, 0, 0, 1], &[ASKED, b"\0\0\x29\x10\0\0\x01\0\0\0\0"]);
    let Asked::Answer(query, code) = Query::read(&bytes) else { panic!("{:?}", Query::read(&bytes)) };
    let expected = message(0x8080, [1, 0, 0, 1], &[ASKED, b"\0\0\x29\x04\xd0\x01\0\0\0\0\0"]);
    assert_eq!(Answer::bare(code, None).write(&query, 512, 0), expected);
    // What can't be read is answered without its question; an operation that isn't known keeps its number.
    for (bytes, expected) in [
        (message(0x0100, [1, 0, 0, 0], &[b"\x03ww"]), message(0x8181, [0; 4], &[])),
        (message(0x2800, [1, 0, 0, 0], &[ASKED]), message(0xa884, [0; 4], &[])),
        (message(0, [1, 0, 0, 3], &[ASKED, EDNS, EDNS, EDNS]), message(0x8081, [1, 0, 0, 0], &[ASKED])),
        (message(0, [1, 0, 0, 2], &[ASKED, EDNS, EDNS]), message(0x8081, [1, 0, 0, 1], &[ASKED, EDNS])),
    ] {
        let Asked::Answer(query, code) = Query::read(&bytes) else { panic!("{:?}", Query::read(&bytes)) };
        assert_eq!(Answer::bare(code, None).write(&query, 512, 0), expected);
    }
}

#[test]
fn questions_that_are_taken_and_those_that_are_not() {
    let code = |counts, rest: &[&[u8]]| match Query::read(&message(0x0100, counts, rest)) {
        Asked::Ask(..) => None,
        Asked::Answer(_, code) => Some(code),
        Asked::Nothing => panic!("nothing"),
    };
    assert_eq!(code([1, 0, 0, 0], &[ASKED]), None);
    assert_eq!(code([1, 0, 0, 0], &[ASKED, b"trailing"]), None);
    assert_eq!(code([1, 0, 0, 1], &[ASKED, EDNS, b"trailing"]), None);
    let signature = raw(b"\0", 250, 0, b"");
    let alias = raw(b"\0", 5, 1, b"\x01");
    assert_eq!(code([1, 0, 0, 1], &[ASKED, &alias]), Some(OptRcode::FORMERR), "data that are no name");
    assert_eq!(code([1, 0, 0, 2], &[ASKED, EDNS, &signature]), None, "TSIG");
    assert_eq!(code([1, 0, 0, 1], &[ASKED, &signature]), None);
    let options = b"\0\0\x29\x04\xd0\0\0\0\0\0\x02\xff\xff";
    assert_eq!(code([1, 0, 0, 1], &[ASKED, options]), None, "options are passed over");
    assert_eq!(code([1, 0, 0, 1], &[ASKED, b"\0\0\x29\x04\xd0\0\0\0\0\0\x01"]), Some(OptRcode::FORMERR));
    assert_eq!(code([1, 0, 0, 1], &[ASKED, b"\x01a", EDNS]), Some(OptRcode::FORMERR), "OPT of a name");
    assert_eq!(code([1, 0, 1, 0], &[ASKED, &signature]), Some(OptRcode::FORMERR));
    assert_eq!(code([0, 0, 0, 0], &[]), Some(OptRcode::FORMERR));
    assert_eq!(
        code([1, 0, 0, 0], &[b"\xc0\x0c\0\x01\0\x01"]),
        Some(OptRcode::FORMERR),
        "a name that is itself"
    );
    assert_eq!(code([1, 0, 0, 0], &[b"\xc0\x10\0\x01\0\x01\0"]), Some(OptRcode::FORMERR), "forwards");
    assert_eq!(code([1, 0, 0, 0], &[b"\x01a\0\0\x01\0"]), Some(OptRcode::FORMERR), "cut off");
    // Types and classes are anything: whether they may be asked for is another's decision.
    let bytes = message(0x0100, [1, 0, 0, 0], &[b"\x01a\0\xff\xfe\xff\xfd"]);
    let Asked::Ask(_, found) = Query::read(&bytes) else { panic!("{:?}", Query::read(&bytes)) };
    assert_eq!((found.kind, found.class), (Rtype::from_int(0xfffe), Class::from_int(0xfffd)));
    // With as many pointers and bytes as fit a question.
    let label = [&[63][..], &[b'x'; 63]].concat();
    let longest = [&label[..], &label, &label, &[61], &[b'x'; 61], b"\0\0\x01\0\x01"].concat();
    assert_eq!(code([1, 0, 0, 0], &[&longest]), None);
    let longer = [&label[..], &label, &label, &[62], &[b'x'; 62], b"\0\0\x01\0\x01"].concat();
    assert_eq!(code([1, 0, 0, 0], &[&longer]), Some(OptRcode::FORMERR));
}

#[test]
fn answers_that_are_taken_and_those_that_are_not() {
    let address: &[u8] = &[192, 0, 2, 1];
    assert_eq!(one(b"\xc0\x0c", 1, address), Some(("www.example".into(), address.into())));
    assert_eq!(one(b"\x01a\xc0\x10", 1, address), Some(("a.example".into(), address.into())));
    assert_eq!(one(b"\xc0\x0c", 1, b"xyz"), Some(("www.example".into(), b"xyz".into())), "the filter's");
    // Pointers: to themselves, forwards, beyond the end, round and round; labels of kinds that there are not.
    for name in
        [&b"\xc0\x1d"[..], b"\xc0\x1f", b"\xff\xff", b"\x01a\xc0\x1d", b"\x41a\0", b"\x81a\0", b"\xc0"]
    {
        assert_eq!(one(name, 1, address), None, "{name:?}");
    }
    // A pointer leads backwards from where it stands, if only to a label of its own name: no longer than a name may be.
    assert_eq!(one(b"\x01a\xc0\x1d", 1, address), None, "round and round");
    assert_eq!(one(b"\x03\x01a\0\xc0\x1e", 1, address).unwrap().0, "\\001a\\000.a");
    // A name in data stays within the data, wherever its pointers lead.
    let text = raw(b"\0", 16, 1, b"\x10");
    assert!(read(&[text, raw(b"\0", 15, 4, b"\0\x0a\xc0\x28"), raw(b"\0", 1, 0, b"")]).is_none());
    // Lengths that lie: more than there is, a name beyond its end, a text beyond its end.
    assert!(read(&[raw(b"\0", 16, 3, b"ab")]).is_none());
    assert!(read(&[raw(b"\0", 5, 1, b"\x01a\0")]).is_none());
    assert!(read(&[raw(b"\0", 35, 6, b"\0\0\0\0\x09abc")]).is_none());
    assert!(read(&[raw(b"\0", 6, 2, b"\0\0"), raw(b"\0", 6, 1, b"\0\0")]).is_none());
    // Names in data: whole where they may be pointers, as they are where they may not.
    let pointed: [(u16, &[u8], &[u8]); 8] = [
        (2, b"\x01n\xc0\x10", b"\x01n\x07ExAmple\0"),
        (5, b"\xc0\x0c", b"\x03wWw\x07ExAmple\0"),
        (6, b"\xc0\x10\xc0\x10rest", b"\x07ExAmple\0\x07ExAmple\0rest"),
        (15, b"\0\x0a\xc0\x10", b"\0\x0a\x07ExAmple\0"),
        (18, b"\0\x01\xc0\x10", b"\0\x01\x07ExAmple\0"),
        (33, b"abcdef\xc0\x10", b"abcdef\x07ExAmple\0"),
        (35, b"abcd\x01x\0\x02yz\xc0\x10", b"abcd\x01x\0\x02yz\x07ExAmple\0"),
        (64, b"\0\x01\xc0\x10", b"\0\x01\xc0\x10"),
    ];
    for (kind, data, expected) in pointed {
        assert_eq!(one(b"\0", kind, data), Some((String::new(), expected.into())), "{kind}");
    }
    // Only one question, an answer, an operation that is a question.
    for (flags, questions, good) in
        [(0x8180, 1, true), (0x8180, 2, false), (0x8180, 0, false), (0x0180, 1, false), (0xa980, 1, false)]
    {
        assert_eq!(
            Response::read(&message(flags, [questions, 0, 0, 0], &[ASKED])).is_some(),
            good,
            "{flags:x}"
        );
    }
    // A truncated one is known by its question alone, and what is additional isn't looked at.
    assert!(
        Response::read(&message(0x8380, [1, 9, 9, 9], &[ASKED])).is_some_and(|found| found.is_truncated())
    );
    assert!(Response::read(&message(0x8180, [1, 0, 0, 9], &[ASKED, b"garbage"])).is_some());
    assert!(Response::read(&message(0x8180, [1, 1, 0, 0], &[ASKED])).is_none(), "less records than said");
}

#[test]
fn as_many_records_as_fit_and_as_long_as_they_may_be() {
    let many = vec![raw(b"\0", 1, 0, b""); 4097];
    assert_eq!(read(&many[1..]).unwrap().answers.len(), 4096);
    assert!(read(&many).is_none(), "reading is bounded");
    let claimed = message(0x8180, [1, 0xffff, 0xffff, 0], &[ASKED, &many.concat()]);
    assert!(Response::read(&claimed).is_none());
    let length = u16::try_from(65_535 - 12 - ASKED.len() - 11).unwrap();
    let long = read(&[raw(b"\0", 16, length, &vec![7; length.into()])]).unwrap();
    assert_eq!(long.answers[0].data.len(), usize::from(length));
    // Names in data grow when they become whole: as long as a name may be, each.
    let label = [&[63][..], &[b'x'; 63]].concat();
    let name = [&label[..], &label, &label, b"\0"].concat();
    let first = raw(&name, 1, 0, b"");
    let pointer: &[u8] = &[0xc0, 12 + u8::try_from(ASKED.len()).unwrap()];
    let records: Vec<_> = [first].into_iter().chain(vec![raw(pointer, 5, 2, pointer); 1000]).collect();
    assert!(read(&records).is_none(), "that many bytes are too many");
    let grown = read(&records[..250]).unwrap().answers;
    assert!(grown.iter().skip(1).all(|record| record.data == name && record.name.wire() == name));
}
