//! Names and tags: finding a sandbox again.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test")]

mod common;

use common::{PATIENCE, runtime};
use sbx::{Code, Config};

#[test]
#[cfg_attr(not(sbx_runsc), ignore = "needs runsc: set SBX_RUNSC")]
fn a_sandbox_is_found_by_its_name_as_long_as_it_lives() {
    let runtime = runtime();
    let mut named = Config::new();
    named.set_name("one").unwrap().set_tag("job", "17").unwrap().set_tag("owner", "me").unwrap();
    let sandbox = runtime.create(&named).unwrap();
    let found = runtime.find("one").unwrap();
    assert_eq!(found.id(), sandbox.id());
    assert_eq!(found.tags().get("job").map(String::as_str), Some("17"));
    assert!(runtime.find("two").is_none());
    let error = runtime.create(&named).unwrap_err();
    assert_eq!(error.code(), Code::Exists);
    assert!(error.message().contains("\"one\""), "{error}");
    assert_eq!(runtime.sandboxes().len(), 1);
    // Either handle is the sandbox.
    drop(sandbox);
    assert_eq!(found.state(), sbx::State::Running);
    found.terminate().unwrap();
    found.wait(PATIENCE).unwrap();
    assert!(runtime.find("one").is_none());
    let again = runtime.create(&named).unwrap();
    assert_ne!(again.id(), found.id());
}
