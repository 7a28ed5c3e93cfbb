//! Messages there and back, and what is taken out on the way.

use std::net::IpAddr;

use domain::base::Header;
use domain::base::iana::{Class, OptRcode, Rtype};
use proptest::prelude::*;

use super::filter::{Filtered, filter};
use super::message::{Asked, Edns, Query, Question, Response};
use super::name::Name;
use super::record::Record;
use super::write::{self, Answer, Why};

fn question(name: &str, kind: Rtype) -> Question {
    Question { name: Name::of(name), kind, class: Class::IN }
}

fn record(name: &str, kind: Rtype, ttl: u32, data: &[u8]) -> Record {
    Record { name: Name::of(name), kind, class: Class::IN, ttl, data: data.to_vec() }
}

fn alias(name: &str, to: &str) -> Record {
    record(name, Rtype::CNAME, 60, Name::of(to).wire())
}

fn soa(name: &str, ttl: u32, minimum: u32) -> Record {
    let [server, person] = [Name::of("ns.example"), Name::of("admin.example")];
    let data = [server.wire(), person.wire(), &[0; 16], &minimum.to_be_bytes()];
    record(name, Rtype::SOA, ttl, &data.concat())
}

/// The beginning of a message: its number, and its flags.
fn header(id: u16, flags: u16) -> Header {
    let [high, low] = flags.to_be_bytes();
    let bytes = [&id.to_be_bytes()[..], &[high, low], &[0; 8]].concat();
    *Header::for_message_slice(&bytes)
}

/// An answer as an upstream server would send it.
fn response(question: &Question, code: u16, answers: &[Record], authority: &[Record]) -> Vec<u8> {
    let query = Query { header: header(77, 0), question: Some(question.clone()), edns: None };
    let code = OptRcode::masked_from_int(code);
    let answer =
        Answer { code, authentic: false, answers: answers.into(), authority: authority.into(), why: None };
    answer.write(&query, 65535, 0)
}

/// What is left of it for a sandbox that may know addresses of 9.0.0.0/8 and 2600::/16 only.
fn filtered(question: &Question, answers: &[Record], authority: &[Record]) -> Filtered {
    let bytes = response(question, 0, answers, authority);
    let response = Response::read(&bytes).unwrap();
    assert_eq!((response.answers.len(), response.authority.len()), (answers.len(), authority.len()));
    filter(&response, question, false, public)
}

fn public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 9,
        IpAddr::V6(address) => address.segments()[0] == 0x2600,
    }
}

/// The data of a service record: priority 1, no other target, these parameters.
fn service(parameters: &[(u16, &[u8])]) -> Vec<u8> {
    let mut data = vec![0, 1, 0];
    for (key, value) in parameters {
        data.extend_from_slice(&key.to_be_bytes());
        data.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        data.extend_from_slice(value);
    }
    data
}

#[test]
fn a_question_is_read_with_what_edns_says() {
    let bytes = write::question(7, &question("Example.com", Rtype::AAAA), true, true, true);
    let Asked::Ask(query, asked) = Query::read(&bytes) else { panic!("{:?}", Query::read(&bytes)) };
    assert_eq!(asked, question("Example.com", Rtype::AAAA));
    assert_eq!((query.header.id(), query.edns), (7, Some(Edns { size: write::UDP_SIZE, dnssec_ok: true })));
    assert!(query.header.cd());
}

#[test]
fn what_is_no_question_is_answered_or_passed_over() {
    let good = write::question(7, &question("example.com", Rtype::A), false, false, true);
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        match Query::read(&bytes) {
            Asked::Ask(..) => "asked".to_owned(),
            Asked::Answer(_, code) => code.to_int().to_string(),
            Asked::Nothing => "nothing".to_owned(),
        }
    };
    assert_eq!(with(|_| {}), "asked");
    assert_eq!(with(|bytes| bytes.truncate(11)), "nothing");
    assert_eq!(with(|bytes| bytes[2] |= 0x80), "nothing", "an answer");
    assert_eq!(with(|bytes| bytes[2] |= 0x28), "4", "an update");
    assert_eq!(with(|bytes| bytes.truncate(20)), "1", "cut off");
    assert_eq!(with(|bytes| bytes[5] = 2), "1", "two questions");
    assert_eq!(with(|bytes| bytes[5] = 0), "1", "no question");
    assert_eq!(with(|bytes| bytes[7] = 1), "1", "with an answer");
    assert_eq!(with(|bytes| bytes[11] = 2), "1", "less records than said");
    assert_eq!(
        with(|bytes| {
            let version = bytes.len() - 5;
            bytes[version] = 1;
        }),
        "16",
        "another EDNS"
    );
}

#[test]
fn addresses_alone_are_told_without_aliases_and_what_names_a_zone() {
    let asked = question("Www.example", Rtype::A);
    let signature = record("inner.corp.example", Rtype::RRSIG, 30, &[0; 30]);
    let address = record("inner.corp.example", Rtype::A, 30, &[9, 1, 1, 1]);
    let answers = [alias("www.example", "inner.corp.example"), address, signature];
    let mut answer = filtered(&asked, &answers, &[]).answer;
    answer.keep_addresses(&asked);
    assert_eq!(answer.answers, [record("www.example", Rtype::A, 30, &[9, 1, 1, 1])]);
    // That there is none is told without the zone's name.
    let mut answer = filtered(&asked, &[], &[soa("corp.example", 60, 60)]).answer;
    answer.keep_addresses(&asked);
    assert_eq!((answer.answers, answer.authority, answer.authentic), (vec![], vec![], false));
}

#[test]
fn protected_addresses_are_taken_out_and_others_stay() {
    let asked = question("a.example", Rtype::A);
    let [good, bad] = [[9, 1, 1, 1], [10, 1, 1, 1]].map(|data| record("a.example", Rtype::A, 30, &data));
    let found = filtered(&asked, &[good.clone(), bad.clone()], &[]);
    assert_eq!(found.answer.answers, [good]);
    assert_eq!(found.removed, ["10.1.1.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(found.addresses, ["9.1.1.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(found.answer.why, Some(Why::Filtered));
    let found = filtered(&asked, &[bad], &[]);
    assert!(found.answer.answers.is_empty() && found.answer.code == OptRcode::NOERROR);
    // One that is too short to be an address isn't passed on either.
    assert!(
        filtered(&asked, &[record("a.example", Rtype::A, 30, &[9, 1, 1])], &[]).answer.answers.is_empty()
    );
}

#[test]
fn aliases_are_followed_in_any_order_and_what_belongs_elsewhere_is_left_out() {
    let asked = question("A.example", Rtype::A);
    let address = record("c.example", Rtype::A, 20, &[9, 1, 1, 1]);
    let answers = [
        address.clone(),
        alias("b.example", "c.example"),
        alias("a.example", "B.example"),
        record("other.example", Rtype::A, 1, &[9, 9, 9, 9]),
        alias("x.example", "y.example"),
    ];
    let found = filtered(&asked, &answers, &[]);
    assert_eq!(found.answer.answers.len(), 3);
    assert_eq!(found.addresses, ["9.1.1.1".parse::<IpAddr>().unwrap()]);
    let round = [alias("a.example", "b.example"), alias("b.example", "a.example")];
    assert_eq!(filtered(&asked, &round, &[]).answer.answers.len(), 2);
}

#[test]
fn encrypted_hellos_and_bad_hints_are_taken_out_of_service_records() {
    let asked = question("a.example", Rtype::HTTPS);
    let alpn: (u16, &[u8]) = (1, b"\x02h2");
    let answer = |data: Vec<u8>| filtered(&asked, &[record("a.example", Rtype::HTTPS, 30, &data)], &[]);
    let hints = [9, 1, 1, 1, 10, 1, 1, 1];
    let data = service(&[alpn, (4, &hints), (5, b"secret"), (6, &[0x20; 16]), (7, b"/dns")]);
    let found = answer(data);
    let expected = service(&[alpn, (4, &hints[..4]), (7, b"/dns")]);
    assert_eq!(found.answer.answers[0].data, expected);
    assert_eq!(found.addresses, ["9.1.1.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(found.removed.len(), 2);
    let untouched = service(&[alpn]);
    assert_eq!(answer(untouched.clone()).answer.answers[0].data, untouched);
    for gone in [
        service(&[(0, &[0, 5]), (5, b"secret")]),
        service(&[(0, &[0, 4]), (4, &[10, 1, 1, 1])]),
        service(&[(4, &[9, 1, 1])]),
        vec![0, 1, 0, 0, 4, 0, 9, 1],
        vec![0],
    ] {
        assert!(answer(gone.clone()).answer.answers.is_empty(), "{gone:?}");
    }
}

#[test]
fn thousands_of_hints_and_aliases_are_each_looked_at_once() {
    let asked = question("a.example", Rtype::HTTPS);
    let hints: Vec<u8> = (0_u32..15_000).flat_map(|host| (10 << 24 | (host % 7_500)).to_be_bytes()).collect();
    let mut looks = 0;
    let answers = [record("a.example", Rtype::HTTPS, 30, &service(&[(4, &hints)]))];
    let response = Response::read(&response(&asked, 0, &answers, &[])).unwrap();
    let found = filter(&response, &asked, false, |_| {
        looks += 1;
        false
    });
    assert_eq!((looks, found.removed.len(), found.addresses.len()), (15_000, 7_500, 0));
    // A chain of aliases that is longer than anybody follows, last things first.
    let chain: Vec<Record> =
        (0..1000).rev().map(|at| alias(&format!("n{at}.example"), &format!("n{}.example", at + 1))).collect();
    let found = filtered(&question("n0.example", Rtype::A), &chain, &[]);
    assert_eq!(found.answer.answers.len(), 17);
}

#[test]
fn an_absence_is_remembered_as_long_as_it_says() {
    let asked = question("a.example", Rtype::AAAA);
    let ttl = |answers: &[Record], authority: &[Record]| filtered(&asked, answers, authority).ttl;
    assert_eq!(ttl(&[], &[soa("example", 300, 60)]), Some(60));
    assert_eq!(ttl(&[], &[soa("example", 30, 60)]), Some(30));
    assert_eq!(ttl(&[], &[soa("example", 1 << 20, 1 << 20)]), Some(3600));
    assert_eq!(ttl(&[], &[]), None, "no word about it");
    assert_eq!(ttl(&[alias("a.example", "b.example")], &[soa("example", 300, 90)]), Some(60));
    assert_eq!(ttl(&[record("a.example", Rtype::AAAA, 5, &[0x26; 16])], &[]), Some(5));
    let bytes = response(&asked, 2, &[], &[soa("example", 300, 60)]);
    assert_eq!(filter(&Response::read(&bytes).unwrap(), &asked, false, public).ttl, None, "a failure");
    let bytes = response(&asked, 3, &[], &[soa("example", 300, 60)]);
    let found = filter(&Response::read(&bytes).unwrap(), &asked, false, public);
    assert_eq!((found.answer.code, found.ttl), (OptRcode::NXDOMAIN, Some(60)));
    assert_eq!(found.answer.authority.len(), 1);
}

#[test]
fn signatures_are_for_those_who_want_them_and_vouching_ends_with_a_change() {
    let asked = question("a.example", Rtype::A);
    let signed =
        [record("a.example", Rtype::A, 30, &[9, 1, 1, 1]), record("a.example", Rtype::RRSIG, 30, &[0; 40])];
    let mut bytes = response(&asked, 0, &signed, &[]);
    bytes[3] |= 0x20;
    let response = Response::read(&bytes).unwrap();
    let with = filter(&response, &asked, true, public).answer;
    assert!(with.authentic && with.answers.len() == 2);
    assert_eq!(filter(&response, &asked, false, public).answer.answers.len(), 1);
    assert!(!filter(&response, &asked, true, |_| false).answer.authentic);
}

#[test]
fn an_answer_that_is_too_long_is_marked_and_empty() {
    let asked = question("a.example", Rtype::A);
    let many: Vec<Record> = (0..100).map(|last| record("a.example", Rtype::A, 9, &[9, 1, 1, last])).collect();
    let answer = Answer { answers: many, ..Answer::bare(OptRcode::NOERROR, Some(Why::Filtered)) };
    let edns = |size| Some(Edns { size, dnssec_ok: false });
    for (edns, limit) in [(None, 512), (edns(100), 512), (edns(700), 700), (edns(65535), 1232)] {
        let query = Query { header: header(9, 0x0100), question: Some(asked.clone()), edns };
        assert_eq!(write::udp_limit(&query), limit);
        let bytes = answer.write(&query, limit, 0);
        let read = Response::read(&bytes).unwrap();
        assert!(read.is_truncated() && bytes.len() < 100);
        let whole = Response::read(&answer.write(&query, 65535, 4)).unwrap();
        assert_eq!((whole.answers.len(), whole.answers[0].ttl), (100, 5));
    }
}

#[test]
fn a_refusal_says_why_by_edns_to_those_who_speak_it() {
    let asked = question("evil.example", Rtype::A);
    let mut query = Query { header: header(9, 0x0110), question: Some(asked), edns: None };
    let refusal = Answer::bare(OptRcode::REFUSED, Some(Why::Blocked));
    let plain = refusal.write(&query, 512, 0);
    assert_eq!(plain[2..4], [0x81, 0x95], "answer, recursion desired and available, checking off, REFUSED");
    assert_eq!(plain[10..12], [0, 0]);
    query.edns = Some(Edns { size: 1232, dnssec_ok: false });
    let bytes = refusal.write(&query, 512, 0);
    assert_eq!(bytes[bytes.len() - 8..], [0, 6, 0, 15, 0, 2, 0, 15]);
    let version = Answer::bare(OptRcode::BADVERS, None).write(&query, 512, 0);
    assert_eq!((version[3] & 15, version[version.len() - 6]), (0, 1), "the code's upper bits are in OPT");
}

fn name() -> impl Strategy<Value = Name> {
    prop::collection::vec("[a-cA-C]{1,3}", 0..4).prop_map(|labels| Name::of(&labels.join(".")))
}

fn any_record() -> impl Strategy<Value = Record> {
    let kinds = prop_oneof![prop::sample::select(vec![1u16, 5, 6, 15, 28, 33, 64, 65]), any::<u16>()]
        .prop_map(Rtype::from_int);
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (name(), prop::collection::vec(any::<u8>(), 0..30))
            .prop_map(|(name, rest)| [name.wire(), &rest].concat()),
    ];
    (name(), kinds, 0u32..1000, data).prop_map(|(name, kind, ttl, data)| Record {
        name,
        kind,
        class: Class::IN,
        ttl,
        data,
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Query::read(&bytes);
        let _ = Response::read(&bytes);
    }

    #[test]
    fn no_damaged_answer_panics_or_brings_an_address_through(
        answers in prop::collection::vec(any_record(), 0..8),
        damage in prop::collection::vec((0usize..600, any::<u8>()), 0..4),
        dnssec_ok: bool,
    ) {
        let asked = question("a.b", Rtype::A);
        let mut bytes = response(&asked, 0, &answers, &[]);
        for (place, value) in damage {
            let place = place % bytes.len();
            bytes[place] = value;
        }
        if let Some(response) = Response::read(&bytes) {
            let found = filter(&response, &asked, dnssec_ok, public);
            for record in &found.answer.answers {
                prop_assert!(record.address().is_none_or(public));
            }
            prop_assert!(found.addresses.iter().copied().all(public));
            // What is written can be read by others.
            let query = Query { header: header(1, 0), question: Some(asked), edns: None };
            let again = found.answer.write(&query, 65535, 1);
            let again = Response::read(&again);
            prop_assert!(again.is_some());
        }
    }
}
