//! Is the server inside ready? The default question, TCP and program probes, and no answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;

use std::time::Duration;

use common::{PATIENCE, config, runtime, script, servers};
use sbx::{Code, Event, ExitReason, PortKind, Probe, Queue};

const SHORT: Option<Duration> = Some(Duration::from_millis(300));

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn without_a_probe_the_first_port_is_asked() {
    let runtime = runtime();
    let mut config = servers(&["echo 7000"]);
    config.add_port(7000, PortKind::Unencrypted).unwrap().add_port(7001, PortKind::Unencrypted).unwrap();
    runtime.create(&config).unwrap().wait_ready(PATIENCE).unwrap();
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn with_nothing_to_ask_waiting_is_an_error() {
    let runtime = runtime();
    let sandbox = runtime.create(&config(&["sleep", "100"])).unwrap();
    for timeout in [PATIENCE, Some(Duration::ZERO)] {
        let error = sandbox.wait_ready(timeout).unwrap_err();
        assert_eq!(error.code(), Code::Invalid, "{error}");
        assert!(error.message().contains("no readiness probe and no port"), "{error}");
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_probe_tells_once_on_the_queue() {
    let runtime = runtime();
    let exec = Probe::exec(["test", "-e", "/tmp/ready"]).every(Duration::from_millis(20));
    let late = "sleep 0.3; touch /tmp/ready; exec sleep 100";
    let mut tcp = servers(&["echo 7000 127.0.0.1"]);
    tcp.set_readiness_probe(Probe::tcp(7000)).unwrap();
    let mut program = script(late);
    program.set_readiness_probe(exec).unwrap();
    for mut config in [tcp, program] {
        let queue = Queue::new(16).unwrap();
        config.set_queue(&queue, 7).unwrap();
        let sandbox = runtime.create(&config).unwrap();
        sandbox.wait_ready(PATIENCE).unwrap();
        sandbox.wait_ready(PATIENCE).unwrap();
        sandbox.terminate().unwrap();
        sandbox.wait(PATIENCE).unwrap();
        let events: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert!(events.iter().all(|queued| queued.cookie == 7), "{events:?}");
        let events: Vec<_> = events.into_iter().map(|queued| queued.event).collect();
        let [Event::Started, Event::Ready, Event::Exited { reason, .. }] = events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(reason, ExitReason::Terminated);
    }
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn never_ready_is_timed_out_and_may_be_asked_again() {
    let runtime = runtime();
    let mut config = config(&["sleep", "100"]);
    config.add_port(7000, PortKind::Unencrypted).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    for _ in 0..2 {
        assert_eq!(sandbox.wait_ready(SHORT).unwrap_err().code(), Code::TimedOut);
    }
    let mut program = script("sleep 100");
    program.set_readiness_probe(Probe::exec(["false"])).unwrap();
    let sandbox = runtime.create(&program).unwrap();
    assert_eq!(sandbox.wait_ready(SHORT).unwrap_err().code(), Code::TimedOut);
    let mut nothing = script("sleep 100");
    nothing.set_readiness_probe(Probe::exec(["/no/such/probe"])).unwrap();
    let sandbox = runtime.create(&nothing).unwrap();
    assert_eq!(sandbox.wait_ready(SHORT).unwrap_err().code(), Code::TimedOut);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_end_meanwhile_ends_the_waiting() {
    let runtime = runtime();
    let mut config = script("sleep 0.3");
    config.add_port(7000, PortKind::Unencrypted).unwrap();
    let sandbox = runtime.create(&config).unwrap();
    let error = sandbox.wait_ready(PATIENCE).unwrap_err();
    assert_eq!(error.code(), Code::State, "{error}");
    assert!(error.message().contains("ended"), "{error}");
}
