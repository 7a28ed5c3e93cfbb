use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::*;
use crate::egress::settings::Settings;
use crate::egress::testing::{Rig, SANDBOX};
use crate::policy::Policy;

struct Test {
    rig: Rig,
    connections: Connections,
    listener: TcpListener,
}

impl Test {
    fn new() -> Self {
        let rig = Rig::new(Policy::open(), Settings::default());
        Self { rig, connections: Connections::new(), listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// The client's end of a new connection, and its key if it was taken.
    fn connect(&mut self) -> (TcpStream, Option<Key>) {
        let theirs = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let ours = self.listener.accept().unwrap().0;
        ours.set_nonblocking(true).unwrap();
        let before = self.connections.keys(SANDBOX);
        self.connections.add(&self.rig.cx, &mut self.rig.reactor, SANDBOX, ours.into());
        let key = self.connections.keys(SANDBOX).into_iter().find(|key| !before.contains(key));
        (theirs, key)
    }

    /// The questions that are taken until there is none.
    fn questions(&mut self, key: Key) -> Vec<Vec<u8>> {
        let mut questions = Vec::new();
        while let Next::Question(question) = self.connections.next(&mut self.rig.reactor, key, true) {
            questions.push(question);
        }
        questions
    }

    fn respond(&mut self, key: Key, answer: &[u8]) {
        self.connections.respond(&mut self.rig.reactor, key, answer);
    }

    fn assert_over(&self) {
        let Self { rig, connections, .. } = self;
        assert_eq!((connections.len(), connections.counts.len(), rig.budget.used()), (0, 0, 0));
    }
}

fn message(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

#[test]
fn so_many_questions_of_a_connection_are_open_and_further_ones_wait_for_answers() {
    let mut test = Test::new();
    let (mut client, key) = test.connect();
    let key = key.unwrap();
    for number in 0..10 {
        client.write_all(&message(&[number; 20])).unwrap();
    }
    assert_eq!(test.connections.begin_serving(&test.rig.reactor, key), Some(SANDBOX));
    let asked = test.questions(key);
    assert_eq!(asked.len(), MAX_OPEN_QUESTIONS);
    assert_eq!(asked[7], [7; 20]);
    test.respond(key, b"answer");
    assert_eq!(test.questions(key), [[8; 20]]);
    let mut answer = [0; 20];
    assert_eq!(client.read(&mut answer).unwrap(), 8);
    assert_eq!(&answer[..8], message(b"answer"));
    // The client has nothing more to ask: it ends with its last answer.
    client.shutdown(Shutdown::Write).unwrap();
    for _ in 0..8 {
        test.respond(key, b"");
    }
    assert_eq!(test.questions(key), [[9; 20]]);
    assert_eq!(test.connections.len(), 1);
    test.respond(key, b"last");
    assert!(matches!(test.connections.next(&mut test.rig.reactor, key, true), Next::Ended));
    test.assert_over();
}

#[test]
fn none_is_taken_while_none_may_be_and_a_question_that_is_too_long_is_cut() {
    let mut test = Test::new();
    let (mut client, key) = test.connect();
    let key = key.unwrap();
    client.write_all(&message(b"question")).unwrap();
    assert!(matches!(test.connections.next(&mut test.rig.reactor, key, false), Next::Wait));
    assert_eq!(test.questions(key), [b"question"]);
    client.write_all(&u16::try_from(MAX_QUESTION_BYTES + 1).unwrap().to_be_bytes()).unwrap();
    assert!(matches!(test.connections.next(&mut test.rig.reactor, key, true), Next::Ended));
    assert_eq!(client.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    test.assert_over();
}

#[test]
fn a_silent_connection_is_cut_and_one_with_an_open_question_is_not() {
    let mut test = Test::new();
    let (mut client, key) = test.connect();
    let key = key.unwrap();
    client.write_all(&message(b"question")).unwrap();
    assert_eq!(test.questions(key).len(), 1);
    let age = |test: &mut Test| test.connections.connections.get_mut(key).unwrap().active -= IDLE_TIMEOUT;
    age(&mut test);
    test.connections.on_timer(&mut test.rig.reactor, key);
    assert_eq!(test.connections.len(), 1);
    test.respond(key, b"answer");
    test.connections.begin_serving(&test.rig.reactor, key);
    test.connections.on_timer(&mut test.rig.reactor, key);
    assert_eq!(test.connections.len(), 1, "it was active just now");
    age(&mut test);
    test.connections.on_timer(&mut test.rig.reactor, key);
    test.assert_over();
}

#[test]
fn a_sandbox_has_so_many_connections_and_further_ones_are_reset() {
    let mut test = Test::new();
    let taken: Vec<_> = (0..MAX_CONNECTIONS).map(|_| test.connect()).collect();
    assert!(taken.iter().all(|(_, key)| key.is_some()));
    let (mut client, key) = test.connect();
    assert!(key.is_none());
    assert_eq!(client.read(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    for (_, key) in taken {
        test.connections.cut(&mut test.rig.reactor, key.unwrap());
    }
    test.assert_over();
}
