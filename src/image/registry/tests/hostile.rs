//! Servers that do what none should.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::server::{Request, Server, reply};
use super::*;
use crate::error::{Code, Error};
use crate::tunnel::Identity;

/// What a pull of a manifest from such a server fails with.
fn refused(handler: impl Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static) -> Error {
    let server = Server::plain(handler);
    Pull::new(&settings(), &format!("{}/name:1.0", server.name())).resolve().unwrap_err()
}

fn answers(bytes: &'static [u8]) -> Error {
    refused(move |_, out| out.write_all(bytes))
}

#[test]
fn heads_without_an_end_or_a_meaning() {
    let error = refused(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\n")?;
        loop {
            out.write_all(b"X-Endless: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")?;
        }
    });
    assert!(error.message().contains("its head is too long"), "{error}");
    let error = refused(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
        loop {
            out.write_all(&[b'a'; 4096])?;
        }
    });
    assert!(error.message().contains("its head is too long"), "{error}");
    let error = refused(|_, out| {
        out.write_all(format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200)).as_bytes())
    });
    assert!(error.message().contains("malformed: too many headers"), "{error}");
    let error = refused(|_, out| {
        loop {
            out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
    });
    assert!(error.message().contains("too many interim answers"), "{error}");
    for (bytes, part) in [
        (&b"SSH-2.0-OpenSSH\r\n\r\n"[..], "malformed"),
        (b"HTTP/1.1 099 x\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "several lengths"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", "no number"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "no number"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "a length and chunks",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "not chunked"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "Content-Encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "a chunk without a size"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "a chunk without a size"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
            "longer than it says",
        ),
    ] {
        let error = answers(bytes);
        assert!(error.message().contains(part), "{}: {error}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn bodies_without_an_end() {
    let error = refused(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            out.write_all(&[b' '; 4096])?;
        }
    });
    assert!(error.message().contains("the manifest is longer than 4194304 bytes"), "{error}");
    let error = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n");
    assert!(error.message().contains("the manifest is longer than"), "{error}");
    let error = refused(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")?;
        loop {
            out.write_all(&[b'a'; 4096])?;
        }
    });
    assert!(error.message().contains("a line is too long"), "{error}");
    let error = refused(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")?;
        loop {
            out.write_all(b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")?;
        }
    });
    assert!(error.message().contains("the trailer is too long"), "{error}");
    // The answer that an error comes with is bounded too, and not what fails.
    let error = refused(|_, out| {
        out.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
        loop {
            out.write_all(&[b'x'; 4096])?;
        }
    });
    assert!(error.message().ends_with("refused (status 400)"), "{error}");
}

#[test]
fn blobs_of_another_size_or_digest() {
    let image = TestImage::new();
    let blob = |handler: fn(&Request, &mut dyn Write) -> io::Result<()>| {
        let server = Server::plain(handler);
        Pull::new(&settings(), &format!("{}/name:1.0", server.name())).blob(&image.layer(0)).unwrap_err()
    };
    let error = blob(|_, out| reply(out, "200 OK", &[], b"another layer!!"));
    assert!(error.message().contains(": what came has the digest sha256:"), "{error}");
    let error = blob(|_, out| reply(out, "200 OK", &[], b"short"));
    assert!(error.message().contains("has 5 bytes where the manifest says 15"), "{error}");
    let error = blob(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            out.write_all(&[b'x'; 4096])?;
        }
    });
    assert!(error.message().contains("is longer than its 15 bytes"), "{error}");
    let error = blob(|_, out| {
        out.write_all(
            b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-14/15\r\nContent-Length: 10\r\n\r\n",
        )
    });
    assert!(error.message().contains("a part though all was asked for"), "{error}");
    let error = blob(|request, out| match request.header("range") {
        None => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nthe f"),
        Some(_) => reply(out, "206 Partial Content", &["Content-Range: bytes 3-14/15"], b"first layer!"),
    });
    assert!(error.message().contains("another part than was asked for"), "{error}");
    // Parts that are of two blobs: all of it is got once more.
    let server = Server::plain(|request, out| match request.header("range") {
        None => out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nTHE F"),
        Some(_) => reply(out, "206 Partial Content", &["Content-Range: bytes 5-14/15"], b"irst layer"),
    });
    let pull = Pull::new(&settings(), &format!("{}/name:1.0", server.name()));
    let error = pull.blob(&image.layer(0)).unwrap_err();
    assert!(error.message().contains(": what came has the digest"), "{error}");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn a_manifest_that_is_another() {
    let image = TestImage::new();
    let reference = |server: &Server| format!("{}/name@{}", server.name(), digest(image.manifest.as_bytes()));
    let server = Server::plain(|_, out| reply(out, "200 OK", &[], br#"{"layers":[]}"#));
    let error = Pull::new(&settings(), &reference(&server)).resolve().unwrap_err();
    assert!(error.message().contains("what came has the digest"), "{error}");
    let server = Server::plain(|request, out| match TestImage::new().at(&request.path) {
        Some((media_type, bytes)) if !bytes.starts_with(b"{\"os\"") => {
            reply(out, "200 OK", &[&format!("Content-Type: {media_type}")], &bytes)
        }
        _ => reply(out, "200 OK", &[], b"{}"),
    });
    let error = Pull::new(&settings(), &reference(&server)).resolve().unwrap_err();
    assert!(error.message().contains("configuration sha256:"), "{error}");
    // An index that leads to itself can't be: its digest would be in it. One behind another can.
    let error = refused(|request, out| {
        let nested = |depth: usize| {
            (0..depth).fold(String::from("{}"), |inner, _| {
                format!(r#"{{"manifests":[{{"digest":"{}","size":1}}]}}"#, digest(inner.as_bytes()))
            })
        };
        let wanted =
            (0..9).map(nested).find(|json| request.path.ends_with(&digest(json.as_bytes()).to_string()));
        reply(out, "200 OK", &[], wanted.unwrap_or_else(|| nested(9)).as_bytes())
    });
    assert!(error.message().contains("behind more than 3 indexes"), "{error}");
}

/// A registry with an address of the Internet whose answer leads somewhere. Named servers there are all this machine.
struct Leading {
    registry: Server,
    identity: Identity,
    other: Server,
}

impl Leading {
    /// The answer has these lines for every request.
    fn new(status: &'static str, line: String) -> Self {
        let identity = Identity::make(&["registry.test".to_owned(), "other.test".to_owned()]).unwrap();
        let registry = Server::tls(&identity, move |_, out| reply(out, status, &[&line], b""));
        let other = Server::tls(&identity, |_, out| reply(out, "200 OK", &[], b"{}"));
        Self { registry, identity, other }
    }

    /// What a pull fails with. `at` is the address of registry.test, and `other` that of other.test.
    fn refused(&self, at: &str, other: &str) -> Error {
        let mut settings = settings();
        settings.set_ca_pem(self.identity.ca_pem()).unwrap();
        settings.set_login("user", "secret").unwrap();
        let pull = Pull::new(&settings, "registry.test/name:1.0")
            .named("registry.test", at, &self.registry)
            .named("other.test", other, &self.other);
        let error = pull.resolve().unwrap_err();
        assert!(!error.message().contains("secret"), "{error}");
        error
    }
}

#[test]
fn redirects_to_this_machine_its_network_and_metadata_are_refused() {
    for location in [
        "https://127.0.0.1:1/",
        "https://[::1]:1/",
        "https://[::ffff:127.0.0.1]:1/",
        "https://localhost:1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/",
        "https://[fe80::1]/",
        "https://0.0.0.0/",
        "https://10.0.0.1/",
        "https://192.168.1.1/",
    ] {
        let leading = Leading::new("307 Temporary Redirect", format!("Location: {location}"));
        let error = leading.refused("1.1.1.1", "1.1.1.2");
        assert!(
            error.message().contains("the registry leads to") && error.message().ends_with(": refused"),
            "{error}"
        );
    }
    let leading = Leading::new("302 Found", "Location: https://other.test/".to_owned());
    for address in ["127.0.0.1", "::1", "10.1.2.3", "169.254.169.254", "fd00::1", "224.0.0.1"] {
        let error = leading.refused("1.1.1.1", address);
        assert!(error.message().contains(&format!("leads to other.test at {address}")), "{error}");
    }
    assert!(leading.other.requests().is_empty());
    // A registry in the private network may lead to what is there, but no nearer.
    assert!(leading.refused("10.0.0.1", "127.0.0.1").message().ends_with(": refused"));
    assert!(!leading.refused("10.0.0.1", "10.0.0.2").message().ends_with(": refused"));
    assert_eq!(leading.other.requests().len(), 1);
    assert!(!leading.other.requests()[0].contains("Authorization"));
}

#[test]
fn redirects_to_anything_but_https_and_in_circles_are_refused() {
    for location in ["http://other.test/", "http://127.0.0.1:1/", "ftp://other.test/", "file:///etc/passwd"] {
        let leading = Leading::new("307 Temporary Redirect", format!("Location: {location}"));
        let error = leading.refused("1.1.1.1", "1.1.1.2");
        assert!(error.message().contains("only https is followed"), "{location}: {error}");
    }
    let leading = Leading::new("308 Permanent Redirect", "Location: /v2/again".to_owned());
    assert!(leading.refused("1.1.1.1", "1.1.1.2").message().contains("redirects more than 10 times"));
    assert_eq!(leading.registry.requests().len(), 11);
    let leading = Leading::new("301 Moved Permanently", "X: y".to_owned());
    assert!(leading.refused("1.1.1.1", "1.1.1.2").message().contains("refused (status 301)"));
}

#[test]
fn token_services_are_no_way_around_that() {
    let challenge = |realm: &str| format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"");
    for (realm, part) in [
        ("http://other.test/token", "only https is followed"),
        ("https://127.0.0.1:1/token", ": refused"),
        ("https://169.254.169.254/token", ": refused"),
        ("https://user:password@other.test/", "a user name in it"),
        ("", "no absolute URL"),
        ("/token", "no absolute URL"),
    ] {
        let leading = Leading::new("401 Unauthorized", challenge(realm));
        let error = leading.refused("1.1.1.1", "1.1.1.2");
        assert!(error.message().contains(part), "{realm}: {error}");
        assert_eq!(leading.registry.requests().len(), 1);
    }
    let leading = Leading::new("401 Unauthorized", challenge("https://other.test/token"));
    let error = leading.refused("1.1.1.1", "127.0.0.1");
    assert!(error.message().ends_with(": refused"), "{error}");
    let error = leading.refused("1.1.1.1", "1.1.1.2");
    assert!(error.message().ends_with("its answer has no token"), "{error}");
}

#[test]
fn a_registry_that_is_never_satisfied() {
    let identity = Identity::make(&[]).unwrap();
    let count = |challenge: &'static str| {
        let server = Server::tls(&identity, move |_, out| {
            let challenge = format!("WWW-Authenticate: {challenge}");
            reply(out, "401 Unauthorized", &[&challenge], br#"{"errors":[{"message":"log in"}]}"#)
        });
        let mut settings = settings();
        settings.set_ca_pem(identity.ca_pem()).unwrap();
        settings.set_login("user", "secret").unwrap();
        let error = Pull::new(&settings, &format!("{}/name:1.0", server.name())).resolve().unwrap_err();
        (error.message().to_owned(), server.requests().len())
    };
    let (error, requests) = count("Basic realm=\"x\"");
    assert!(error.ends_with("access denied (status 401): log in") && requests == 2, "{error}");
    let (error, requests) = count("Negotiate");
    assert!(error.contains("none of the ways that are supported") && requests == 1, "{error}");
    let (error, requests) = count("");
    assert!(error.contains("none of the ways") && requests == 1, "{error}");
}

#[test]
fn a_server_that_drips_is_ended_with_the_whole_time() {
    let drip = |out: &mut dyn Write| loop {
        out.write_all(b"x")?;
        std::thread::sleep(Duration::from_millis(20));
    };
    let heads: [fn(&mut dyn Write) -> io::Result<()>; 3] = [
        |_| Ok(()),
        |out| out.write_all(b"HTTP/1.1 200 OK\r\nX-Slow: "),
        |out| out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    ];
    for head in heads {
        let server = Server::plain(move |_, out| {
            head(out)?;
            drip(out)
        });
        let mut settings = settings();
        settings.set_timeout(Duration::from_millis(700));
        let start = Instant::now();
        let error = Pull::new(&settings, &format!("{}/name:1.0", server.name())).resolve().unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20));
        let malformed = error.message().contains("malformed");
        assert!(error.code() == Code::TimedOut || malformed, "{error}");
    }
}

#[test]
fn a_pull_is_cancelled_in_the_middle_of_a_silence() {
    let server = Server::plain(|_, out| {
        out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\nthe ")?;
        out.flush()?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    let pull = Pull::new(&settings(), &format!("{}/name:1.0", server.name()));
    let file = File::options().read(true).write(true).open(Directory::new().file("blob", b"")).unwrap();
    let cancelled = AtomicBool::new(false);
    // The first bytes are what cancels it.
    let mut progress = |_| cancelled.store(true, Ordering::Relaxed);
    let watch = &mut Watch { cancelled: &cancelled, progress: &mut progress };
    let start = Instant::now();
    let error = pull.registry.blob(&pull.reference, &TestImage::new().layer(0), &file, watch).unwrap_err();
    assert_eq!(error.code(), Code::Closed, "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_handshake_that_never_ends_and_one_that_is_no_tls() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings();
    settings.set_timeout(Duration::from_millis(500));
    let reference = format!("{}/name:1.0", listener.local_addr().unwrap());
    let error = Pull::new(&settings, &reference).resolve().unwrap_err();
    assert_eq!(error.code(), Code::TimedOut, "{error}");
    // A registry on the Internet has to speak TLS.
    let plain = Server::plain(|_, out| reply(out, "200 OK", &[], b"{}"));
    let pull =
        Pull::new(&super::settings(), "registry.test/name:1.0").named("registry.test", "1.1.1.1", &plain);
    let error = pull.resolve().unwrap_err();
    assert!(error.message().contains("plain http is for registries on this machine only"), "{error}");
    assert!(plain.requests().is_empty());
}

#[test]
fn a_token_or_an_answer_of_a_token_service_that_is_too_long() {
    let identity = Identity::make(&["registry.test".to_owned(), "other.test".to_owned()]).unwrap();
    let registry = Server::tls(&identity, |_, out| {
        reply(out, "401 Unauthorized", &["WWW-Authenticate: Bearer realm=\"https://other.test/\""], b"")
    });
    let long = |count: usize| format!(r#"{{"token":"{}"}}"#, "t".repeat(count)).into_bytes();
    for (body, part) in [
        (long(20_000), "its answer has no token"),
        (long(100_000), "the token is longer than 65536 bytes"),
        (br#"{"token":"a\r\nHost: b"}"#.to_vec(), "its answer has no token"),
        (b"secret".to_vec(), "its answer has no token"),
    ] {
        let service = Server::tls(&identity, move |_, out| reply(out, "200 OK", &[], &body));
        let mut settings = settings();
        settings.set_ca_pem(identity.ca_pem()).unwrap();
        let pull = Pull::new(&settings, "registry.test/name:1.0")
            .named("registry.test", "1.1.1.1", &registry)
            .named("other.test", "1.1.1.2", &service);
        let error = pull.resolve().unwrap_err();
        assert!(error.message().contains(part) && !error.message().contains("secret"), "{error}");
    }
}

#[test]
fn mirrors_that_lie_are_passed_over() {
    let identity = Identity::make(&["registry.test".to_owned(), "mirror.test".to_owned()]).unwrap();
    let image = TestImage::new();
    let mirror = Server::tls(&identity, |_, out| reply(out, "200 OK", &[], b"another layer!!"));
    let registry = Server::tls(&identity, |request, out| {
        let (_, bytes) = TestImage::new().at(&request.path).unwrap();
        reply(out, "200 OK", &[], &bytes)
    });
    let mut settings = settings();
    settings.set_ca_pem(identity.ca_pem()).unwrap();
    settings.add_mirror("registry.test", "mirror.test").unwrap();
    let pull = Pull::new(&settings, "registry.test/name:1.0")
        .named("registry.test", "1.1.1.1", &registry)
        .named("mirror.test", "1.1.1.2", &mirror);
    assert_eq!(pull.blob(&image.layer(0)).unwrap(), image.layers[0]);
    assert_eq!(mirror.requests().len(), 1);
}

#[test]
fn a_connection_that_waits_and_is_ended_is_made_again() {
    // Both requests are on one connection for the client; the server ends it after the first.
    let server = Server::plain(|request, out| match TestImage::new().at(&request.path) {
        Some((_, bytes)) => reply(out, "200 OK", &["Connection: keep-alive"], &bytes),
        None => Ok(()),
    });
    let image = TestImage::new();
    let pull = Pull::new(&settings(), &format!("{}/name:1.0", server.name()));
    for _ in 0..20 {
        assert_eq!(pull.blob(&image.layer(0)).unwrap(), image.layers[0]);
    }
    assert_eq!(server.requests().len(), 20);
}
