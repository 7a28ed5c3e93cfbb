//! The program's standard streams.

use std::fmt;

use super::Config;
use crate::error::{Error, Result};
use crate::first_error::FirstError;

/// The most bytes of a capture's head, and of its tail.
const MAX_CAPTURE_BYTES: usize = 16 << 20;
/// The default size of a capture's head and tail.
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
    /// Its index among the three.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// What a standard stream of the program is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdio {
    /// Nothing: input is empty, output is discarded.
    #[default]
    Null,
    /// A descriptor of the host's own.
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
    /// A capture of the default size: 64 KiB each of the head and the tail.
    pub fn capture() -> Self {
        Self::Capture { head: DEFAULT_CAPTURE_BYTES, tail: DEFAULT_CAPTURE_BYTES }
    }
}

/// Checks whether a stream can be connected to this.
pub(super) fn check(stream: Stream, stdio: Stdio) -> Result<()> {
    let name = match stream {
        Stream::Stdin => "stdin",
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    match stdio {
        Stdio::Capture { .. } if stream == Stream::Stdin => {
            Err(Error::invalid("stdin: must not be captured, for it is an input; use null or a descriptor"))
        }
        Stdio::Merged if stream != Stream::Stderr => {
            Err(Error::invalid(format!("{name}: must not be merged; only stderr can be, into stdout")))
        }
        Stdio::Capture { head: 0, tail: 0 } => Err(Error::invalid(format!(
            "{name}: a capture must keep something; use null to discard the output"
        ))),
        Stdio::Capture { head, tail } => {
            match [("head", head), ("tail", tail)].iter().find(|end| end.1 > MAX_CAPTURE_BYTES) {
                None => Ok(()),
                Some((end, bytes)) => Err(Error::invalid(format!(
                    "{name}: a capture's {end} must be at most {MAX_CAPTURE_BYTES} bytes, not {bytes}"
                ))),
            }
        }
        Stdio::Null | Stdio::Descriptor | Stdio::Merged => Ok(()),
    }
}

impl Config {
    /// Connects a standard stream (default [`Stdio::Null`]).
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
