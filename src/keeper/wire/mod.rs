//! The messages between library, keeper and init.
//!
//! Both ends come from one build (the keeper's program is embedded, and build ids are compared), so the form
//! has no versions: numbers in little endian, strings and lists with their length first. A reader trusts
//! nothing: every length is checked against what is there, and what is left over is an error.
//!
//! Shared between the library and the keeper's program; uses nothing but `std`.

pub(crate) mod files;
pub(crate) mod init;
pub(crate) mod keeper;

/// A message that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Bytes that may be a secret: shown nowhere, and overwritten when they are no longer needed. As good as it gets
/// without a promise of the compiler's.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// A variable of an environment. Made at once, since a buffer that grows leaves copies behind.
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

/// Puts values one after another.
#[derive(Debug, Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    /// A message of the given kind.
    pub(crate) fn of(kind: u8) -> Self {
        Self(vec![kind])
    }

    /// A message of the given kind that will have about so many bytes: it never grows, so that it leaves no copies.
    pub(crate) fn of_size(kind: u8, bytes: usize) -> Self {
        let mut message = Vec::with_capacity(bytes);
        message.push(kind);
        Self(message)
    }

    /// The finished message.
    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }

    /// A byte.
    pub(crate) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// A yes or no.
    pub(crate) fn flag(self, value: bool) -> Self {
        self.byte(u8::from(value))
    }

    /// A number of 32 bits.
    pub(crate) fn number(mut self, value: u32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A number of 32 bits that may be negative.
    pub(crate) fn signed(mut self, value: i32) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A number of 64 bits.
    pub(crate) fn long(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A number of 64 bits, or that there is none.
    pub(crate) fn maybe(self, value: Option<u64>) -> Self {
        let writer = self.flag(value.is_some());
        value.into_iter().fold(writer, Self::long)
    }

    /// Bytes.
    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        // A message is bounded far below this when it is sent.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(value);
        self
    }

    /// A list, each element put by `put`.
    pub(crate) fn list<T>(self, values: &[T], put: impl Fn(Self, &T) -> Self) -> Self {
        let length = u32::try_from(values.len()).unwrap_or(u32::MAX);
        values.iter().fold(self.number(length), put)
    }
}

/// Takes values one after another.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Over a whole message.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (value, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    /// A byte.
    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A yes or no; nothing but 0 and 1 will do.
    pub(crate) fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// A number of 32 bits.
    pub(crate) fn number(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of 32 bits that may be negative.
    pub(crate) fn signed(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_le_bytes)
    }

    /// A number of 64 bits.
    pub(crate) fn long(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of 64 bits, or that there is none.
    pub(crate) fn maybe(&mut self) -> Result<Option<u64>, Malformed> {
        if self.flag()? { self.long().map(Some) } else { Ok(None) }
    }

    /// Bytes.
    pub(crate) fn bytes(&mut self) -> Result<Vec<u8>, Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        self.take(length).map(<[u8]>::to_vec)
    }

    /// A text.
    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    /// A list, each element taken by `get`. Elements have at least one byte, which bounds its length.
    pub(crate) fn list<T>(
        &mut self,
        get: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
        if length > self.0.len() {
            return Err(Malformed);
        }
        (0..length).map(|_| get(self)).collect()
    }

    /// Nothing may be left over.
    pub(crate) fn end<T>(self, value: T) -> Result<T, Malformed> {
        if self.0.is_empty() { Ok(value) } else { Err(Malformed) }
    }
}
