//! The host's own addresses, as its routing knows them at each moment.

use sbx::Policy;
use sbx::Reason;

use crate::common::eventually;
use crate::far::{Internet, allowlist, internet};

fn reach(address: &str, port: u16) -> Vec<String> {
    vec![format!("reach {address} {port}")]
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn an_address_of_the_host_needs_an_entry_of_its_own() {
    let internet = internet();
    let _alone = Internet::host_alone();
    for (address, range, exact) in
        [("5.5.5.2", "5.5.5.0/24", "5.5.5.2/32"), ("2a05:5:5::2", "2a05:5:5::/64", "2a05:5:5::2/128")]
    {
        for policy in [Policy::open(), allowlist(&[range])] {
            let lines = internet.try_from_inside(&policy, &reach(address, 4242));
            assert_eq!(lines, [format!("reach {address} 4242 ECONNRESET")]);
        }
        // The host's server at that port says "reached".
        let lines = internet.try_from_inside(&allowlist(&[range, exact]), &reach(address, 4242));
        assert_eq!(lines, [format!("reach {address} 4242 reached")]);
    }
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn neighbours_on_the_hosts_own_link_are_denied_at_public_addresses_too() {
    let internet = internet();
    for (address, range, everything) in
        [("5.5.5.9", "5.5.5.0/24", "0.0.0.0/0"), ("2a05:5:5::9", "2a05:5:5::/64", "::/0")]
    {
        let before = internet.packets_to(address);
        for policy in [Policy::open(), allowlist(&[everything])] {
            let lines = internet.try_from_inside(&policy, &reach(address, 443));
            assert_eq!(lines, [format!("reach {address} 443 ECONNRESET")]);
            let verdict = sbx::explain(&policy, address.parse().unwrap(), 6).unwrap();
            assert_eq!(verdict.reason, Reason::OnLink, "{address}");
        }
        assert_eq!(internet.packets_to(address), before, "{address}");
        // Named, they are reached; and whatever is said of neighbours, the Internet is.
        let mut local = Policy::open();
        local.allow_local_cidr(range).unwrap();
        for policy in [local, allowlist(&[range])] {
            let lines = internet.try_from_inside(&policy, &reach(address, 443));
            assert_eq!(lines, [format!("reach {address} 443 reached")]);
        }
    }
    for address in ["8.8.8.8", "2606:4700:4700::1111"] {
        let lines = internet.try_from_inside(&Policy::open(), &reach(address, 443));
        assert_eq!(lines, [format!("reach {address} 443 reached")]);
    }
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn an_address_that_comes_while_the_sandbox_runs_is_the_hosts_from_then_on() {
    let internet = internet();
    let mut config = crate::common::config(&[
        "/usr/bin/python3",
        "-I",
        "-c",
        r#"
import socket, sys
for line in sys.stdin:
    s = socket.socket()
    s.settimeout(20)
    try:
        s.connect((line.strip(), 443))
        s.sendall(b"probe\n")
        print(s.recv(64).decode().strip(), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"#,
    ]);
    config.set_stdio(sbx::Stream::Stdin, sbx::Stdio::Descriptor).unwrap();
    let sandbox = internet.runtime.create(&config).unwrap();
    let mut input = std::fs::File::from(sandbox.open_stream(sbx::Stream::Stdin).unwrap());
    let mut ask = |expected: &str| {
        use std::io::Write;
        input.write_all(b"25.0.0.1\n").unwrap();
        crate::common::eventually("no answer", || {
            let captured = sandbox.captured(sbx::Stream::Stdout).unwrap();
            String::from_utf8_lossy(&captured.head).trim_end().ends_with(expected)
        });
    };
    ask("reached");
    internet.change_address("add 25.0.0.1");
    ask("ConnectionResetError");
    internet.change_address("remove 25.0.0.1");
    ask("reached");
}

#[test]
#[ignore = "needs the network of tests/harness/internet"]
fn what_is_under_way_to_an_address_that_the_host_gets_never_arrives_there() {
    let internet = internet();
    // Packets to it vanish, until the host has it: then a server of the host's listens there.
    let address = "9.9.9.12";
    let mut config = crate::common::config(&[
        "/usr/bin/python3",
        "-I",
        "-c",
        r#"
import socket, sys, threading, time
to = (sys.argv[1], 4242)
def datagrams():
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        try:
            bound.sendto(b"x", to)
        except OSError:
            pass
        time.sleep(0.05)
threading.Thread(target=datagrams, daemon=True).start()
connection = socket.create_connection(to)
print("connected", flush=True)
try:
    connection.sendall(b"probe\n")
    print(connection.recv(64), flush=True)
except OSError as error:
    print(type(error).__name__, flush=True)
threading.Event().wait()
"#,
        address,
    ]);
    config.set_policy(&Policy::open()).unwrap();
    let sandbox = internet.runtime.create(&config).unwrap();
    let said = || {
        let captured = sandbox.captured(sbx::Stream::Stdout).unwrap();
        String::from_utf8_lossy(&captured.head).into_owned()
    };
    let sent = |protocol: &str| {
        internet
            .packets()
            .iter()
            .any(|words| words[0] == protocol && words.get(3).is_some_and(|to| to == address))
    };
    eventually("nothing is under way", || said().starts_with("connected") && sent("tcp") && sent("udp"));
    internet.change_address("add 9.9.9.12");
    let denied = || sandbox.stats().unwrap().egress_denied;
    eventually("they are still under way", || said().contains("ConnectionResetError") && denied() >= 10);
    let arrived = internet.contacts_at(address);
    internet.change_address("remove 9.9.9.12");
    assert_eq!(arrived, 0, "{}", said());
}
