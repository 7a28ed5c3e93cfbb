//! How captures are read.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::process::Capture;
use crate::reactor::{FdBudget, Kind, Use, Wake};
use crate::sandbox::exec::record::Have;

#[test]
fn two_captures_that_never_run_dry_wake_their_program_once_a_turn() {
    let (mut reactor, mut processes) = (Reactor::new().unwrap(), Slab::new(Kind(3)));
    let pairs = [(); 2].map(|()| UnixStream::pair().unwrap());
    let mut writers = Vec::new();
    let captures = pairs.map(|(ours, theirs)| {
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).unwrap();
        }
        writers.push(theirs);
        Some(CaptureReader::new(OwnedFd::from(ours), Capture::new(16, 16)))
    });
    let record =
        Arc::new(Record::new("flood".to_owned(), "/".to_owned(), None, Default::default(), Have::default()));
    let key = processes.insert(Executed {
        sandbox: 7,
        record,
        id: 1,
        user: String::new(),
        stage: Stage::Running,
        captures,
        timeout: None,
        timer: None,
        began: None,
        _permit: None,
    });
    let running = processes.get_mut(key).unwrap();
    for (capture, slot) in running.captures.iter().zip([FdSlot::First, FdSlot::Second]) {
        reactor.register(capture.as_ref().unwrap().as_fd(), key, slot).unwrap();
    }
    let fill = |mut writer: &UnixStream| while writer.write(&[0; 4096]).is_ok() {};
    let mut again = 0;
    for turn in 0..30 {
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let mut wakes = 0;
        while let Some(wake) = reactor.next() {
            wakes += 1;
            let slots = match wake {
                Wake::Ready(_, slot, _) => vec![slot],
                _ => vec![FdSlot::First, FdSlot::Second],
            };
            for slot in slots {
                writers.iter().for_each(fill);
                assert!(!running.read(&mut reactor, key, slot));
            }
            again += u32::from(matches!(wake, Wake::Rescheduled(_)));
        }
        // Either stream's readiness, and its own wish.
        assert!(wakes <= 3, "{wakes} in turn {turn}");
    }
    assert!(again >= 10, "they did run dry: {again}");
}

#[test]
fn nothing_is_left_of_a_program_that_is_given_up_before_init_was_asked() {
    let (mut reactor, budget) = (Reactor::new().unwrap(), FdBudget::new(1000));
    let (mut processes, mut init, mut tickets) =
        (Slab::new(Kind(3)), InitLink::default(), Tickets::default());
    let permit = || budget.acquire(7, Use::Host, 2).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let order = Order { start: Box::default(), theirs: vec![theirs.into()], permit: permit() };
    let record =
        Arc::new(Record::new("one".to_owned(), "/".to_owned(), None, Default::default(), Have::default()));
    let key = processes.insert(Executed {
        sandbox: 7,
        record,
        id: 0,
        user: String::new(),
        stage: Stage::Waiting(order, Vec::new()),
        captures: [Some(CaptureReader::new(OwnedFd::from(ours), Capture::new(16, 16))), None],
        timeout: None,
        timer: None,
        began: None,
        _permit: Some(permit()),
    });
    let mut execs = Execs::default();
    execs.numbers.insert(1, key);
    let mut cx =
        ExecCx { reactor: &mut reactor, processes: &mut processes, init: &mut init, tickets: &mut tickets };
    execs.finish(&mut cx, 1, key, Err(Error::new(Code::System, "its captures can't be watched")));
    assert!(execs.is_empty());
    assert_eq!(processes.len(), 0, "its captures have ended with it");
}
