//! Egress against an Internet of our own, in which every address has servers and a capture sees every packet.
//!
//! Needs what `tests/harness/internet/internet.py` lays; `tests/run.sh` does that, and runs it as an ordinary
//! user, as root, and as root without capabilities. Without it (`SBX_TEST_INTERNET` is
//! its directory), these tests do nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

mod common;
#[path = "internet/ends.rs"]
mod ends;
#[path = "internet/far.rs"]
mod far;
#[path = "internet/host.rs"]
mod host;
#[path = "internet/matrix.rs"]
mod matrix;
#[path = "internet/names.rs"]
mod names;
#[path = "internet/transfers.rs"]
mod transfers;
