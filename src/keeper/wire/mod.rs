//! The messages between library, keeper and init, and those of the process that converts images.
//!
//! Both ends come from one build (the keeper's program is embedded, and build ids are compared), so the format has
//! no versions.
//!
//! Shared between the library and the keeper's program; uses nothing but `std`.

mod codec;
pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod init;
pub(crate) mod keeper;
mod user;

pub(crate) use codec::Malformed;
use codec::{Reader, Wire, Writer};

/// Bytes that may be a secret: never printed, and overwritten on drop, as well as that can be done without a
/// guarantee of the compiler.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// An environment variable `NAME=value`. Allocated at its final size, since a buffer that grows leaves
    /// copies behind.
    #[allow(dead_code, reason = "the library's")]
    pub(crate) fn variable(name: &str, value: &str) -> Self {
        let mut bytes = Vec::with_capacity(name.len() + 1 + value.len());
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_bytes());
        Self(bytes)
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl std::ops::Deref for Secret {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&mut self.0);
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} bytes", self.0.len())
    }
}

/// Encoded as bytes.
impl Wire for Secret {
    fn put(&self, writer: &mut Writer) {
        writer.bytes(&self.0);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Vec::take(reader).map(Self)
    }
}
