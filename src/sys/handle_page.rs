//! Addresses to hand out as handles: in a read-only mapping of the library's own.
//!
//! A handle must look like a pointer to memory that exists: Go's collector crashes on small numbers
//! dressed as pointers, and inspectors of other languages read what a pointer points to. It must not be
//! the address of the object, or a freed one could be that of another object soon after. So addresses
//! come from a mapping that holds nothing, 16 bytes apart, and none is given out twice.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Code, Context, Error, Result};

/// The distance of two handles: what an allocator would align to.
const STEP: usize = 16;
/// The sizes to ask for. Only address space is taken, but a host may have limited that (RLIMIT_AS).
const SIZES: [usize; 3] = [1 << 32, 1 << 28, 1 << 24];

/// A mapping that addresses are taken from.
#[derive(Debug)]
pub(crate) struct HandlePage {
    start: usize,
    size: usize,
    used: AtomicUsize,
}

impl HandlePage {
    /// Reserves the address space.
    pub(crate) fn new() -> Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::OutOfMemory);
        for size in SIZES {
            match reserve(size) {
                Ok(start) => return Ok(Self { start, size, used: AtomicUsize::new(0) }),
                Err(cause) => last = cause,
            }
        }
        Err(last).context("mmap of address space for handles")
    }

    /// An address that was never given out before.
    pub(crate) fn take(&self) -> Result<usize> {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(STEP).filter(|end| *end <= self.size)
            })
            .map(|used| self.start + used)
            .map_err(|_| Error::new(Code::Limit, "no handle is left: each is used once, and all were used"))
    }

    /// Whether the address has been given out by this mapping.
    pub(crate) fn gave(&self, address: usize) -> bool {
        address
            .checked_sub(self.start)
            .is_some_and(|offset| offset < self.used.load(Ordering::Relaxed) && offset % STEP == 0)
    }
}

fn reserve(size: usize) -> io::Result<usize> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Not in core dumps: gigabytes of nothing. A kernel that can't is no reason to fail.
    // SAFETY: the range was mapped above and is never unmapped.
    unsafe { libc::madvise(address, size, libc::MADV_DONTDUMP) };
    Ok(address.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_apart_readable_and_known() {
        let page = HandlePage::new().unwrap();
        let first = page.take().unwrap();
        let second = page.take().unwrap();
        assert_eq!(second - first, STEP);
        assert_eq!(first % STEP, 0);
        assert!(page.gave(first) && page.gave(second));
        assert!(
            !page.gave(first + 1) && !page.gave(second + STEP) && !page.gave(0) && !page.gave(usize::MAX)
        );
        // SAFETY: the page is mapped readable for ever; this is what a host's collector may do.
        let seen = unsafe { ptr::with_exposed_provenance::<u64>(second).read_volatile() };
        assert_eq!(seen, 0);
    }

    #[test]
    fn none_is_given_twice_and_the_end_is_an_error() {
        let page = HandlePage { start: 4096, size: 3 * STEP, used: AtomicUsize::new(0) };
        assert_eq!([page.take().unwrap(), page.take().unwrap(), page.take().unwrap()], [4096, 4112, 4128]);
        for _ in 0..3 {
            assert_eq!(page.take().unwrap_err().code(), Code::Limit);
        }
    }
}
