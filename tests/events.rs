//! Events: what a queue tells of sandboxes, and ends at any moment.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::{PATIENCE, config, eventually, processes_with, runtime, script};
use sbx::{Code, Event, ExitReason, Queue};

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_life_on_a_queue() {
    let runtime = runtime();
    let queue = Queue::new(16).unwrap();
    let mut config = script("exit 3");
    config.set_queue(&queue, u64::MAX).unwrap();
    runtime.create(&config).unwrap().wait(PATIENCE).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events.iter().all(|event| event.cookie == u64::MAX && event.lost == 0));
    assert_eq!(events[0].event, Event::Started);
    let Event::Exited { reason, code, .. } = events[1].event else { panic!("{events:?}") };
    assert_eq!((reason, code), (ExitReason::Exited, 3));
    assert!(events[0].time <= events[1].time && events[0].sequence < events[1].sequence);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_command_that_cannot_start_is_a_failure_with_its_reason() {
    let runtime = runtime();
    let queue = Queue::new(16).unwrap();
    let mut config = config(&["no-such-program"]);
    config.set_queue(&queue, 5).unwrap();
    let sandbox = runtime.create_begin(&config).unwrap();
    assert_eq!(sandbox.wait(PATIENCE).unwrap_err().code(), Code::Exec);
    let events: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].cookie, 5);
    let Event::Failed { error, .. } = &events[0].event else { panic!("{events:?}") };
    assert_eq!(error.code(), Code::Exec);
    assert!(error.message().contains("no-such-program"), "{error}");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn fifty_sandboxes_on_one_queue_with_a_doorbell() {
    let runtime = runtime();
    let queue = Queue::new(8).unwrap();
    let mut doorbell = UnixStream::from(queue.open_fd().unwrap());
    doorbell.set_nonblocking(false).unwrap();
    doorbell.set_read_timeout(PATIENCE).unwrap();
    let sandboxes: Vec<_> = (0..50)
        .map(|number| {
            let mut config = script("exit 4");
            config.set_queue(&queue, number).unwrap();
            runtime.create_begin(&config).unwrap()
        })
        .collect();
    let (mut started, mut exited) = (0_u64, 0_u64);
    while exited != (1 << 50) - 1 {
        match doorbell.read(&mut [0; 64]) {
            // A read with a time-out isn't restarted after a signal (signal(7)); keepers end with SIGCHLD.
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            rung => assert_ne!(rung.unwrap(), 0),
        }
        while let Some(event) = queue.next() {
            let bit = 1 << event.cookie;
            match event.event {
                Event::Started => {
                    assert_eq!(started & bit, 0);
                    started |= bit;
                }
                Event::Exited { code, .. } => {
                    assert_eq!((started & bit, exited & bit, code), (bit, 0, 4));
                    exited |= bit;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(sandboxes.iter().all(|sandbox| sandbox.exit().is_some()));
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn terminated_at_any_moment_of_its_creation() {
    let runtime = runtime();
    let queue = Queue::new(8).unwrap();
    let mut config = config(&["sleep", "100"]);
    let begin = Instant::now();
    runtime.create(&config).unwrap();
    // Others run at the same time; without them it takes a tenth of a second.
    let whole = begin.elapsed().min(Duration::from_millis(200));
    let mut ids = Vec::new();
    for number in 0..50 {
        config.set_queue(&queue, number).unwrap();
        let sandbox = runtime.create_begin(&config).unwrap();
        // Spread over the creation, and some beyond it.
        std::thread::sleep(whole.mul_f64(number as f64 / 40.0));
        sandbox.terminate().unwrap();
        let ended = sandbox.wait(PATIENCE);
        let events: Vec<_> = std::iter::from_fn(|| queue.next())
            .inspect(|event| assert_eq!(event.cookie, number))
            .map(|event| event.event)
            .collect();
        match ended {
            Ok(exit) => {
                assert_eq!((exit.reason, exit.code), (ExitReason::Terminated, 137));
                assert!(matches!(events[..], [.., Event::Exited { .. }]), "{events:?}");
            }
            Err(error) => assert!(matches!(events[..], [Event::Failed { .. }]), "{error}: {events:?}"),
        }
        ids.push(sandbox.id().to_owned());
    }
    for id in ids {
        assert_eq!(processes_with(&id), Vec::<String>::new());
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_dropped_sandbox_ends() {
    let runtime = runtime();
    let queue = Queue::new(8).unwrap();
    let mut config = config(&["sleep", "100"]);
    config.set_queue(&queue, 1).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let id = sandbox.id().to_owned();
    drop(sandbox);
    let mut last = None;
    eventually("it has ended", || {
        last = queue.next().or(last.take());
        last.as_ref().is_some_and(|last| matches!(last.event, Event::Exited { .. }))
    });
    assert_eq!(processes_with(&id), Vec::<String>::new());
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn waiters_end_when_it_does_and_when_the_runtime_does() {
    let runtime = runtime();
    let sandbox = runtime.create(&config(&["sleep", "100"])).unwrap();
    let waiting = sandbox.clone();
    let waiter = std::thread::spawn(move || waiting.wait(None));
    sandbox.terminate().unwrap();
    assert_eq!(waiter.join().unwrap().unwrap().reason, ExitReason::Terminated);
    let sandbox = runtime.create(&config(&["sleep", "100"])).unwrap();
    let (waiting, id) = (sandbox.clone(), sandbox.id().to_owned());
    let waiter = std::thread::spawn(move || waiting.wait(None));
    std::thread::sleep(Duration::from_millis(20));
    runtime.shutdown();
    // Either it saw the end, or that there is nobody left to tell it.
    let seen = waiter.join().unwrap();
    assert!(
        seen.as_ref().is_ok_and(|exit| exit.code == 137)
            || seen.as_ref().is_err_and(|error| error.code() == Code::Closed),
        "{seen:?}"
    );
    assert_eq!(processes_with(&id), Vec::<String>::new());
    assert!(runtime.create(&config(&["true"])).is_err());
}
