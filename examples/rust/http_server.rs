//! The main job in Rust: a web server in a gVisor sandbox, reached over TLS, ended, nothing left.
//!
//! ```text
//! cargo run --example http_server            # prints the url and how to fetch it, then waits for Enter
//! cargo run --example http_server -- /srv    # serves a directory of the host, read-only
//! ```

#![allow(clippy::print_stdout, reason = "it is a program for a terminal")]

use std::error::Error;
use std::io::Read;
use std::time::Duration;
use std::{env, fs, io, process};

use sbx::{Config, PortKind, Runtime, RuntimeConfig, Stdio, Stream};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(50));

fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::new();
    config
        .set_command(["python3", "-m", "http.server", "12345"])?
        .add_port(12345, PortKind::Encrypted)?
        .set_stdio(Stream::Stderr, Stdio::capture())?;
    if let Some(directory) = env::args().nth(1) {
        config.mount_read_only(&directory, "/data")?.set_workdir("/data")?;
    }

    let runtime = Runtime::new(&RuntimeConfig::default())?;
    let sandbox = runtime.create(&config)?;
    let tunnels = sandbox.tunnels(PATIENCE)?;
    sandbox.wait_ready(PATIENCE)?;

    let tunnel = tunnels.get(12345).ok_or("no tunnel of port 12345")?;
    let ca = env::temp_dir().join(format!("sbx-{}-ca.pem", process::id()));
    fs::write(&ca, tunnels.ca_pem().ok_or("an encrypted tunnel has a CA")?)?;
    println!("sandbox {}", sandbox.id());
    println!("curl --cacert {} {}", ca.display(), tunnel.url().ok_or("an encrypted tunnel has a url")?);
    println!("Enter ends it");
    let _ = io::stdin().read(&mut [0])?;

    sandbox.terminate()?;
    let exit = sandbox.wait(PATIENCE)?;
    fs::remove_file(&ca)?;
    println!("ended: {:?}, code {}, after {:?}", exit.reason, exit.code, exit.runtime);
    Ok(())
}
