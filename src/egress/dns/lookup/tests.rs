use std::net::UdpSocket;
use std::time::Duration;

use domain::base::iana::{Class, Rtype};

use super::*;
use crate::egress::dns::message::Asked;
use crate::egress::dns::name::Name;
use crate::egress::settings::Settings;
use crate::egress::testing::{Rig, SANDBOX};
use crate::policy::Policy;

fn question() -> Question {
    Question { name: Name::of("www.example"), kind: Rtype::A, class: Class::IN }
}

fn query(id: u16) -> Query {
    match Query::read(&write::question(id, &question(), false, false, false)) {
        Asked::Ask(query, _) => query,
        other => panic!("{other:?}"),
    }
}

/// A client of the resolver's socket.
fn client(port: u16) -> Client {
    let socket = Slab::new(crate::egress::kinds::DNS_SOCKET).insert(());
    Client::Datagram(socket, SocketAddr::from(([192, 0, 0, 2], port)))
}

fn server() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn begin(
    rig: &mut Rig,
    lookups: &mut Lookups,
    client: (Client, Query),
    servers: &[&UdpSocket],
) -> Option<Finished> {
    let servers = servers.iter().map(|server| server.local_addr().unwrap()).collect();
    let upstreams = Arc::new(Upstreams { timeout: Duration::from_secs(1), attempts: 1, servers });
    let key = CacheKey::new(&question(), false, false);
    lookups.begin(&mut rig.cx, &mut rig.reactor, SANDBOX, key, client, &question(), (upstreams, 0))
}

/// Turns until the lookup is over. `answer` makes an answer of a question that a server got.
fn finish(
    rig: &mut Rig,
    lookups: &mut Lookups,
    servers: &[&UdpSocket],
    mut answer: impl FnMut(usize, &[u8]) -> Option<Vec<u8>>,
) -> Finished {
    let finished = std::cell::RefCell::new(None);
    rig.turn_until(
        |cx, reactor, wake| {
            let over = lookups.on_wake(cx, reactor, wake.key(), wake);
            let mut finished = finished.borrow_mut();
            *finished = finished.take().or(over);
        },
        || {
            for (place, server) in servers.iter().enumerate() {
                let mut buffer = [0; 512];
                if let Ok((length, from)) = server.recv_from(&mut buffer)
                    && let Some(answer) = answer(place, &buffer[..length])
                {
                    server.send_to(&answer, from).unwrap();
                }
            }
            finished.borrow().is_some()
        },
    );
    finished.take().unwrap()
}

/// The question as an answer without records and with that code.
fn answered(asked: &[u8], code: u8) -> Vec<u8> {
    let mut answer = asked.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80 | code;
    answer
}

fn rig() -> (Rig, Lookups) {
    (Rig::new(Policy::open(), Settings::default()), Lookups::new())
}

fn assert_over(rig: &mut Rig, lookups: &Lookups) {
    assert_eq!((lookups.len(), lookups.by_question.len(), rig.budget.used()), (0, 0, 0));
}

#[test]
fn the_next_server_is_asked_when_one_is_not_there_or_fails() {
    let (mut rig, mut lookups) = rig();
    let (closed, [failing, good]) = (server(), [server(), server()]);
    let servers = [&closed, &failing, &good];
    assert!(begin(&mut rig, &mut lookups, (client(1), query(9)), &servers).is_none());
    drop(closed);
    let servers = [&failing, &good];
    let finished = finish(&mut rig, &mut lookups, &servers, |place, asked| {
        Some(answered(asked, if place == 0 { 2 } else { 0 }))
    });
    let LookupResult::Answered(_, response, place) = finished.result else { panic!("{finished:?}") };
    assert_eq!((response.code(), place), (OptRcode::NOERROR, 2));
    assert_eq!(finished.clients.len(), 1);
    assert_over(&mut rig, &lookups);
}

#[test]
fn the_last_failure_is_passed_on_when_every_server_fails() {
    let (mut rig, mut lookups) = rig();
    let servers = [&server(), &server()];
    assert!(begin(&mut rig, &mut lookups, (client(1), query(9)), &servers).is_none());
    let finished = finish(&mut rig, &mut lookups, &servers, |place, asked| {
        Some(answered(asked, if place == 0 { 2 } else { 5 }))
    });
    let LookupResult::Failed(response) = finished.result else { panic!("{finished:?}") };
    assert_eq!(response.code(), OptRcode::REFUSED);
    assert_over(&mut rig, &lookups);
}

#[test]
fn forged_answers_are_passed_over() {
    let (mut rig, mut lookups) = rig();
    let server = server();
    assert!(begin(&mut rig, &mut lookups, (client(1), query(9)), &[&server]).is_none());
    let mut buffer = [0; 512];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    let asked = &buffer[..length];
    // Another number, another name, and another sender.
    let forged = [(1, answered(asked, 0)), (14, answered(asked, 0))];
    for (place, mut answer) in forged {
        answer[place] ^= 1;
        server.send_to(&answer, from).unwrap();
    }
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&answered(asked, 0), from).unwrap();
    server.send_to(&answered(asked, 3), from).unwrap();
    let finished = finish(&mut rig, &mut lookups, &[], |_, _| None);
    let LookupResult::Answered(_, response, _) = finished.result else { panic!("{finished:?}") };
    assert_eq!(response.code(), OptRcode::NXDOMAIN);
    assert_over(&mut rig, &lookups);
}

#[test]
fn clients_that_ask_the_same_wait_for_one_answer() {
    let (mut rig, mut lookups) = rig();
    let servers = [&server()];
    for (port, id) in [(1, 9), (1, 9), (1, 10), (2, 9)] {
        assert!(begin(&mut rig, &mut lookups, (client(port), query(id)), &servers).is_none());
    }
    assert_eq!(lookups.len(), 1);
    let mut asked = 0;
    let finished = finish(&mut rig, &mut lookups, &servers, |_, question| {
        asked += 1;
        Some(answered(question, 0))
    });
    assert_eq!((asked, finished.clients.len()), (1, 3), "one has asked the same twice");
    assert_over(&mut rig, &lookups);
}

#[test]
fn without_room_or_bytes_it_is_answered_at_once() {
    let servers = [&server()];
    let code = |finished: Option<Finished>| match finished.unwrap().result {
        LookupResult::Unanswered(answer) => answer.code,
        other => panic!("{other:?}"),
    };
    let (mut rig, mut lookups) = rig();
    let held = rig.cx.acquire(SANDBOX, 300).unwrap();
    let mut more = Vec::new();
    more.extend(std::iter::from_fn(|| rig.cx.acquire(SANDBOX, 1)));
    let finished = begin(&mut rig, &mut lookups, (client(1), query(9)), &servers);
    assert_eq!(code(finished), OptRcode::SERVFAIL);
    drop((held, more));
    assert_over(&mut rig, &lookups);

    let settings = Settings { total_bytes: Some(1), ..Settings::default() };
    let (mut rig, mut lookups) = (Rig::new(Policy::open(), settings), Lookups::new());
    rig.cx.spend(SANDBOX, 1);
    let finished = begin(&mut rig, &mut lookups, (client(1), query(9)), &servers);
    assert_eq!(code(finished), OptRcode::REFUSED);
    assert_over(&mut rig, &lookups);
}
