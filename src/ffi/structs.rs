//! The rule by which structs grow: they begin with their size.
//!
//! Size 0 stands for the first layout, because layers above C zero what they make. Structs only grow at
//! their end. What the host's is longer than ours must be zero where it is an input (it asks for something
//! this library doesn't know), and is left alone where it is an output.

use std::ffi::{CString, c_char};
use std::ptr;

use crate::error::{Code, Error, Result};

/// Nobody's struct is longer: a larger size is not a size.
const MAX_SIZE: usize = 4096;

/// A struct that is shared with C.
///
/// # Safety
/// The type must be `repr(C)`, begin with a `u32` size, have no padding, and be valid for any bytes.
pub(super) unsafe trait Layout: Copy {
    /// Its name in C.
    const NAME: &'static str;
    /// The size of its first published layout.
    const FIRST_SIZE: usize;
}

/// The size that the host gave its struct, if it is possible.
///
/// # Safety
/// `at` must point to readable bytes of the host's, at least as many as the first layout has.
pub(super) unsafe fn size<T: Layout>(at: *const T) -> Result<usize> {
    // SAFETY: the struct begins with its size; it is read as bytes, so that no alignment is needed.
    let given = unsafe { at.cast::<u32>().read_unaligned() };
    let given = usize::try_from(given).unwrap_or(usize::MAX);
    match given {
        0 => Ok(T::FIRST_SIZE),
        size if (T::FIRST_SIZE..=MAX_SIZE).contains(&size) => Ok(size),
        _ => Err(Error::new(
            Code::Size,
            format!("{}: size {given} is not the size of such a struct; set it to sizeof or to 0", T::NAME),
        )),
    }
}

/// Reads an input struct; `None` for NULL. What the host's is shorter is zero.
///
/// # Safety
/// `at` must be NULL or point to a struct of the host's that has the size it says.
pub(super) unsafe fn read<T: Layout>(at: *const T, zero: T) -> Result<Option<T>> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL; passed on from the caller.
    let given = unsafe { size(at) }?;
    for offset in size_of::<T>()..given {
        // SAFETY: within the size that the host says its struct has.
        let byte = unsafe { at.cast::<u8>().add(offset) };
        // SAFETY: as above.
        if unsafe { byte.read() } != 0 {
            return Err(Error::new(
                Code::Size,
                format!(
                    "{}: byte {offset} is set, which this version does not know; use a newer library",
                    T::NAME
                ),
            ));
        }
    }
    let mut value = zero;
    let known = given.min(size_of::<T>());
    // SAFETY: `known` bytes are readable there and writable here, and any bytes are a valid T.
    unsafe { ptr::copy_nonoverlapping(at.cast::<u8>(), (&raw mut value).cast::<u8>(), known) };
    Ok(Some(value))
}

/// Writes an output struct, as much as the host's has room for; its size stays what the host set.
///
/// # Safety
/// `at` must point to a struct of the host's, writable, of `given` bytes as [`size`] returned them.
pub(super) unsafe fn write<T: Layout>(at: *mut T, given: usize, value: &T) {
    const AFTER_SIZE: usize = size_of::<u32>();
    let known = given.min(size_of::<T>()).saturating_sub(AFTER_SIZE);
    // SAFETY: T begins with its size, so the rest begins behind it, inside of the value.
    let from = unsafe { ptr::from_ref(value).cast::<u8>().add(AFTER_SIZE) };
    // SAFETY: the host's struct has the same beginning.
    let to = unsafe { at.cast::<u8>().add(AFTER_SIZE) };
    // SAFETY: both have `known` bytes more, and ours is not the host's.
    unsafe { ptr::copy_nonoverlapping(from, to, known) };
}

/// A struct of the host's that a result goes to.
pub(super) struct Output<T> {
    at: *mut T,
    given: usize,
}

impl<T: Layout> Output<T> {
    /// Fills the struct as far as the host's has room.
    pub(super) fn write(self, value: &T) {
        // SAFETY: `output`'s caller promised it, and the size is the one that was read there.
        unsafe { write(self.at, self.given, value) };
    }
}

/// Looks at an output struct before there is a result; `what` names it in messages.
///
/// # Safety
/// `at` must be NULL or point to a struct of the host's that has the size it says, and stay writable until the result
/// was written.
pub(super) unsafe fn output<T: Layout>(what: &str, at: *mut T) -> Result<Output<T>> {
    if at.is_null() {
        return Err(Error::invalid(format!("{what}: must not be NULL")));
    }
    // SAFETY: not NULL; passed on from the caller.
    let given = unsafe { size(at) }?;
    Ok(Output { at, given })
}

/// The same for a struct that the host may leave out.
///
/// # Safety
/// As for [`output`].
pub(super) unsafe fn optional_output<T: Layout>(what: &str, at: *mut T) -> Result<Option<Output<T>>> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: passed on from the caller.
    unsafe { output(what, at) }.map(Some)
}

/// Copies a text into a field, cut at a character's border, with a NUL behind it.
pub(super) fn fill(field: &mut [c_char], text: &str) {
    let room = field.len().saturating_sub(1).min(text.len());
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    field.fill(0);
    for (to, from) in field.iter_mut().zip(text.bytes().take(end).take_while(|byte| *byte != 0)) {
        *to = c_char::from_ne_bytes([from]);
    }
}

/// A text that C can read; our own never has a NUL, but if it had, the text would end there.
pub(super) fn c_text(text: &str) -> CString {
    CString::new(text.split('\0').next().unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C)]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Sample {
        size: u32,
        first: u32,
        later: u64,
    }
    // SAFETY: repr(C), begins with its size, no padding, integers only.
    unsafe impl Layout for Sample {
        const NAME: &'static str = "sample";
        const FIRST_SIZE: usize = 8;
    }
    const ZERO: Sample = Sample { size: 0, first: 0, later: 0 };

    fn host(size: u32, tail: u8) -> [u8; 32] {
        let mut bytes = [0_u8; 32];
        bytes[..4].copy_from_slice(&size.to_ne_bytes());
        bytes[4] = 5;
        bytes[8] = 9;
        bytes[31] = tail;
        bytes
    }

    fn read_from(bytes: &[u8; 32]) -> Result<Option<Sample>> {
        // SAFETY: 32 bytes are there, and no size used below is larger.
        unsafe { read(bytes.as_ptr().cast(), ZERO) }
    }

    #[test]
    fn inputs_grow_at_their_end() {
        assert_eq!(read_from(&host(0, 0)).unwrap().unwrap(), Sample { size: 0, first: 5, later: 0 });
        assert_eq!(read_from(&host(8, 0)).unwrap().unwrap(), Sample { size: 8, first: 5, later: 0 });
        assert_eq!(read_from(&host(16, 1)).unwrap().unwrap().later, 9);
        assert_eq!(read_from(&host(32, 0)).unwrap().unwrap().later, 9);
        assert_eq!(read_from(&host(32, 1)).unwrap_err().code(), Code::Size);
        for impossible in [1, 4, 7, 4097, u32::MAX] {
            assert_eq!(read_from(&host(impossible, 0)).unwrap_err().code(), Code::Size);
        }
        // SAFETY: NULL is allowed.
        assert!(unsafe { read::<Sample>(ptr::null(), ZERO) }.unwrap().is_none());
    }

    #[test]
    fn outputs_fill_what_the_host_has() {
        let value = Sample { size: 99, first: 1, later: 2 };
        for (given, first, later) in [(8_u32, 1, 9), (16, 1, 2), (32, 1, 2)] {
            let mut bytes = host(given, 7);
            let at: *mut Sample = bytes.as_mut_ptr().cast();
            // SAFETY: 32 bytes are there.
            let size = unsafe { size(at) }.unwrap();
            // SAFETY: the same bytes, and the size read from them.
            unsafe { write(at, size, &value) };
            assert_eq!(bytes[..4], given.to_ne_bytes());
            assert_eq!((bytes[4], bytes[8], bytes[31]), (first, later, 7));
        }
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let mut field = [1; 6];
        let bytes = |field: [c_char; 6]| field.map(|each| each.to_ne_bytes()[0]);
        fill(&mut field, "aäöü");
        assert_eq!(bytes(field), "aäö\0".as_bytes());
        fill(&mut field, "x\0y");
        assert_eq!(&bytes(field), b"x\0\0\0\0\0");
    }
}
