//! The embedding contract, point by point: each test is a C host that sees one promise kept.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests: helpers fail the test"
)]

#[path = "faults/census.rs"]
mod census;
mod common;
#[path = "faults/host.rs"]
mod host;

use std::fs;
use std::path::Path;
use std::process::Command;

use census::Census;
use host::{Scratch, compile, library};

/// Runs `tests/contract/NAME.c`: it ends with 0, says nothing, and leaves nothing.
fn holds(name: &str, linked: bool, arguments: &[&Path]) {
    let _turn = census::turn();
    let scratch = Scratch::new();
    run(name, &scratch, linked, arguments, &[]);
}

/// The same in a directory of the caller's, with more in the environment.
fn run(name: &str, scratch: &Scratch, linked: bool, arguments: &[&Path], environment: &[(&str, &Path)]) {
    let program = compile("contract", name, linked);
    let before = Census::take(&scratch.0, &[]);
    let output = Command::new(&program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(&scratch.0)
        .env("TMPDIR", &scratch.0)
        .env("XDG_RUNTIME_DIR", &scratch.0)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} {arguments:?}: {}\n{out}{err}", output.status);
    assert_eq!((out.as_ref(), err.as_ref()), ("", ""), "nothing is written to stdout or stderr");
    before.again(&scratch.0, &[]).unwrap();
}

fn linked(name: &str) {
    holds(name, true, &[]);
}

fn with(name: &str, argument: &str) {
    holds(name, true, &[Path::new(argument)]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn no_handler_is_installed_no_mask_changed_and_own_threads_block_all_signals() {
    linked("signals");
}

#[test]
fn a_host_that_exits_while_a_sandbox_is_made_has_its_own_code() {
    linked("sudden_exit");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn what_too_many_descriptors_on_their_way_keep_back_comes_later() {
    linked("in_flight");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn no_write_raises_sigpipe() {
    linked("sigpipe");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn exit_codes_are_right_where_sigchld_is_ignored() {
    with("children", "ignored");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn exit_codes_are_right_where_children_are_not_waited_for() {
    with("children", "nocldwait");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn exit_codes_are_right_where_the_host_reaps_every_child() {
    with("children", "reaped");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn nothing_of_the_process_is_changed() {
    linked("process_state");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn nothing_of_the_host_is_inherited_and_own_descriptors_are_close_on_exec() {
    linked("inherit");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn there_are_two_threads_however_many_sandboxes() {
    linked("threads");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn threads_without_a_sandbox_end_and_so_does_a_process_without_others() {
    linked("idle_threads");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_runsc_that_hangs_holds_up_nobody() {
    linked("hanging_runsc");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_runsc_that_comes_late_is_found() {
    linked("late_runsc");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_forked_child_can_neither_use_nor_harm() {
    linked("forked");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn dlclose_is_safe() {
    holds("loading", false, &[&library().join("libsbx.so")]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn two_copies_live_in_one_process() {
    let copy = Scratch::new();
    let other = copy.0.join("libother.so");
    fs::copy(library().join("libsbx.so"), &other).unwrap();
    holds("two_copies", false, &[&library().join("libsbx.so"), &other]);
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn few_descriptors_are_an_error_that_leaves_nothing() {
    linked("few_descriptors");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn interrupted_calls_go_on() {
    linked("interrupted");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_stack_of_64_kib_is_enough() {
    linked("small_stack");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_working_directory_that_is_gone_is_no_obstacle() {
    with("odd_process", "no-directory");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_umask_that_takes_nothing_is_no_obstacle() {
    with("odd_process", "umask-000");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_umask_that_takes_everything_is_no_obstacle() {
    with("odd_process", "umask-777");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn closed_standard_streams_are_no_obstacle() {
    with("odd_process", "no-stdio");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_small_limit_of_file_size_is_no_obstacle() {
    with("odd_process", "small-files");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn no_lockable_memory_is_no_obstacle() {
    with("odd_process", "small-locked-memory");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn an_empty_environment_is_no_obstacle() {
    with("odd_process", "no-environment");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn several_users_at_once_are_an_error_and_a_change_for_good_works() {
    linked("changed_user");
}

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_clock_that_jumps_changes_no_time() {
    linked("stopped_clock");
}

/// As `stopped_clock`, with the library that others use for it, and with certificates.
#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_host_whose_clock_jumps_half_a_year_keeps_its_times_and_its_certificates() {
    let faketime = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    assert!(Path::new(&faketime).exists(), "there is no {faketime}: apt-get install libfaketime");
    let _turn = census::turn();
    let (scratch, files) = (Scratch::new(), Scratch::new());
    let (offset, certificate) = (files.0.join("offset"), files.0.join("ca.pem"));
    fs::write(&offset, "+0").unwrap();
    let environment = [
        ("LD_PRELOAD", Path::new(&faketime)),
        ("FAKETIME_TIMESTAMP_FILE", &offset),
        ("FAKETIME_NO_CACHE", Path::new("1")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
    ];
    run("jumping_clock", &scratch, true, &[&offset, &certificate], &environment);
}
