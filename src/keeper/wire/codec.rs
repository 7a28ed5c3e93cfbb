//! Encoding and decoding, both from one declaration of a type.
//!
//! Numbers are little-endian, strings and lists have their length before them, and an enum starts with the
//! number of its variant. A reader trusts nothing: it checks every length against what is there, and trailing
//! bytes are an error.

/// The message is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A value that can be sent.
pub(crate) trait Wire: Sized {
    /// Appends the value.
    fn put(&self, writer: &mut Writer);

    /// Reads the value from the front.
    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed>;
}

/// An encoding for a field that differs from its type's own, as in `path: Vec<u8> as Path`.
pub(crate) trait Form<T> {
    /// Appends the value.
    fn put(value: &T, writer: &mut Writer);

    /// Reads the value from the front.
    fn take(reader: &mut Reader<'_>) -> Result<T, Malformed>;
}

/// The encoded size of a value.
pub(super) fn size(value: &impl Wire) -> usize {
    let mut writer = Writer { bytes: Vec::new(), length: 0, counts_only: true };
    value.put(&mut writer);
    writer.length
}

/// Encodes a value, in a buffer that never grows: growing would leave copies of secrets behind.
pub(super) fn encode(value: &impl Wire) -> Vec<u8> {
    let mut writer = Writer { bytes: Vec::with_capacity(size(value)), length: 0, counts_only: false };
    value.put(&mut writer);
    writer.bytes
}

/// Decodes a whole message.
pub(super) fn decode<T: Wire>(message: &[u8]) -> Result<T, Malformed> {
    let mut reader = Reader(message);
    let value = T::take(&mut reader)?;
    if reader.0.is_empty() { Ok(value) } else { Err(Malformed) }
}

/// Collects the bytes of values, or counts them.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    length: usize,
    counts_only: bool,
}

impl Writer {
    /// Appends bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if !self.counts_only {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Appends a length. A message is bounded far below `u32::MAX` when it is sent.
    fn length(&mut self, length: usize) {
        u32::try_from(length).unwrap_or(u32::MAX).put(self);
    }

    /// Appends bytes with their length before them.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.raw(bytes);
    }
}

/// The rest of a message.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Takes this many bytes.
    fn raw(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (value, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(value)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.raw(N)?.try_into().map_err(|_| Malformed)
    }

    /// Takes the number of an enum's variant.
    pub(super) fn variant(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[number]| number)
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        usize::try_from(u32::take(self)?).map_err(|_| Malformed)
    }

    /// Takes bytes with their length before them.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        self.raw(length)
    }
}

/// A number as its little-endian bytes.
macro_rules! number {
    ($($type:ty),*) => {$(
        impl Wire for $type {
            fn put(&self, writer: &mut Writer) {
                writer.raw(&self.to_le_bytes());
            }

            fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.array().map(Self::from_le_bytes)
            }
        }
    )*};
}

number!(u32, i32, u64, i64);

/// 32 bits, of which only the lower half may be used.
impl Wire for u16 {
    fn put(&self, writer: &mut Writer) {
        u32::from(*self).put(writer);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::try_from(u32::take(reader)?).map_err(|_| Malformed)
    }
}

/// A byte that is 0 or 1.
impl Wire for bool {
    fn put(&self, writer: &mut Writer) {
        writer.raw(&[u8::from(*self)]);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.variant()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }
}

impl Wire for Vec<u8> {
    fn put(&self, writer: &mut Writer) {
        writer.bytes(self);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.bytes().map(<[u8]>::to_vec)
    }
}

impl Wire for String {
    fn put(&self, writer: &mut Writer) {
        writer.bytes(self.as_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Self::from_utf8(Vec::take(reader)?).map_err(|_| Malformed)
    }
}

/// A list. Each element has at least one byte, so the length is checked before any memory is allocated for
/// it.
impl<T: Wire> Wire for Vec<T> {
    fn put(&self, writer: &mut Writer) {
        writer.length(self.len());
        self.iter().for_each(|value| value.put(writer));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = reader.length()?;
        if length > reader.0.len() {
            return Err(Malformed);
        }
        (0..length).map(|_| T::take(reader)).collect()
    }
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, writer: &mut Writer) {
        self.is_some().put(writer);
        self.iter().for_each(|value| value.put(writer));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        if bool::take(reader)? { T::take(reader).map(Some) } else { Ok(None) }
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put(&self, writer: &mut Writer) {
        T::put(self, writer);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::take(reader).map(Self::new)
    }
}

impl<T: Wire, U: Wire> Wire for (T, U) {
    fn put(&self, writer: &mut Writer) {
        self.0.put(writer);
        self.1.put(writer);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((T::take(reader)?, U::take(reader)?))
    }
}

impl<T: Wire> Wire for [T; 3] {
    fn put(&self, writer: &mut Writer) {
        self.iter().for_each(|value| value.put(writer));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok([T::take(reader)?, T::take(reader)?, T::take(reader)?])
    }
}

/// A digest, as it is.
impl Wire for [u8; 32] {
    fn put(&self, writer: &mut Writer) {
        writer.raw(self);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.array()
    }
}

/// Declares types and implements [`Wire`] for them.
///
/// Fields are encoded in the order of the declaration. A variant has its number behind it, which is encoded
/// as one byte; the value of a tuple variant has a name, which only the macro uses. A field with `as` is
/// encoded in that [`Form`].
macro_rules! wire {
    () => {};
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $type:ty $(as $form:ty)?),* $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        $vis struct $name {
            $($(#[$field_meta])* $field_vis $field: $type),*
        }

        impl super::codec::Wire for $name {
            fn put(&self, writer: &mut super::codec::Writer) {
                $(wire!(@put &self.$field, writer, $type $(as $form)?);)*
            }

            fn take(
                reader: &mut super::codec::Reader<'_>,
            ) -> Result<Self, super::codec::Malformed> {
                Ok(Self { $($field: wire!(@take reader, $type $(as $form)?)),* })
            }
        }

        wire! { $($rest)* }
    };
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $(
                $(#[$variant_meta:meta])*
                $variant:ident
                $(($value:ident: $value_type:ty))?
                $({ $($field:ident: $type:ty $(as $form:ty)?),* $(,)? })?
                = $number:literal
            ),* $(,)?
        }
        $($rest:tt)*
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $($(#[$variant_meta])* $variant $(($value_type))? $({ $($field: $type),* })?),*
        }

        impl super::codec::Wire for $name {
            fn put(&self, writer: &mut super::codec::Writer) {
                match self {
                    $(Self::$variant $(($value))? $({ $($field),* })? => {
                        writer.raw(&[$number]);
                        $(wire!(@put $value, writer, $value_type);)?
                        $($(wire!(@put $field, writer, $type $(as $form)?);)*)?
                    })*
                }
            }

            fn take(
                reader: &mut super::codec::Reader<'_>,
            ) -> Result<Self, super::codec::Malformed> {
                Ok(match reader.variant()? {
                    $($number => Self::$variant
                        $((wire!(@take reader, $value_type)))?
                        $({ $($field: wire!(@take reader, $type $(as $form)?)),* })?,)*
                    _ => return Err(super::codec::Malformed),
                })
            }
        }

        wire! { $($rest)* }
    };
    (@put $value:expr, $writer:ident, $type:ty as $form:ty) => {
        <$form as super::codec::Form<$type>>::put($value, $writer)
    };
    (@put $value:expr, $writer:ident, $type:ty) => {
        <$type as super::codec::Wire>::put($value, $writer)
    };
    (@take $reader:ident, $type:ty as $form:ty) => {
        <$form as super::codec::Form<$type>>::take($reader)?
    };
    (@take $reader:ident, $type:ty) => {
        <$type as super::codec::Wire>::take($reader)?
    };
}

/// Implements `encode` and `decode` for messages.
macro_rules! messages {
    ($($name:ident),*) => {$(
        impl $name {
            /// Encodes the message.
            pub(crate) fn encode(&self) -> Vec<u8> {
                super::codec::encode(self)
            }

            /// Decodes a message.
            pub(crate) fn decode(message: &[u8]) -> Result<Self, super::codec::Malformed> {
                super::codec::decode(message)
            }
        }
    )*};
}
pub(super) use {messages, wire};
