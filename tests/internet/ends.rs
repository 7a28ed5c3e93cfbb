//! How connections end, and what becomes of those that nobody takes.

use sbx::Policy;

use crate::common::eventually;
use crate::far::{came, internet};

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn either_side_may_end_first() {
    let internet = internet();
    // The last one keeps the sandbox: its end would cut what is still being delivered.
    let attempts = ["first 24.0.0.1 7 8", "last 24.0.0.2 13 8", "first 2a00:24::1 7 8", "hold 24.0.0.3 9"];
    let config = crate::far::trying(&Policy::open(), &attempts.map(str::to_owned));
    let sandbox = internet.runtime.create(&config).unwrap();
    let mut lines: Vec<String> = Vec::new();
    eventually("they don't end", || {
        let captured = sandbox.captured(sbx::Stream::Stdout).unwrap();
        let text = String::from_utf8_lossy(&captured.head).into_owned();
        lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| line.trim_end().to_owned())
            .collect();
        lines.retain(|line| line != "holding");
        lines.len() == 3
    });
    assert_eq!([&lines[0], &lines[2]], ["first 24.0.0.1 7 8 whole", "first 2a00:24::1 7 8 whole"]);
    // The far side had ended and was sent everything all the same.
    let sent = lines[1].strip_prefix("last 24.0.0.2 13 8 ").unwrap();
    eventually("the far side didn't get what was sent after its end", || {
        internet.answered().contains(&format!("told 24.0.0.2 13 {sent}"))
    });
    assert!(sent.starts_with("8388608 "), "{sent}");
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn a_reset_is_passed_on_from_either_side() {
    let internet = internet();
    let (attempts, expected) = came(&[
        ("reset 24.1.0.1 11".to_owned(), "ECONNRESET"),
        ("reset 2a00:24:1::1 11".to_owned(), "ECONNRESET"),
        ("cut 24.1.0.2 7".to_owned(), "cut"),
    ]);
    assert_eq!(internet.try_from_inside(&Policy::open(), &attempts), expected);
    eventually("the far side didn't see the reset", || {
        internet.answered().contains(&"reset 24.1.0.2 7".to_owned())
    });
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn refused_and_unreachable_show_as_a_reset() {
    let internet = internet();
    let (attempts, expected) = came(&[
        ("reset 9.9.9.9 4242".to_owned(), "ECONNRESET"),
        ("reset 2620:fe::9 4242".to_owned(), "ECONNRESET"),
        ("reset 9.9.9.11 443".to_owned(), "ECONNRESET"),
    ]);
    assert_eq!(internet.try_from_inside(&Policy::open(), &attempts), expected);
    assert!(internet.packets_to("9.9.9.11") > 0);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn a_far_side_that_never_answers_shows_as_a_reset_in_the_end() {
    let internet = internet();
    let (attempts, expected) = came(&[("reset 9.9.9.10 443".to_owned(), "ECONNRESET")]);
    assert_eq!(internet.try_from_inside(&Policy::open(), &attempts), expected);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn the_end_of_a_sandbox_resets_what_it_had_open() {
    let internet = internet();
    let config = crate::far::trying(&Policy::open(), &["hold 24.2.0.1 9".to_owned()]);
    let sandbox = internet.runtime.create(&config).unwrap();
    eventually("it doesn't connect", || internet.answered().contains(&"tcp 5.5.5.2 24.2.0.1 9".to_owned()));
    sandbox.terminate().unwrap();
    eventually("the far side isn't told", || internet.answered().contains(&"reset 24.2.0.1 9".to_owned()));
}
