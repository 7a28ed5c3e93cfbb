//! What becomes of the program's standard streams.

use std::fmt;

use super::Config;
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The most bytes that one end of a capture keeps.
const MAX_CAPTURE_BYTES: usize = 16 << 20;
/// What each end of a capture keeps unless said otherwise.
pub(crate) const DEFAULT_CAPTURE_BYTES: usize = 64 << 10;

/// One of the three standard streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Stdin => "standard input",
            Self::Stdout => "standard output",
            Self::Stderr => "standard error",
        })
    }
}

impl Stream {
    /// Its place among the three.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// What becomes of a standard stream of the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdio {
    /// Nothing is read, or what is written is thrown away.
    #[default]
    Null,
    /// The host gets a descriptor of its own for the stream.
    Descriptor,
    /// The library keeps the first and the last bytes of an output.
    Capture {
        /// How many bytes of the beginning are kept.
        head: usize,
        /// How many bytes of the end are kept.
        tail: usize,
    },
    /// Standard error goes where standard output goes.
    Merged,
}

impl Stdio {
    /// A capture of the usual size: 64 KiB of each end.
    pub fn capture() -> Self {
        Self::Capture { head: DEFAULT_CAPTURE_BYTES, tail: DEFAULT_CAPTURE_BYTES }
    }
}

/// Whether a stream can be that.
pub(super) fn check(stream: Stream, stdio: Stdio) -> Result<()> {
    let name = match stream {
        Stream::Stdin => "stdin",
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    match stdio {
        Stdio::Capture { .. } if stream == Stream::Stdin => {
            Err(Error::invalid("stdin: an input can't be captured; use null or a descriptor"))
        }
        Stdio::Merged if stream != Stream::Stderr => {
            Err(Error::invalid(format!("{name}: only stderr can be merged, into stdout")))
        }
        Stdio::Capture { head: 0, tail: 0 } => Err(Error::invalid(format!(
            "{name}: a capture that keeps nothing; use null to throw the output away"
        ))),
        Stdio::Capture { head, tail } => {
            match [("head", head), ("tail", tail)].iter().find(|end| end.1 > MAX_CAPTURE_BYTES) {
                None => Ok(()),
                Some((end, bytes)) => Err(Error::invalid(format!(
                    "{name}: a capture's {end} of {bytes} bytes is over the limit of {MAX_CAPTURE_BYTES}"
                ))),
            }
        }
        Stdio::Null | Stdio::Descriptor | Stdio::Merged => Ok(()),
    }
}

impl Config {
    /// What becomes of a standard stream (default [`Stdio::Null`]).
    pub fn set_stdio(&mut self, stream: Stream, stdio: Stdio) -> Result<&mut Self> {
        self.latch(|config| {
            check(stream, stdio)?;
            *match stream {
                Stream::Stdin => &mut config.stdin,
                Stream::Stdout => &mut config.stdout,
                Stream::Stderr => &mut config.stderr,
            } = stdio;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stream_takes_what_it_can() {
        let mut config = Config::new();
        assert_eq!(config.stdio(Stream::Stdout), Stdio::Null);
        config.set_stdio(Stream::Stdin, Stdio::Descriptor).unwrap();
        config.set_stdio(Stream::Stdout, Stdio::capture()).unwrap();
        config.set_stdio(Stream::Stderr, Stdio::Merged).unwrap();
        assert_eq!(config.stdio(Stream::Stdout), Stdio::Capture { head: 65_536, tail: 65_536 });
        assert_eq!(config.stdio(Stream::Stderr), Stdio::Merged);
        for (stream, stdio) in [
            (Stream::Stdin, Stdio::capture()),
            (Stream::Stdin, Stdio::Merged),
            (Stream::Stdout, Stdio::Merged),
            (Stream::Stdout, Stdio::Capture { head: 0, tail: 0 }),
            (Stream::Stdout, Stdio::Capture { head: MAX_CAPTURE_BYTES + 1, tail: 0 }),
            (Stream::Stderr, Stdio::Capture { head: 0, tail: usize::MAX }),
        ] {
            assert!(Config::new().set_stdio(stream, stdio).is_err(), "{stream:?} {stdio:?}");
        }
    }
}
