//! The queue's promises: order, bounds, nothing important lost, no lost wake-up.

use super::*;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

fn limit() -> EventRecord {
    EventRecord::new(EventKind::Limit)
}

fn readable(fd: &impl AsFd, timeout: PollTimeout) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, timeout).unwrap() > 0
}

fn read_away(mut bell: &UnixStream) -> bool {
    let mut bytes = [0; 64];
    loop {
        match bell.read(&mut bytes) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => return true,
            Err(cause) => panic!("{cause}"),
        }
    }
}

#[test]
fn events_come_in_order_with_cookie_and_sequence() {
    let queue = Queue::new(8).unwrap();
    let (one, two) = (queue.sender(1).unwrap(), queue.sender(2).unwrap());
    one.push(limit());
    two.push(limit());
    let seen: Vec<_> =
        std::iter::from_fn(|| queue.next_record()).map(|e| (e.cookie, e.sequence, e.lost)).collect();
    assert_eq!(seen, [(1, 1, 0), (2, 2, 0)]);
}

#[test]
fn what_does_not_fit_is_counted_in_the_last_that_did() {
    let queue = Queue::new(2).unwrap();
    let sender = queue.sender(0).unwrap();
    for _ in 0..5 {
        sender.push(limit());
    }
    sender.push(EventRecord::new(EventKind::Exited));
    let seen: Vec<_> = std::iter::from_fn(|| queue.next_record()).map(|e| (e.sequence, e.lost)).collect();
    assert_eq!(seen, [(1, 0), (2, 3), (6, 0)]);
    sender.push(limit());
    assert_eq!(queue.next_record().unwrap().lost, 0);
}

#[test]
fn start_and_end_of_every_sandbox_get_through_a_full_queue() {
    let queue = Queue::new(1).unwrap();
    let senders: Vec<_> = (0..100).map(|cookie| queue.sender(cookie).unwrap()).collect();
    for sender in &senders {
        sender.push(EventRecord::new(EventKind::Started));
        sender.push(limit());
        sender.push(EventRecord::new(EventKind::Exited));
    }
    drop(senders);
    let kinds: Vec<_> = std::iter::from_fn(|| queue.next_record()).map(|event| event.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Started).count(), 100);
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Exited).count(), 100);
    assert_eq!(queue.lock().reserved, 0);
    assert_eq!(queue.lock().droppable, 0);
}

#[test]
fn reserved_places_are_bounded_and_come_back() {
    let queue = Queue::new(1).unwrap();
    let mut senders: Vec<_> =
        (0..MAX_RESERVED / RESERVED_FOR_SANDBOX).map(|_| queue.sender(0).unwrap()).collect();
    assert_eq!(queue.sender(0).unwrap_err().code(), Code::Limit);
    senders.pop();
    queue.sender(0).unwrap();
    // More than its two events of that kind compete with all others.
    let sender = senders.pop().unwrap();
    for _ in 0..10 {
        sender.push(EventRecord::new(EventKind::Exited));
    }
    assert_eq!(std::iter::from_fn(|| queue.next_record()).count(), 3);
    assert_eq!(queue.lock().droppable, 0);
}

#[test]
fn the_doorbell_rings_once_for_what_waits() {
    let queue = Queue::new(8).unwrap();
    let sender = queue.sender(0).unwrap();
    sender.push(limit());
    let bell = UnixStream::from(queue.open_fd().unwrap());
    assert!(readable(&bell, PollTimeout::ZERO), "an event waited already");
    assert!(read_away(&bell));
    sender.push(limit());
    assert!(!readable(&bell, PollTimeout::ZERO), "it was not empty");
    while queue.next_record().is_some() {}
    sender.push(limit());
    assert!(readable(&bell, PollTimeout::ZERO));
}

#[test]
fn another_doorbell_replaces_the_one_before() {
    let queue = Queue::new(8).unwrap();
    let first = UnixStream::from(queue.open_fd().unwrap());
    let second = UnixStream::from(queue.open_fd().unwrap());
    assert!(!read_away(&first), "end of file");
    assert!(read_away(&second));
    drop(second);
    let sender = queue.sender(0).unwrap();
    sender.push(limit());
    assert!(queue.next_record().is_some(), "a doorbell closed by the host harms nothing");
    assert!(queue.lock().doorbell.is_none());
}

#[test]
fn a_host_that_never_reads_its_doorbell_harms_nothing() {
    let queue = Queue::new(8).unwrap();
    let bell = UnixStream::from(queue.open_fd().unwrap());
    let sender = queue.sender(0).unwrap();
    for _ in 0..10_000 {
        sender.push(limit());
        assert!(queue.next_record().is_some());
    }
    assert!(readable(&bell, PollTimeout::ZERO));
}

#[test]
fn a_freed_queue_swallows_everything() {
    let queue = Queue::new(8).unwrap();
    let sender = queue.sender(0).unwrap();
    let bell = UnixStream::from(queue.open_fd().unwrap());
    sender.push(limit());
    queue.close();
    sender.push(EventRecord::new(EventKind::Exited));
    assert!(queue.next_record().is_none());
    assert!(!read_away(&bell), "end of file");
    assert_eq!(queue.sender(0).unwrap_err().code(), Code::Closed);
    assert_eq!(queue.open_fd().unwrap_err().code(), Code::Closed);
}

#[test]
fn capacities() {
    for bad in [0, MAX_CAPACITY + 1, usize::MAX] {
        assert!(Queue::new(bad).is_err());
    }
    Queue::new(MAX_CAPACITY).unwrap();
}

/// Four threads push, one takes as a host does. If a wake-up were lost, the poll would run out.
#[test]
fn no_wake_up_is_lost() {
    const EACH: u64 = 20_000;
    let queue = Queue::new(64).unwrap();
    let bell = UnixStream::from(queue.open_fd().unwrap());
    let done = AtomicBool::new(false);
    let (mut taken, mut lost) = (0_u64, 0_u64);
    thread::scope(|scope| {
        let pushers: Vec<_> = (0..4)
            .map(|cookie| {
                let queue = &queue;
                scope.spawn(move || {
                    let sender = queue.sender(cookie).unwrap();
                    for number in 0..EACH {
                        sender.push(limit());
                        if number % 16 == 0 {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
            done.store(true, Ordering::Release);
            // The last word, which the reader waits for.
            queue.sender(99).unwrap().push(EventRecord::new(EventKind::Exited));
        });
        loop {
            assert!(readable(&bell, PollTimeout::try_from(Duration::from_secs(30)).unwrap()), "lost wake-up");
            assert!(read_away(&bell));
            let mut last = false;
            while let Some(event) = queue.next_record() {
                taken += 1;
                lost += event.lost;
                last |= event.kind == EventKind::Exited;
            }
            if last {
                break;
            }
        }
    });
    assert!(done.load(Ordering::Acquire));
    assert_eq!(taken + lost, 4 * EACH + 1);
}
