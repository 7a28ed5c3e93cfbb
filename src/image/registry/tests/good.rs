//! Servers that keep to the protocol.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::server::{Request, Server, reply};
use super::*;
use crate::error::Code;
use crate::tunnel::Identity;

fn serve_image(image: &TestImage, request: &Request, out: &mut dyn Write) -> std::io::Result<()> {
    match image.at(&request.path) {
        Some((media_type, bytes)) => reply(out, "200 OK", &[&format!("Content-Type: {media_type}")], &bytes),
        None => reply(
            out,
            "404 Not Found",
            &[],
            br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#,
        ),
    }
}

fn check_pull(pull: &Pull) {
    let image = TestImage::new();
    let manifest = pull.resolve().unwrap();
    assert_eq!(manifest.digest, digest(image.manifest.as_bytes()));
    assert_eq!(manifest.config_bytes, image.config.as_bytes());
    let digests: Vec<_> = manifest.layers.iter().map(|layer| layer.digest).collect();
    assert_eq!(digests, image.layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>());
    for (layer, bytes) in manifest.layers.iter().zip(&image.layers) {
        assert_eq!(&pull.blob(layer).unwrap(), bytes);
    }
}

#[test]
fn a_plain_registry_on_this_machine() {
    let server = Server::plain(|request, out| serve_image(&TestImage::new(), request, out));
    for reference in ["name:1.0", "a/b/c:1.0"] {
        check_pull(&Pull::new(&settings(), &format!("{}/{reference}", server.name())));
    }
    assert!(server.requests().iter().all(|head| !head.contains("Authorization")));
    assert!(
        server.requests()[0]
            .contains("Accept: application/vnd.oci.image.index.v1+json, application/vnd.docker")
    );
}

#[test]
fn a_manifest_by_its_digest() {
    let server = Server::plain(|request, out| serve_image(&TestImage::new(), request, out));
    let manifest = digest(TestImage::new().manifest.as_bytes());
    check_pull(&Pull::new(&settings(), &format!("{}/name@{manifest}", server.name())));
    let pull = Pull::new(&settings(), &format!("{}/name:nope", server.name()));
    let error = pull.resolve().unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().ends_with("/manifests/nope: not found (status 404): unknown"), "{error}");
}

#[test]
fn tls_and_a_password() {
    let identity = Identity::make(&[]).unwrap();
    let server = Server::tls(&identity, |request, out| match request.header("authorization") {
        Some("Basic dXNlcjpwYXNz") => serve_image(&TestImage::new(), request, out),
        _ => reply(out, "401 Unauthorized", &["WWW-Authenticate: Basic realm=\"x\""], b""),
    });
    let reference = format!("{}/name:1.0", server.name());
    let mut settings = settings();
    settings.set_ca_pem(identity.ca_pem()).unwrap();
    let error = Pull::new(&settings, &reference).resolve().unwrap_err();
    assert!(error.message().ends_with("wants a login"), "{error}");
    settings.set_login("user", "pass").unwrap();
    check_pull(&Pull::new(&settings, &reference));
    settings.set_login("user", "wrong").unwrap();
    let error = Pull::new(&settings, &reference).resolve().unwrap_err();
    assert!(error.message().contains("access denied (status 401)"), "{error}");
    assert!(!error.message().contains("wrong"), "{error}");
}

#[test]
fn without_its_authority_a_registry_is_not_trusted() {
    let identity = Identity::make(&[]).unwrap();
    let server = Server::tls(&identity, |request, out| serve_image(&TestImage::new(), request, out));
    let error = Pull::new(&settings(), &format!("{}/name:1.0", server.name())).resolve().unwrap_err();
    assert!(error.message().contains("an authority that is not trusted here"), "{error}");
    assert!(server.requests().is_empty());
}

#[test]
fn where_a_certificate_is_given_plain_http_is_not_tried() {
    let server = Server::plain(|request, out| serve_image(&TestImage::new(), request, out));
    let mut settings = settings();
    settings.set_ca_pem(Identity::make(&[]).unwrap().ca_pem()).unwrap();
    settings.set_login("user", "pass").unwrap();
    let error = Pull::new(&settings, &format!("{}/name:1.0", server.name())).resolve().unwrap_err();
    assert!(error.message().contains("doesn't speak TLS: it must"), "{error}");
    assert!(server.requests().is_empty());
}

/// A registry and its token service, which are called registry.test and auth.test. The registry takes tokens in turn: each
/// is good for `uses` requests.
fn token_registry(identity: &Identity, uses: usize) -> (Server, Server, Arc<AtomicUsize>) {
    let issued = Arc::new(AtomicUsize::new(0));
    let (for_auth, used) = (Arc::clone(&issued), Mutex::new((0, 0)));
    let registry = Server::tls(identity, move |request, out| {
        let mut used = used.lock().unwrap();
        let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer token"));
        let token: Option<usize> = token.and_then(|number| number.parse().ok());
        if token.is_some_and(|token| token != used.0) {
            *used = (token.unwrap(), 0);
        }
        if token.is_some() && used.1 < uses {
            used.1 += 1;
            return serve_image(&TestImage::new(), request, out);
        }
        let challenge =
            "WWW-Authenticate: Bearer realm=\"https://auth.test/token?x=y\",service=\"s&s\",scope=\"all\"";
        reply(out, "401 Unauthorized", &[challenge], b"")
    });
    let auth = Server::tls(identity, move |request, out| {
        let number = for_auth.fetch_add(1, Ordering::Relaxed) + 1;
        let by_form =
            request.head.starts_with("POST") && request.body.ends_with("&refresh_token=refresh%2F1");
        let answer = match request.header("authorization") {
            Some("Basic dXNlcjpwYXNz") => format!(r#"{{"token":"token{number}"}}"#),
            None if by_form => format!(r#"{{"access_token":"token{number}"}}"#),
            _ => return reply(out, "401 Unauthorized", &[], b""),
        };
        reply(out, "200 OK", &[], answer.as_bytes())
    });
    (registry, auth, issued)
}

fn with_token(settings: &RegistrySettings, registry: &Server, auth: &Server) -> Pull {
    Pull::new(settings, "registry.test/team/name:1.0").named("registry.test", "1.1.1.1", registry).named(
        "auth.test",
        "1.1.1.2",
        auth,
    )
}

fn tls_settings() -> (Identity, RegistrySettings) {
    let names = ["registry.test", "auth.test", "storage.test", "mirror.test"].map(str::to_owned);
    let identity = Identity::make(&names).unwrap();
    let mut settings = settings();
    settings.set_ca_pem(identity.ca_pem()).unwrap();
    (identity, settings)
}

#[test]
fn a_token_is_fetched_kept_and_fetched_again() {
    let (identity, mut settings) = tls_settings();
    settings.set_login("user", "pass").unwrap();
    let (registry, auth, issued) = token_registry(&identity, 100);
    check_pull(&with_token(&settings, &registry, &auth));
    assert_eq!(issued.load(Ordering::Relaxed), 1);
    let asked = "GET /token?x=y&service=s%26s&scope=repository%3Ateam%2Fname%3Apull HTTP/1.1\r\n";
    assert!(auth.requests()[0].starts_with(asked), "{:?}", auth.requests());
    // The password goes to the token service only.
    assert!(registry.requests().iter().all(|head| !head.contains("Basic ")));

    let (registry, auth, issued) = token_registry(&identity, 1);
    check_pull(&with_token(&settings, &registry, &auth));
    assert_eq!(issued.load(Ordering::Relaxed), 5);

    settings.set_login("user", "wrong").unwrap();
    let error = with_token(&settings, &registry, &auth).resolve().unwrap_err();
    assert!(error.message().contains("the token service of registry.test: access denied"), "{error}");
}

#[test]
fn an_identity_token_of_dockers_configuration_is_exchanged() {
    let (identity, settings) = tls_settings();
    let (registry, auth, _) = token_registry(&identity, 100);
    let directory = Directory::new();
    let json = br#"{"auths":{"registry.test":{"identitytoken":"refresh/1"}}}"#;
    let mut pull = with_token(&settings, &registry, &auth);
    pull.registry.sources.docker_config = Some(directory.file("config.json", json));
    check_pull(&pull);
    assert!(auth.requests()[0].starts_with("POST /token?x=y HTTP/1.1\r\n"));
}

#[test]
fn a_blob_behind_a_redirect_is_got_without_the_login() {
    let (identity, mut settings) = tls_settings();
    settings.set_login("user", "pass").unwrap();
    let storage = Server::tls(&identity, |request, out| {
        let path = request.path.split('?').next().unwrap().replace("/store/", "/v2/x/blobs/");
        match (TestImage::new().at(&path), request.header("authorization")) {
            (Some((_, bytes)), None) => reply(out, "200 OK", &[], &bytes),
            _ => reply(out, "400 Bad Request", &[], b""),
        }
    });
    let registry = Server::tls(&identity, |request, out| {
        if request.header("authorization").is_none() {
            return reply(out, "401 Unauthorized", &["WWW-Authenticate: Basic"], b"");
        }
        match request.path.split_once("/blobs/") {
            Some((_, digest)) => {
                let location = format!("Location: https://storage.test/store/{digest}?signature=secret");
                reply(out, "307 Temporary Redirect", &[&location], b"elsewhere")
            }
            None => serve_image(&TestImage::new(), request, out),
        }
    });
    let pull = Pull::new(&settings, "registry.test/name:1.0")
        .named("registry.test", "1.1.1.1", &registry)
        .named("storage.test", "1.1.1.2", &storage);
    check_pull(&pull);
    assert!(storage.requests().iter().all(|head| head.contains("Host: storage.test\r\n")));
}

#[test]
fn mirrors_go_first_and_get_no_login() {
    let (identity, mut settings) = tls_settings();
    settings.set_login("user", "pass").unwrap();
    settings.add_mirror("registry.test", "mirror.test/cache").unwrap();
    let serving = Server::tls(&identity, |request, out| serve_image(&TestImage::new(), request, out));
    let failing = Server::tls(&identity, |_, out| reply(out, "400 Bad Request", &[], b""));
    let registry = Server::tls(&identity, |request, out| serve_image(&TestImage::new(), request, out));
    let pull = |mirror: &Server| {
        Pull::new(&settings, "registry.test/team/name:1.0")
            .named("registry.test", "1.1.1.1", &registry)
            .named("mirror.test", "1.1.1.2", mirror)
    };
    check_pull(&pull(&serving));
    assert!(registry.requests().is_empty());
    let requests = serving.requests();
    assert!(
        requests.iter().all(|head| head.starts_with("GET /v2/cache/team/name/") && !head.contains("Basic"))
    );
    check_pull(&pull(&failing));
    assert_eq!(failing.requests().len(), 1, "a mirror that fails is asked once");
    assert_eq!(registry.requests().len(), 5);
}

/// A server of one layer that ends each connection after some bytes. `ranges` says whether it goes on where asked.
fn breaking_server(ranges: bool, bytes_a_connection: usize) -> Server {
    Server::plain(move |request, out| {
        let all = &TestImage::new().layers[1];
        let from = request.header("range").filter(|_| ranges);
        let from =
            from.map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
        let (status, from) = match from {
            Some(from) => (
                format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", all.len() - 1, all.len()),
                from,
            ),
            None => ("200 OK".to_owned(), 0),
        };
        let rest: &[u8] = &all[from..];
        out.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", rest.len()).as_bytes())?;
        out.write_all(&rest[..rest.len().min(bytes_a_connection)])
    })
}

#[test]
fn a_broken_connection_is_gone_on_with() {
    let image = TestImage::new();
    let server = breaking_server(true, 500_000);
    let pull = Pull::new(&settings(), &format!("{}/name:1.0", server.name()));
    assert_eq!(pull.blob(&image.layer(1)).unwrap(), image.layers[1]);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(
        requests[1].contains("Range: bytes=500000-\r\n") && requests[2].contains("Range: bytes=1000000-\r\n")
    );
}

#[test]
fn a_server_that_can_not_go_on_begins_anew_and_not_for_ever() {
    let server = breaking_server(false, 500_000);
    let pull = Pull::new(&settings(), &format!("{}/name:1.0", server.name()));
    let error = pull.blob(&TestImage::new().layer(1)).unwrap_err();
    assert!(
        error.message().contains("the connection ended before the answer did (after 5 attempts)"),
        "{error}"
    );
}

#[test]
fn a_busy_server_is_asked_again() {
    let count = AtomicUsize::new(0);
    let server = Server::plain(move |request, out| match count.fetch_add(1, Ordering::Relaxed) {
        0 => reply(out, "503 Service Unavailable", &[], b""),
        1 => reply(out, "429 Too Many Requests", &["Retry-After: 1"], b""),
        2 => out.write_all(b"HTTP/1.1 200 OK\r\nContent-"),
        _ => serve_image(&TestImage::new(), request, out),
    });
    check_pull(&Pull::new(&settings(), &format!("{}/name:1.0", server.name())));
}

#[test]
fn chunks_and_bodies_without_a_length() {
    let count = AtomicUsize::new(0);
    let server = Server::plain(move |request, out| {
        let Some((media_type, bytes)) = TestImage::new().at(&request.path) else { return Ok(()) };
        out.write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")?;
        write!(out, "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\n")?;
        if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            out.write_all(b"\r\n")?;
            return out.write_all(&bytes);
        }
        out.write_all(b"Transfer-Encoding: chunked\r\n\r\n")?;
        for chunk in bytes.chunks(7001) {
            write!(out, "{:x};extension=1\r\n", chunk.len())?;
            out.write_all(chunk)?;
            out.write_all(b"\r\n")?;
        }
        out.write_all(b"0\r\nTrailer: x\r\n\r\n")
    });
    check_pull(&Pull::new(&settings(), &format!("{}/name:1.0", server.name())));
}

#[test]
fn through_a_proxy_that_makes_tunnels() {
    let (identity, mut settings) = tls_settings();
    let registry = Server::tls(&identity, |request, out| serve_image(&TestImage::new(), request, out));
    let proxy = super::server::proxy(registry.address, "Basic dXNlcjpwYXNz");
    settings.environment.https_proxy = Some(format!("http://user:pass@{proxy}").into());
    check_pull(&Pull::new(&settings, "registry.test/name:1.0"));
    settings.environment.https_proxy = Some(format!("http://user:wrong@{proxy}").into());
    let error = Pull::new(&settings, "registry.test/name:1.0").resolve().unwrap_err();
    assert!(error.message().contains("wants a login: put user and password into HTTPS_PROXY"), "{error}");
    assert!(!error.message().contains("wrong"), "{error}");
}
