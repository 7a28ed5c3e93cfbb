//! What is wrong with layers, and how its texts name paths.

use std::fmt;
use std::io;

use super::ReadError;

/// Why layers can't be converted.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A layer or the base can't be read, or says what an image can't hold.
    Malformed(String),
    Limit(String),
    /// A layer is another than its digest says.
    Digest {
        expected: [u8; 32],
        found: [u8; 32],
    },
    /// Reading or writing failed.
    Io(io::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |digest: &[u8; 32]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            Self::Malformed(text) | Self::Limit(text) => to.write_str(text),
            Self::Digest { expected, found } => {
                write!(to, "a layer has digest sha256:{}, not sha256:{}", hex(found), hex(expected))
            }
            Self::Io(error) => error.fmt(to),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error),
            ReadError::Malformed(text) => Self::Malformed(format!("the base image: {text}")),
        }
    }
}

/// A path as error texts have it.
pub(super) fn shown(path: &[u8]) -> String {
    let (begin, rest) = path.split_at(path.len().min(200));
    let more = if rest.is_empty() { "" } else { "..." };
    format!("{}{more}", begin.escape_ascii())
}

pub(super) fn malformed<T>(path: &[u8], why: &str) -> Result<T, Trouble> {
    Err(Trouble::Malformed(format!("{}: {why}", shown(path))))
}
