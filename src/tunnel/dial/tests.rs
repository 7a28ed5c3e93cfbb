//! A dial without a sandbox: sockets of the host's own namespace, and a test that answers for the keeper and for init.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use super::*;
use crate::error::Error;
use crate::reactor::{Kind, Slab, Wake};

const SANDBOX: u64 = 7;
const TIMEOUT: Duration = Duration::from_secs(5);

struct Rig {
    reactor: Reactor,
    dialer: Dialer,
    tickets: Tickets,
    requests: Requests,
    requested: Arc<Mutex<Vec<Request>>>,
    key: Key,
}

impl Rig {
    fn new() -> Self {
        let requested = Arc::new(Mutex::new(Vec::new()));
        let here = Arc::clone(&requested);
        Self {
            reactor: Reactor::new().unwrap(),
            dialer: Dialer::new(Ipv4Addr::LOCALHOST.into(), Vec::new()),
            tickets: Tickets::default(),
            requests: Arc::new(move |request| here.lock().unwrap().push(request)),
            requested,
            key: Slab::new(Kind(2)).insert(()),
        }
    }

    fn cx(&mut self) -> DialCx<'_> {
        DialCx {
            sandbox: SANDBOX,
            key: self.key,
            reactor: &self.reactor,
            dialer: &mut self.dialer,
            tickets: &mut self.tickets,
            requests: &self.requests,
        }
    }

    fn start(&mut self, port: u16, grace: Duration) -> (Dial, Dialed) {
        Dial::start(&mut self.cx(), port, TIMEOUT, grace)
    }

    /// What was requested since the last call.
    fn requested(&mut self) -> Vec<Request> {
        std::mem::take(&mut *self.requested.lock().unwrap())
    }

    /// The ticket of the only request since the last call.
    fn ticket(&mut self) -> u64 {
        match self.requested()[..] {
            [Request::NeedLoopback { key: SANDBOX, ticket, .. }] => ticket,
            ref other => panic!("{other:?}"),
        }
    }

    /// Gives a dial a socket, and waits for the end of its connect.
    fn connect(&mut self, dial: &mut Dial) -> Dialed {
        assert!(dial.waits_for_socket());
        let mut dialed = dial.on_socket(&mut self.cx(), socket::tcp(false).unwrap());
        while matches!(dialed, Dialed::Pending) && dial.connecting().is_some() {
            self.reactor.turn(None).unwrap();
            while let Some(Wake::Ready(_, _, readiness)) = self.reactor.next() {
                if readiness.writable || readiness.failed {
                    dialed = dial.on_ready(&mut self.cx());
                }
            }
        }
        dialed
    }

    /// Has init refuse a dial.
    fn refuse(&mut self, dial: &mut Dial) -> Dialed {
        let ticket = self.ticket();
        assert_eq!(self.tickets.redeem(ticket), Some(self.key));
        dial.on_loopback(&mut self.cx(), Err(Error::new(Code::Refused, "nobody")))
    }

    /// Turns the reactor until that time.
    fn wait(&mut self, until: Instant) {
        while self.reactor.now() < until {
            self.reactor.turn(Some(Duration::from_millis(1))).unwrap();
            while self.reactor.next().is_some() {}
        }
    }
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_server_on_every_address_is_reached_by_a_socket_of_the_pool() {
    let mut rig = Rig::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let (mut dial, dialed) = rig.start(port, TIMEOUT);
    assert!(matches!(dialed, Dialed::Pending));
    assert_eq!(rig.requested(), [Request::NeedSockets { key: SANDBOX, count: 4 }]);
    assert!(matches!(rig.connect(&mut dial), Dialed::Connected(_)));
    assert_eq!(rig.dialer.routes.get(&port), Some(&Route::Direct));
    server.accept().unwrap();
}

#[test]
fn a_server_on_loopback_is_reached_through_init_and_so_is_the_next_at_once() {
    let mut rig = Rig::new();
    let port = closed_port();
    let (mut dial, _) = rig.start(port, TIMEOUT);
    rig.requested();
    assert!(matches!(rig.connect(&mut dial), Dialed::Pending));
    let ticket = rig.ticket();
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert_eq!(rig.tickets.redeem(ticket), Some(rig.key));
    assert!(matches!(dial.on_loopback(&mut rig.cx(), Ok(ours.into())), Dialed::Connected(_)));
    let (next, _) = rig.start(port, TIMEOUT);
    let ticket = rig.ticket();
    next.cancel(&mut rig.tickets, &mut rig.dialer);
    assert_eq!(rig.tickets.redeem(ticket), None, "its connection has ended");
}

#[test]
fn a_port_that_has_never_been_answered_is_tried_again_after_a_back_off() {
    let mut rig = Rig::new();
    let port = closed_port();
    let (mut dial, _) = rig.start(port, Duration::from_millis(20));
    let (begin, mut tries) = (rig.reactor.now(), 0);
    let why = loop {
        assert_eq!(dial.deadline(), begin + TIMEOUT);
        rig.requested();
        assert!(matches!(rig.connect(&mut dial), Dialed::Pending));
        tries += 1;
        match rig.refuse(&mut dial) {
            Dialed::Pending => {
                let next = dial.deadline();
                assert!(next < begin + TIMEOUT);
                rig.wait(next);
                assert!(matches!(dial.on_deadline(&mut rig.cx()), Dialed::Pending));
            }
            Dialed::Failed(why) => break why,
            Dialed::Connected(_) => panic!(),
        }
    };
    assert!(tries > 1);
    assert_eq!((why.code(), why.to_string().as_str()), (Code::Refused, "nothing accepts connections there"));
}

#[test]
fn all_tries_together_have_a_deadline() {
    let mut rig = Rig::new();
    let now = rig.reactor.now();
    let (mut dial, _) = Dial::start(&mut rig.cx(), 80, Duration::from_millis(5), TIMEOUT);
    assert!(matches!(dial.on_deadline(&mut rig.cx()), Dialed::Pending));
    assert_eq!(dial.deadline(), now + Duration::from_millis(5));
    rig.wait(dial.deadline());
    assert!(matches!(dial.on_deadline(&mut rig.cx()), Dialed::Failed(DialError::TimedOut)));
}

#[test]
fn sockets_go_to_those_that_wait_and_none_is_requested_again_when_there_is_none() {
    let mut rig = Rig::new();
    let budget = FdBudget::new(1000);
    let mut slab = Slab::new(Kind(2));
    let keys: Vec<Key> = (0..4).map(|number| slab.insert(number)).collect();
    for key in &keys {
        rig.key = *key;
        rig.start(80, TIMEOUT);
    }
    assert_eq!(rig.requested().len(), 1, "one request at a time");
    let sockets = (0..2).map(|_| socket::tcp(false).unwrap()).collect();
    // The first has ended in the meantime.
    match rig.dialer.on_sockets(sockets, |key| *key != keys[0], (&budget, SANDBOX)) {
        Supply::Sockets(given) => {
            assert_eq!(given.iter().map(|(key, _)| *key).collect::<Vec<_>>(), keys[1..3]);
        }
        Supply::None(_) => panic!(),
    }
    assert_eq!(budget.used(), 0, "their connections have permits of their own");
    match rig.dialer.on_sockets(Vec::new(), |_| true, (&budget, SANDBOX)) {
        Supply::None(waiting) => assert_eq!(waiting, keys[3..]),
        Supply::Sockets(_) => panic!(),
    }
    assert!(rig.requested().is_empty());
}

#[test]
fn connections_that_end_while_the_keeper_is_silent_leave_nothing() {
    let mut rig = Rig::new();
    let mut slab = Slab::new(Kind(2));
    let (mut dials, mut keys) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        rig.key = slab.insert(());
        keys.push(rig.key);
        dials.push(rig.start(80, TIMEOUT).0);
        // Every second one ends again.
        if let Some(index) = dials.len().checked_sub(2).filter(|index| index % 2 == 0) {
            dials[index].cancel(&mut rig.tickets, &mut rig.dialer);
        }
    }
    assert_eq!(rig.dialer.waiting.len(), 50);
    let budget = FdBudget::new(1000);
    let sockets = (0..2).map(|_| socket::tcp(false).unwrap()).collect();
    match rig.dialer.on_sockets(sockets, |_| true, (&budget, SANDBOX)) {
        Supply::Sockets(given) => {
            assert_eq!(given.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [keys[1], keys[3]]);
        }
        Supply::None(_) => panic!(),
    }
    dials.iter().skip(5).for_each(|dial| dial.cancel(&mut rig.tickets, &mut rig.dialer));
    assert!(rig.dialer.waiting.is_empty());
}
