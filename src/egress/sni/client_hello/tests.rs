use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;

use super::*;

/// What rustls sends first to a server of that name.
pub(in crate::egress::sni) fn rustls_hello(name: &str, sni: bool) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = sni;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// What OpenSSL sends first, by way of Python's ssl.
fn openssl_hello(name: Option<&str>, oldest: bool) -> Vec<u8> {
    let script = "import ssl, sys
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if sys.argv[2] == '1':
    context.maximum_version = ssl.TLSVersion.TLSv1_2
try:
    context.wrap_bio(incoming, outgoing, server_hostname=sys.argv[1] or None).do_handshake()
except ssl.SSLWantReadError:
    sys.stdout.buffer.write(outgoing.read())
";
    let arguments = ["-c", script, name.unwrap_or_default(), if oldest { "1" } else { "0" }];
    let output = std::process::Command::new("python3").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The same handshake in records of that length.
fn in_records(bytes: &[u8], length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in bytes[RECORD_HEADER..].chunks(length) {
        out.extend_from_slice(&bytes[..3]);
        out.extend_from_slice(&u16::try_from(piece.len()).unwrap().to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

fn feed(bytes: &[u8], mut sizes: impl Iterator<Item = usize>) -> (Found, usize) {
    let mut hello = ClientHello::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(sizes.next().unwrap_or(1).clamp(1, rest.len()));
        rest = more;
        match hello.push(piece) {
            Found::More => {}
            found => {
                let used = bytes.len() - rest.len();
                assert_eq!(hello.into_bytes(), &bytes[..used], "it is kept as it came");
                return (found, used);
            }
        }
    }
    (Found::More, bytes.len())
}

#[test]
fn the_name_is_found_byte_by_byte_at_the_last_byte_and_not_before() {
    let hellos = [
        rustls_hello("Api.Example.com", true),
        openssl_hello(Some("api.example.com"), false),
        openssl_hello(Some("API.example.com"), true),
    ];
    for bytes in hellos {
        let expected = Found::Server("api.example.com".to_owned());
        assert_eq!(feed(&bytes, std::iter::repeat(1)), (expected.clone(), bytes.len()));
        for length in [1, 3, 100, 10_000] {
            let records = in_records(&bytes, length);
            assert_eq!(feed(&records, std::iter::repeat(1)), (expected.clone(), records.len()), "{length}");
            assert_eq!(feed(&records, std::iter::once(records.len())).0, expected);
        }
    }
}

#[test]
fn empty_records_are_passed_over() {
    let empty = b"\x16\x03\x01\x00\x00";
    let hello = rustls_hello("api.example.com", true);
    let found = Found::Server("api.example.com".to_owned());
    let first = [&empty[..], &hello].concat();
    assert_eq!(feed(&first, std::iter::repeat(1)), (found.clone(), first.len()));
    let between: Vec<u8> = [in_records(&hello, 100), empty.repeat(3)].concat();
    let records = in_records(&hello, 100);
    let (half, rest) = records.split_at(RECORD_HEADER + 100);
    let amid = [half, &empty.repeat(2), rest].concat();
    assert_eq!(feed(&amid, std::iter::repeat(3)).0, found);
    assert_eq!(feed(&between, std::iter::repeat(1)), (found, records.len()));
    // Nothing but those isn't TLS, once it is too much.
    let (end, used) = feed(&empty.repeat(MAX_BYTES), std::iter::repeat(1000));
    assert_eq!(end, Found::Refused(Reason::NotTls));
    assert!(used <= MAX_BYTES + 1000, "{used}");
}

#[test]
fn without_a_name_and_without_tls_are_reasons_of_their_own() {
    for bytes in
        [rustls_hello("api.example.com", false), rustls_hello("192.0.2.1", true), openssl_hello(None, true)]
    {
        assert_eq!(feed(&bytes, std::iter::repeat(7)).0, Found::Refused(Reason::NoServerName));
    }
    let sslv2 = b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10";
    let alert = b"\x15\x03\x03\x00\x02\x02\x28";
    let server_hello = b"\x16\x03\x03\x00\x04\x02\x00\x00\x00";
    let long_record = b"\x16\x03\x03\x40\x01";
    let long_message = b"\x16\x03\x03\x00\x04\x01\x01\x00\x01";
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"SSH-2.0-x",
        b"\x16SSH",
        b"\0",
        sslv2,
        alert,
        server_hello,
        long_record,
        long_message,
    ] {
        assert_eq!(feed(bytes, std::iter::repeat(1)).0, Found::Refused(Reason::NotTls), "{bytes:?}");
    }
}

/// A ClientHello with these extensions.
fn with_extensions(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let word = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
    let list: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &word(data.len()), data].concat())
        .collect();
    body.extend_from_slice(&word(list.len()));
    body.extend_from_slice(&list);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    in_records(&[&[22, 3, 1, 0, 0][..], &message].concat(), MAX_RECORD)
}

fn names(names: &[(u8, &str)]) -> (u16, Vec<u8>) {
    let word = |number: usize| u16::try_from(number).unwrap().to_be_bytes();
    let list: Vec<u8> = names
        .iter()
        .flat_map(|(kind, name)| [&[*kind][..], &word(name.len()), name.as_bytes()].concat())
        .collect();
    (SERVER_NAME, [&word(list.len())[..], &list].concat())
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let found = |extensions: &[(u16, Vec<u8>)]| feed(&with_extensions(extensions), std::iter::repeat(50)).0;
    let good = || names(&[(0, "a.example")]);
    let ech = || (0xfe0d, vec![0; 200]);
    assert_eq!(found(&[ech(), good()]), Found::Server("a.example".to_owned()), "grease");
    assert_eq!(found(&[ech()]), Found::Refused(Reason::NoServerName));
    for bad in [
        vec![good(), good()],
        vec![good(), (5, vec![]), (5, vec![])],
        vec![names(&[(0, "a.example"), (0, "b.example")])],
        vec![names(&[(0, "")])],
        vec![names(&[(1, "a.example")])],
        vec![names(&[])],
        vec![(SERVER_NAME, vec![])],
        vec![(SERVER_NAME, [names(&[(0, "a.example")]).1, vec![0]].concat())],
    ] {
        assert_eq!(found(&bad), Found::Refused(Reason::NotTls), "{bad:?}");
    }
    assert_eq!(found(&[names(&[(0, "a\0.example")])]), Found::Server("a\\x00.example".to_owned()));
}

#[test]
fn what_never_ends_is_refused_in_the_end() {
    let big = with_extensions(&[(21, vec![0; 12_000]), names(&[(0, "a.example")])]);
    assert_eq!(feed(&big, std::iter::repeat(1000)).0, Found::Server("a.example".to_owned()));
    let endless = [&[22, 3, 1, 0, 4, 1, 0, 0xff, 0xff][..], &[22, 3, 1, 0, 1, 0].repeat(20_000)].concat();
    let (found, used) = feed(&endless, std::iter::repeat(100));
    assert_eq!(found, Found::Refused(Reason::NotTls));
    assert!(used <= MAX_BYTES + 100, "{used}");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, sizes in prop::collection::vec(1usize..50, 0..20)) {
        let _ = feed(&bytes, sizes.into_iter());
    }

    /// Any change of any byte, in any pieces.
    #[test]
    fn no_damage_panics(place in 0usize..400, value: u8, size in 1usize..400) {
        let mut bytes = with_extensions(&[names(&[(0, "a.example")]), (43, vec![2, 3, 4]), (0xfe0d, vec![1; 90])]);
        let place = place % bytes.len();
        bytes[place] = value;
        let whole = feed(&bytes, std::iter::once(bytes.len())).0;
        let pieces = feed(&bytes, std::iter::repeat(size)).0;
        prop_assert_eq!(whole, pieces, "how it is cut makes no difference");
    }
}
