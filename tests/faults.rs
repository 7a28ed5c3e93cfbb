//! What a host and a sandbox must withstand: deaths at any moment, storms, thousands of cycles.
//!
//! The long tier is ignored by default: `sh tests/run.sh --long`.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests: helpers fail the test, and a distribution is worth a line"
)]

#[path = "faults/calls.rs"]
mod calls;
#[path = "faults/census.rs"]
mod census;
mod common;
#[path = "faults/engine_lost.rs"]
mod engine_lost;
#[path = "faults/host.rs"]
mod host;
#[path = "faults/kill.rs"]
mod kill;
#[path = "faults/load.rs"]
mod load;
#[path = "faults/missing.rs"]
mod missing;
