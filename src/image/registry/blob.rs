//! A blob into a file: checked while it comes, gone on with where a connection broke.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::failure::{Attempts, Failure};
use super::manifest::Descriptor;
use super::patience::Patience;
use super::response::Response;
use crate::error::{Code, Error, Result};
use crate::image::{Digest, error};

/// How often a blob's connection may break although something came each time, and what counts as hardly anything.
const MAX_SHORT: u32 = 64;
const SHORT: u64 = 1024 * 1024;

/// How much has to come in which time: a server that drips would hold one of few turns for hours.
const LEAST: u64 = 256 * 1024;
const LEAST_TIME: Duration = Duration::from_secs(60);

const BUFFER: usize = 256 * 1024;

/// Where a blob goes.
struct Download<'a> {
    descriptor: &'a Descriptor,
    into: &'a File,
    /// How much has come, and its digest.
    offset: u64,
    hash: Sha256,
    /// Whether it came by more than one connection.
    resumed: bool,
}

/// Writes a blob to the beginning of a file. `get` asks a server for it from an offset on. Of what doesn't have the
/// descriptor's size and digest, the file has some when this fails, and never more than that size.
pub(super) fn download(
    descriptor: &Descriptor,
    into: &File,
    patience: &Patience<'_>,
    progress: &mut dyn FnMut(u64),
    mut get: impl FnMut(u64) -> Result<Response, Failure>,
) -> Result<()> {
    let mut download = Download { descriptor, into, offset: 0, hash: Sha256::new(), resumed: false };
    let (mut attempts, mut again) = (Attempts::default(), false);
    let (mut farthest, mut short) = (0_u64, 0);
    while short < MAX_SHORT {
        let failure =
            match get(download.offset).and_then(|response| download.take(response, patience, progress)) {
                Ok(()) => match download.check() {
                    Ok(()) => return Ok(()),
                    // The parts may be of two states of a file. All of it is got once more.
                    Err(error) if download.resumed && !again => {
                        again = true;
                        farthest = 0;
                        download.restart();
                        Failure::passing(error)
                    }
                    Err(error) => return Err(error),
                },
                Err(failure) => {
                    download.resumed = download.offset > 0;
                    failure
                }
            };
        let gained = download.offset.saturating_sub(farthest);
        farthest = farthest.max(download.offset);
        if gained > 0 {
            attempts.reset();
        }
        short += u32::from(gained < SHORT);
        attempts.wait(failure, patience)?;
    }
    Err(error(format!("{}: the connection broke {MAX_SHORT} times", descriptor.digest)))
}

/// How fast a blob comes.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// Counts bytes that came. False if it was too little in the time that is up.
    fn suffices(&mut self, bytes: u64, now: Instant) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if now.saturating_duration_since(self.since) < LEAST_TIME {
            return true;
        }
        let enough = self.bytes >= LEAST;
        *self = Self { since: now, bytes: 0 };
        enough
    }
}

impl Download<'_> {
    fn restart(&mut self) {
        (self.offset, self.hash, self.resumed) = (0, Sha256::new(), false);
    }

    fn take(
        &mut self,
        mut response: Response,
        patience: &Patience<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Failure> {
        self.begin(&response)?;
        let size = self.descriptor.size;
        let mut buffer = vec![0; BUFFER];
        let mut pace = Pace { since: Instant::now(), bytes: 0 };
        loop {
            let count = match response.read(&mut buffer, patience) {
                // All is there; how the connection ends doesn't matter.
                Err(_) if self.offset == size => break,
                count => count?,
            };
            if count == 0 {
                response.finish();
                break;
            }
            let bytes = buffer.get(..count).unwrap_or_default();
            if count as u64 > size.saturating_sub(self.offset) {
                return Err(
                    error(format!("{} is longer than its {size} bytes", self.descriptor.digest)).into()
                );
            }
            self.into.write_all_at(bytes, self.offset).map_err(|cause| write_failed(&cause))?;
            self.hash.update(bytes);
            self.offset = self.offset.saturating_add(count as u64);
            progress(self.offset);
            if self.offset < size && !pace.suffices(count as u64, Instant::now()) {
                let text = format!(
                    "{}: fewer than {LEAST} bytes came in {} seconds",
                    self.descriptor.digest,
                    LEAST_TIME.as_secs()
                );
                return Err(Failure::passing(Error::new(Code::TimedOut, text)));
            }
        }
        if self.offset < size {
            let text = format!("{} ended after {} of {size} bytes", self.descriptor.digest, self.offset);
            return Err(Failure::passing(error(text)));
        }
        Ok(())
    }

    /// Checks that what comes is what was asked for. A server that can't go on begins anew.
    fn begin(&mut self, response: &Response) -> Result<()> {
        let (digest, size) = (self.descriptor.digest, self.descriptor.size);
        match response.status {
            206 if self.offset > 0 => {
                let range = response.headers.get("content-range").unwrap_or_default();
                let start = range.strip_prefix("bytes ").and_then(|range| range.split(['-', '/']).next());
                if start.and_then(|start| start.parse().ok()) != Some(self.offset) {
                    return Err(error(format!("{digest}: the server sends another part than was asked for")));
                }
            }
            206 => return Err(error(format!("{digest}: the server sends a part though all was asked for"))),
            _ => self.restart(),
        }
        match response.length() {
            Some(length) if length != size.saturating_sub(self.offset) => {
                let whole = self.offset.saturating_add(length);
                Err(error(format!("{digest} has {whole} bytes where the manifest says {size}")))
            }
            _ => Ok(()),
        }
    }

    fn check(&self) -> Result<()> {
        let found = Digest::from(<[u8; 32]>::from(self.hash.clone().finalize()));
        if found == self.descriptor.digest {
            return Ok(());
        }
        Err(error(format!("{}: what came has the digest {found}", self.descriptor.digest)))
    }
}

fn write_failed(cause: &std::io::Error) -> Error {
    let error = Error::system("write what was downloaded", cause);
    match cause.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => error.with_code(Code::Limit),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_drip_do_not_suffice() {
        let start = Instant::now();
        let mut pace = Pace { since: start, bytes: 0 };
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(pace.suffices(1, at(59)));
        assert!(pace.suffices(LEAST - 1, at(60)));
        assert!(pace.suffices(LEAST, at(119)) && pace.suffices(0, at(121)));
        // What came in earlier times doesn't count.
        assert!(pace.suffices(LEAST - 1, at(180)));
        assert!(!pace.suffices(0, at(181)));
    }
}
