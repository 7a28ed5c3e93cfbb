//! Validation: what is refused before anything starts, with a message that names the value and the rule.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers fail the test"
)]

use std::time::Duration;

use sbx::{Code, Config, Policy, PortKind, Probe, Result, Stdio, Stream, TunnelRate};

/// A configuration that is made wrong, and what the message must say.
type Case = (fn(&mut Config) -> Result<()>, &'static [&'static str]);

fn long(bytes: usize) -> String {
    "a".repeat(bytes)
}

const SETTERS: &[Case] = &[
    (|c| c.add_port(0, PortKind::Encrypted).map(drop), &["port 0", "1 to 65535"]),
    (
        |c| c.add_port(80, PortKind::Encrypted)?.add_port(80, PortKind::Encrypted).map(drop),
        &["port 80", "listed already", "as an encrypted port"],
    ),
    (
        |c| c.add_port(80, PortKind::H2)?.add_port(80, PortKind::Unencrypted).map(drop),
        &["port 80", "listed already", "as an h2 port"],
    ),
    (|c| c.bind_port(80, "127.0.0.1:1".parse().unwrap()).map(drop), &["port 80", "not listed"]),
    (|c| c.set_command(Vec::<String>::new()).map(drop), &["command", "no arguments"]),
    (|c| c.set_command([""]).map(drop), &["command", "must not be empty"]),
    (|c| c.set_command(["a", &long(131_072)]).map(drop), &["command argument 1", "131072"]),
    (|c| c.set_command(["a", "b\0"]).map(drop), &["command argument 1", "NUL"]),
    (|c| c.set_workdir("relative/path").map(drop), &["workdir", "\"relative/path\"", "absolute"]),
    (|c| c.set_workdir("").map(drop), &["workdir", "absolute"]),
    (|c| c.set_workdir("/a/../b").map(drop), &["workdir", "\"/a/../b\"", "\"..\""]),
    (|c| c.set_workdir("/a\0b").map(drop), &["workdir", "NUL"]),
    (|c| c.set_env("", "v").map(drop), &["environment variable", "\"\""]),
    (|c| c.set_env("1A", "v").map(drop), &["environment variable", "\"1A\"", "[a-zA-Z_]"]),
    (|c| c.set_env("A=B", "v").map(drop), &["environment variable", "\"A=B\""]),
    (|c| c.set_env("A-B", "v").map(drop), &["environment variable", "\"A-B\""]),
    (|c| c.set_env("A", "v\0").map(drop), &["environment variable", "\"A\"", "NUL"]),
    (|c| c.set_env("A", &long(131_070)).map(drop), &["environment variable", "131070", "131071"]),
    (|c| c.set_user("").map(drop), &["user"]),
    (|c| c.set_user("a:b:c").map(drop), &["user", "\"a:b:c\""]),
    (|c| c.set_hostname("under_score").map(drop), &["hostname", "\"under_score\"", "RFC 1123"]),
    (|c| c.set_hostname(&long(65)).map(drop), &["hostname"]),
    (|c| c.set_name("../x").map(drop), &["name", "\"../x\""]),
    (|c| c.set_name("-rf").map(drop), &["name", "\"-rf\""]),
    (|c| c.set_name(&long(1024)).map(drop), &["name", "1 to 64", "1024 bytes"]),
    (|c| c.set_name("ümlaut").map(drop), &["name", "\"ümlaut\""]),
    (|c| c.set_tag("a b", "v").map(drop), &["tag", "\"a b\""]),
    (|c| c.set_timeout(Duration::ZERO).map(drop), &["timeout_ms 0", "greater than 0"]),
    (|c| c.set_rootfs("/").map(drop), &["rootfs", "\"/\""]),
    (|c| c.set_rootfs("image").map(drop), &["rootfs", "\"image\"", "absolute"]),
    (|c| c.mount_read_only("data", "/data").map(drop), &["mount source", "\"data\"", "absolute"]),
    (
        |c| c.mount_writable("/data", "/proc/x").map(drop),
        &["mount destination", "\"/proc/x\"", "/proc belongs"],
    ),
    (
        |c| c.mount_writable("/a", "/data")?.mount_read_only("/b", "/data/").map(drop),
        &["mount destination", "\"/data\"", "another mount"],
    ),
    (|c| c.set_mtu(1279).map(drop), &["mtu 1279", "1280 to 9000"]),
    (|c| c.set_mtu(9001).map(drop), &["mtu 9001", "1280 to 9000"]),
    (|c| c.set_tunnel_rate(TunnelRate::PerSecond(0)).map(drop), &["tunnel rate 0", "1 to 1000000"]),
    (|c| c.set_tunnel_rate(TunnelRate::PerSecond(1_000_001)).map(drop), &["tunnel rate 1000001"]),
    (|c| c.set_inbound_cidr_allowlist(["10.0.0.0/33"]).map(drop), &["inbound_cidr_allowlist", "10.0.0.0/33"]),
    (|c| c.set_inbound_cidr_allowlist(["10.0.0.1/8"]).map(drop), &["inbound_cidr_allowlist", "10.0.0.1/8"]),
    (|c| c.add_tls_name("exa mple").map(drop), &["tls name", "\"exa mple\""]),
    (|c| c.set_tls_certificate("x", "y").map(drop), &["tls certificate"]),
    (|c| c.set_stdio(Stream::Stdin, Stdio::capture()).map(drop), &["stdin", "captured"]),
    (|c| c.set_stdio(Stream::Stdout, Stdio::Merged).map(drop), &["stdout", "only stderr"]),
    (|c| c.set_readiness_probe(Probe::tcp(0)).map(drop), &["probe", "0"]),
    (|c| c.set_readiness_probe(Probe::exec(Vec::<String>::new())).map(drop), &["probe", "no arguments"]),
];

#[test]
fn a_setter_refuses_names_value_and_rule_and_check_repeats_it() {
    for (number, (set, words)) in SETTERS.iter().enumerate() {
        let mut config = Config::new();
        config.set_command(["true"]).unwrap();
        let error = set(&mut config).expect_err(&format!("case {number}: {words:?}"));
        assert_eq!(error.code(), Code::Invalid, "{error}");
        for word in *words {
            assert!(error.message().contains(word), "{word:?} is not in: {error}");
        }
        assert_eq!(config.check().unwrap_err().message(), error.message());
    }
}

#[test]
fn a_blocked_policy_takes_neither_ports_nor_lists() {
    let blocked = |more: fn(&mut Config)| {
        let mut config = Config::new();
        config.set_command(["true"]).unwrap().set_policy(&Policy::blocked()).unwrap();
        more(&mut config);
        config.check()
    };
    blocked(|_| ()).unwrap();
    let ports: [fn(&mut Config); 3] = [
        |c| _ = c.add_port(12345, PortKind::Encrypted).unwrap(),
        |c| _ = c.add_port(12345, PortKind::H2).unwrap(),
        |c| _ = c.add_port(12345, PortKind::Unencrypted).unwrap(),
    ];
    for add in ports {
        let error = blocked(add).unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
        assert_eq!(error.message(), "port 12345: a blocked policy allows no ports");
    }
    let lists: [fn(&mut Config); 2] = [
        |c| _ = c.set_inbound_cidr_allowlist(Vec::<String>::new()).unwrap(),
        |c| _ = c.set_inbound_cidr_allowlist(["127.0.0.0/8"]).unwrap(),
    ];
    for set in lists {
        let error = blocked(set).unwrap_err();
        assert_eq!(error.code(), Code::Invalid);
        assert!(error.message().starts_with("inbound_cidr_allowlist: a blocked policy allows none"));
    }
    for add in [Policy::allow_cidr, Policy::deny_cidr] {
        let mut policy = Policy::blocked();
        assert_eq!(add(&mut policy, "192.0.2.0/24").unwrap_err().code(), Code::Invalid);
        let mut config = Config::new();
        config.set_command(["true"]).unwrap().set_policy(&policy).unwrap_err();
        assert_eq!(config.check().unwrap_err().code(), Code::Invalid);
    }
}

#[test]
fn the_limits_themselves_are_allowed() {
    let mut config = Config::new();
    config.set_command(["a", &long(131_071)]).unwrap();
    config.set_env("A", &long(131_069)).unwrap();
    config.add_port(1, PortKind::Encrypted).unwrap().add_port(65_535, PortKind::H2).unwrap();
    config.set_mtu(1280).unwrap().set_mtu(9000).unwrap();
    config.set_name(&long(64)).unwrap().set_hostname(&long(63)).unwrap();
    config.set_timeout(Duration::from_millis(1)).unwrap();
    config.set_inbound_cidr_allowlist(["0.0.0.0/0", "::/0", "127.0.0.1/32"]).unwrap();
    config.check().unwrap();
}
