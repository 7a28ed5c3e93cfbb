//! Names: what the resolver tells, and what a domain in a policy lets a sandbox reach.

use sbx::{Config, Dns, Policy, Queue};

use crate::common::config;
use crate::far::{Internet, allowlist, internet};

/// The far side's name server.
const SERVER: &str = "30.0.0.53:5300";

/// A sandbox that tries these things, one after the other.
fn trying(policy: &Policy, servers: &[&str], attempts: &[&str]) -> Config {
    let mut command = vec!["/usr/bin/python3", "-I", "-c", include_str!("names.py")];
    command.extend(attempts);
    let mut config = config(&command);
    config.set_policy(policy).unwrap();
    for server in servers {
        config.add_nameserver(server).unwrap();
    }
    config
}

/// Tries them, and compares what came of each.
fn check(internet: &Internet, policy: &Policy, expected: &[(&str, &str)]) {
    let attempts: Vec<&str> = expected.iter().map(|(attempt, _)| *attempt).collect();
    let sandbox = internet.runtime.create(&trying(policy, &[SERVER], &attempts)).unwrap();
    let expected: Vec<String> =
        expected.iter().map(|(attempt, came)| format!("{attempt} -> {came}")).collect();
    assert_eq!(internet.finish(&sandbox), expected);
}

fn domains(patterns: &[&str]) -> Policy {
    let mut policy = Policy::allowlist();
    for pattern in patterns {
        policy.allow_domain(pattern).unwrap();
    }
    policy.add_domain_port(8443).unwrap();
    policy
}

/// How often the name server was asked for a name, in any mixture of cases.
fn asked(internet: &Internet, name: &str) -> usize {
    internet
        .questions()
        .iter()
        .filter(|line| line.split(' ').nth(1).is_some_and(|asked| asked.eq_ignore_ascii_case(name)))
        .count()
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn an_open_policy_answers_every_name_as_it_is() {
    let internet = internet();
    check(
        &internet,
        &Policy::open(),
        &[
            ("find allowed.example", "26.0.0.1 2a00:26::1"),
            ("find alias.example", "26.0.0.5"),
            ("ask udp missing.example A", "code 3"),
            ("ask udp allowed.example TXT", "code 0"),
            ("ask tcp wild.example A", "code 0 26.0.0.2"),
            (
                "ask udp alias.example A",
                "code 0 26.0.0.5 5:0674617267657409656c73657768657265076578616d706c6500",
            ),
            ("ask udp allowed.example ANY", "code 5"),
            ("ask tcp allowed.example AXFR", "code 5"),
        ],
    );
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn an_open_policy_can_be_made_to_answer_addresses_only() {
    let internet = internet();
    let mut policy = Policy::open();
    policy.set_dns(Dns::Addresses).unwrap();
    let refused = "code 5 extended 15";
    check(
        &internet,
        &policy,
        &[
            ("find allowed.example", "26.0.0.1 2a00:26::1"),
            ("find alias.example", "26.0.0.5"),
            // The name that it stands for isn't told.
            ("ask udp alias.example A", "code 0 26.0.0.5"),
            ("ask tcp wild.example A", "code 0 26.0.0.2"),
            ("ask edns rebind.example A", "code 0 extended 17 26.0.0.7"),
            ("ask edns service.example HTTPS", "code 0 extended 17 65:00010000010003026832000400041a000008"),
            ("ask edns secretly.example TXT", refused),
            ("ask edns secretly.example SOA", refused),
            ("ask edns secretly.example CNAME", refused),
            ("ask edns secretly.example PTR", refused),
            ("ask edns secretly.example SRV", refused),
        ],
    );
    assert_eq!(asked(&internet, "secretly.example"), 0);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn what_the_policy_does_not_want_asked_is_refused_and_nobody_hears_of_it() {
    let internet = internet();
    // As tools that carry data in names write them.
    let tunnel = format!("{0}.{0}.{0}.t.example", "z".repeat(62));
    let questions: Vec<String> = ["udp", "tcp", "edns"]
        .iter()
        .flat_map(|transport| {
            [("NULLNAME.example", "A"), (&*tunnel, "TXT"), ("wild.example", "A")]
                .map(|(name, kind)| format!("ask {transport} {name} {kind}"))
        })
        .collect();
    let refused = |question: &str| if question.contains("edns") { "code 5 extended 15" } else { "code 5" };
    let mut expected: Vec<(&str, &str)> =
        questions.iter().map(|question| (&**question, refused(question))).collect();
    expected.push(("find forbidden.example", "EAI_AGAIN"));
    let mut off = Policy::open();
    off.set_dns(Dns::Off).unwrap();
    // A name server of its own for each, so that the capture tells.
    for (policy, server) in [
        (Policy::allowlist(), "30.0.1.1"),
        (domains(&["allowed.example", "*.wild.example"]), "30.0.1.2"),
        (allowlist(&["30.0.0.0/8"]), "30.0.1.3"),
        (off, "30.0.1.4"),
    ] {
        let attempts: Vec<&str> = expected.iter().map(|(attempt, _)| *attempt).collect();
        let server_port = format!("{server}:5300");
        let sandbox = internet.runtime.create(&trying(&policy, &[&server_port], &attempts)).unwrap();
        let lines = internet.finish(&sandbox);
        for (line, (attempt, came)) in lines.iter().zip(&expected) {
            assert_eq!(*line, format!("{attempt} -> {came}"));
        }
        assert_eq!(internet.packets_to(server), 0, "{policy:?}");
        let stats = sandbox.stats().unwrap();
        assert!(stats.dns_refused >= 10 && stats.dns_queries >= stats.dns_refused, "{stats:?}");
    }
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn an_allowlist_can_be_given_all_names_and_still_reaches_no_more() {
    let internet = internet();
    let mut policy = domains(&["allowed.example"]);
    policy.set_dns(Dns::On).unwrap();
    check(
        &internet,
        &policy,
        &[
            ("find wild.example", "26.0.0.2"),
            ("tls wild.example 26.0.0.2 8443", "ECONNREFUSED"),
            ("find allowed.example", "26.0.0.1 2a00:26::1"),
            ("tls allowed.example 26.0.0.1 8443", "says allowed.example hello"),
        ],
    );
    assert_eq!(internet.packets_to("26.0.0.2"), 0);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn addresses_of_what_is_protected_are_taken_out_of_answers() {
    let internet = internet();
    for policy in [Policy::open(), domains(&["rebind.example", "only-rebind.example", "service.example"])] {
        check(
            &internet,
            &policy,
            &[
                ("find rebind.example", "26.0.0.7 2a00:26::7"),
                ("ask edns rebind.example A", "code 0 extended 17 26.0.0.7"),
                ("ask edns rebind.example AAAA", "code 0 extended 17 2a00:26::7"),
                ("ask edns only-rebind.example A", "code 0 extended 17"),
                ("find only-rebind.example", "EAI_NODATA"),
                // Priority 1, the name itself; ALPN h2; one hint of two; no encrypted hello.
                (
                    "ask edns service.example HTTPS",
                    "code 0 extended 17 65:00010000010003026832000400041a000008",
                ),
            ],
        );
    }
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn an_answer_that_is_too_long_for_a_datagram_comes_by_tcp() {
    let internet = internet();
    let all = (0..60).map(|last| format!("26.1.0.{last}"));
    let mut all: Vec<String> = all.collect();
    all.sort();
    let found = all.join(" ");
    let whole = format!("code 0 {found}");
    check(
        &internet,
        &Policy::open(),
        &[
            ("ask udp big.example A", "code 0 truncated"),
            ("ask tcp big.example A", &whole),
            ("ask edns big.example A", &whole),
            ("find big.example", &found),
        ],
    );
    let questions = internet.questions();
    assert!(
        questions.iter().any(|line| line.eq_ignore_ascii_case("tcp big.example A")),
        "the relay asked so too"
    );
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn nobody_elses_answer_is_taken_and_odd_servers_are_got_along_with() {
    let internet = internet();
    check(
        &internet,
        &Policy::open(),
        &[
            ("find wrong.example", "26.0.0.11"),
            ("ask udp lower.example A", "code 0 26.0.0.10"),
            ("ask udp plain.example A", "code 0 26.0.0.9"),
            ("ask edns failing.example A", "code 2"),
            ("ask edns silent.example A", "code 2 extended 22"),
        ],
    );
    let questions = internet.questions();
    assert!(
        questions.iter().any(|line| line.eq_ignore_ascii_case("tcp lower.example A")),
        "by TCP to be sure"
    );
    let mixed = questions.iter().filter(|line| line.eq_ignore_ascii_case("udp wrong.example A"));
    assert!(
        mixed.clone().count() > 0 && mixed.clone().any(|line| !line.contains("wrong.example")),
        "in mixed case"
    );
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn servers_that_do_not_answer_give_way_to_the_next() {
    let internet = internet();
    let attempts = ["find allowed.example", "find wild.example", "ask udp allowed.example A"];
    // One refuses, one is silent.
    let servers = ["9.9.9.9:5299", "9.9.9.10:5300", SERVER];
    let sandbox = internet.runtime.create(&trying(&Policy::open(), &servers, &attempts)).unwrap();
    assert_eq!(
        internet.finish(&sandbox),
        [
            "find allowed.example -> 26.0.0.1 2a00:26::1",
            "find wild.example -> 26.0.0.2",
            "ask udp allowed.example A -> code 0 26.0.0.1"
        ]
    );
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn an_answer_is_remembered_for_as_long_as_it_is_good() {
    let internet = internet();
    let before = asked(&internet, "remembered.example");
    let again = vec![("ask udp remembered.example A", "code 0 26.0.0.99"); 5];
    check(&internet, &Policy::open(), &again);
    assert_eq!(asked(&internet, "remembered.example"), before + 1);
    let absent = vec![("ask udp missing-remembered.example A", "code 3"); 5];
    check(&internet, &Policy::open(), &absent);
    assert_eq!(asked(&internet, "missing-remembered.example"), 1);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn a_domain_is_reached_by_its_name_at_its_address_by_tls_and_not_otherwise() {
    let internet = internet();
    let queue = Queue::new(256).unwrap();
    let policy = domains(&["allowed.example", "*.wild.example", "alias.example"]);
    let expected = [
        // Not before it was looked up.
        ("tls allowed.example 26.0.0.1 8443", "ECONNREFUSED"),
        ("find allowed.example", "26.0.0.1 2a00:26::1"),
        ("tls allowed.example 26.0.0.1 8443", "says allowed.example hello"),
        ("tls ALLOWED.example 26.0.0.1 8443", "says ALLOWED.example hello"),
        ("tls allowed.example 2a00:26::1 8443", "says allowed.example hello"),
        ("hello allowed.example 26.0.0.1 443 1000", "reached"),
        ("hello allowed.example 26.0.0.1 443 1", "reached"),
        // Another name, none, not TLS, another port, another protocol.
        ("hello other.example 26.0.0.1 443 1000", "ECONNRESET"),
        ("tls - 26.0.0.1 8443", "ECONNRESET"),
        ("plain 26.0.0.1 443", "ECONNRESET"),
        ("plain 26.0.0.1 80", "ECONNREFUSED"),
        ("udp 26.0.0.1 443", "ECONNREFUSED"),
        // Names below, but not the name itself.
        ("find www.wild.example", "26.0.0.3"),
        ("tls www.wild.example 26.0.0.3 8443", "says www.wild.example hello"),
        ("find a.b.wild.example", "26.0.0.4"),
        ("tls a.b.wild.example 26.0.0.4 8443", "says a.b.wild.example hello"),
        ("find wild.example", "EAI_AGAIN"),
        // An allowed name at an address that is another's.
        ("hello www.wild.example 26.0.0.1 443 1000", "ECONNRESET"),
        // What it is an alias of.
        ("find alias.example", "26.0.0.5"),
        ("tls alias.example 26.0.0.5 8443", "says alias.example hello"),
        ("tls target.elsewhere.example 26.0.0.5 8443", "ECONNRESET"),
        // Who says nothing.
        ("quiet 26.0.0.1 443", "ECONNRESET"),
    ];
    let attempts: Vec<&str> = expected.iter().map(|(attempt, _)| *attempt).collect();
    let mut config = trying(&policy, &[SERVER], &attempts);
    config.set_queue(&queue, 1).unwrap();
    let sandbox = internet.runtime.create(&config).unwrap();
    let lines = internet.finish(&sandbox);
    for (line, (attempt, came)) in lines.iter().zip(&expected) {
        // A reset may also cut the handshake where Python's TLS calls that an end.
        let line = line.replace("TLS UNEXPECTED_EOF_WHILE_READING", "ECONNRESET");
        assert_eq!(line, format!("{attempt} -> {came}"));
    }
    let mut reasons = Vec::new();
    while let Some(event) = queue.next() {
        if event.kind == sbx::EventKind::Denied {
            reasons.push((event.reason, event.detail));
        }
    }
    use sbx::Reason::{DnsName, NoServerName, NotListed, NotResolved, NotTls, ServerName, TlsTimeout};
    for (reason, text) in [
        (NotListed, ""),
        (ServerName, "other.example"),
        (NoServerName, ""),
        (NotTls, ""),
        (DnsName, "wild.example"),
        (NotResolved, "www.wild.example"),
        (TlsTimeout, ""),
    ] {
        let told = reasons.iter().any(|(number, detail)| *number == reason as i32 && detail.ends_with(text));
        assert!(told, "{reason:?}: {reasons:#?}");
    }
    assert_eq!(internet.packets_to("26.0.0.2"), 0);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn handshakes_that_never_end_are_not_all_kept() {
    let internet = internet();
    let queue = Queue::new(256).unwrap();
    let mut config = trying(&domains(&["allowed.example"]), &[SERVER], &["half allowed.example 400"]);
    config.set_queue(&queue, 1).unwrap();
    let sandbox = internet.runtime.create(&config).unwrap();
    let expected = "half allowed.example 400 -> some are cut, says allowed.example hello";
    assert_eq!(internet.finish(&sandbox), [expected]);
    let told = std::iter::from_fn(|| queue.next()).any(|event| {
        event.kind == sbx::EventKind::Limit && event.detail.contains("too many wait to name their server")
    });
    assert!(told);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn domains_and_ranges_add_up() {
    let internet = internet();
    let mut policy = domains(&["www.wild.example"]);
    policy.allow_cidr("26.2.0.0/24").unwrap().deny_cidr("26.3.0.4/32").unwrap();
    policy.allow_domain("denied.example").unwrap();
    check(
        &internet,
        &policy,
        &[
            ("plain 26.2.0.1 80", "reached"),
            ("plain 26.2.0.1 443", "reached"),
            ("udp 26.2.0.1 443", "reached"),
            ("find www.wild.example", "26.0.0.3"),
            ("hello www.wild.example 26.0.0.3 443 1000", "reached"),
            ("plain 26.0.0.3 80", "ECONNREFUSED"),
            // A denied range wins over a domain.
            ("find denied.example", "26.3.0.4"),
            ("hello denied.example 26.3.0.4 443 1000", "ECONNREFUSED"),
        ],
    );
    assert_eq!(internet.packets_to("26.3.0.4"), 0);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn two_hundred_names_at_once_are_all_answered_and_can_be_reached() {
    let internet = internet();
    let policy = domains(&["*.many.example"]);
    check(&internet, &policy, &[("crowd many.example 200", "200 found, 200 reached")]);
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn a_change_of_policy_keeps_the_domains_that_stay_and_cuts_those_that_go() {
    use std::io::Write;
    let internet = internet();
    let names = domains(&["allowed.example", "www.wild.example"]);
    let mut config = trying(&names, &[SERVER], &["hold allowed.example www.wild.example"]);
    config.set_stdio(sbx::Stream::Stdin, sbx::Stdio::Descriptor).unwrap();
    let sandbox = internet.runtime.create(&config).unwrap();
    let mut input = std::fs::File::from(sandbox.open_stream(sbx::Stream::Stdin).unwrap());
    crate::common::eventually("it doesn't connect", || {
        let captured = sandbox.captured(sbx::Stream::Stdout).unwrap();
        String::from_utf8_lossy(&captured.head).contains("holding")
    });
    sandbox.set_policy(&domains(&["allowed.example"])).unwrap();
    input.write_all(b"go\n").unwrap();
    let lines = internet.finish(&sandbox);
    let came = "hold allowed.example www.wild.example -> says allowed.example hello, cut, then ECONNREFUSED";
    assert_eq!(lines, ["holding", came]);
}
