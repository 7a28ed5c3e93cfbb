//! Addresses to hand out as handles: in a read-only mapping of the library's own.
//!
//! A handle must look like a pointer to memory that exists: Go's collector crashes on small numbers
//! dressed as pointers, and inspectors of other languages read what a pointer points to. It must not be
//! the address of the object, or a freed one could be that of another object soon after. So addresses
//! come from mappings that hold nothing, 16 bytes apart, and none is given out twice: when one mapping is used up
//! another is made, for as long as there is address space.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::error::{Code, Context, Error, Result};

/// The distance of two handles: what an allocator would align to.
const STEP: usize = 16;
/// The sizes to ask for. Only address space is taken, but a host may have limited that (RLIMIT_AS).
const SIZES: &[usize] = &[1 << 32, 1 << 28, 1 << 24, 1 << 20];

/// What addresses are taken from.
#[derive(Debug)]
pub(crate) struct HandlePages {
    sizes: &'static [usize],
    /// The last one is in use, the others are used up. Written once in a million handles at most.
    pages: RwLock<Vec<Page>>,
}

/// One mapping.
#[derive(Debug)]
struct Page {
    start: usize,
    size: usize,
    used: AtomicUsize,
}

impl HandlePages {
    /// Reserves the first mapping.
    pub(crate) fn new() -> Result<Self> {
        Self::of(SIZES)
    }

    fn of(sizes: &'static [usize]) -> Result<Self> {
        Ok(Self { sizes, pages: RwLock::new(vec![Page::new(sizes)?]) })
    }

    /// An address that was never given out before.
    pub(crate) fn take(&self) -> Result<usize> {
        let last = |pages: &[Page]| pages.last().and_then(Page::take);
        if let Some(address) = last(&self.pages.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(address);
        }
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been quicker.
        if let Some(address) = last(&pages) {
            return Ok(address);
        }
        let page = Page::new(self.sizes).map_err(|error| {
            let text = "no handle is left: each is used once, and there is no address space for more";
            Error::new(Code::Limit, format!("{text}: {}", error.message()))
        })?;
        let address = page.take();
        pages.push(page);
        address.ok_or_else(|| Error::new(Code::Internal, "a mapping for handles has no room"))
    }

    /// Whether the address has been given out.
    pub(crate) fn gave(&self, address: usize) -> bool {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        pages.iter().any(|page| page.gave(address))
    }
}

impl Page {
    /// Of the first of these sizes for which there is address space.
    fn new(sizes: &[usize]) -> Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::OutOfMemory);
        for size in sizes.iter().copied() {
            match reserve(size) {
                Ok(start) => return Ok(Self { start, size, used: AtomicUsize::new(0) }),
                Err(cause) => last = cause,
            }
        }
        Err(last).context("mmap of address space for handles")
    }

    fn take(&self) -> Option<usize> {
        let next = |used: usize| used.checked_add(STEP).filter(|end| *end <= self.size);
        let used = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok()?;
        Some(self.start + used)
    }

    fn gave(&self, address: usize) -> bool {
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
        let page = HandlePages::new().unwrap();
        let first = page.take().unwrap();
        let second = page.take().unwrap();
        assert_eq!(second - first, STEP);
        assert_eq!(first % STEP, 0);
        assert!(page.gave(first) && page.gave(second));
        assert!(
            !page.gave(first + 1) && !page.gave(second + STEP) && !page.gave(0) && !page.gave(usize::MAX)
        );
        // SAFETY: the page stays mapped and readable; this is what a host's garbage collector may do.
        let seen = unsafe { ptr::with_exposed_provenance::<u64>(second).read_volatile() };
        assert_eq!(seen, 0);
    }

    #[test]
    fn another_mapping_follows_and_none_is_given_twice() {
        let pages = HandlePages::of(&[1 << 24]).unwrap();
        let mut last = std::collections::HashSet::new();
        for count in 1..=1_100_000 {
            let address = pages.take().unwrap();
            // Those before are known by where their mapping is.
            if count % 1000 == 0 {
                assert!(last.insert(address), "{address:#x} was given twice");
            }
        }
        assert!(last.iter().all(|address| pages.gave(*address)));
        let pages = pages.pages.into_inner().unwrap();
        let used = |page: &Page| page.used.load(Ordering::Relaxed) / STEP;
        assert_eq!(pages.iter().map(used).collect::<Vec<_>>(), [1 << 20, 1_100_000 - (1 << 20)]);
        assert!(
            pages[0].start + pages[0].size <= pages[1].start
                || pages[1].start + pages[1].size <= pages[0].start
        );
    }

    #[test]
    fn threads_at_the_end_of_a_mapping_get_different_ones() {
        let pages = HandlePages::of(&[1 << 12]).unwrap();
        let taken = || (0..1000).map(|_| pages.take().unwrap()).collect::<Vec<_>>();
        let all: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(taken)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 4000);
        assert!(all.iter().all(|address| pages.gave(*address)));
    }

    #[test]
    fn without_address_space_the_end_is_an_error() {
        let pages = Page { start: 4096, size: 3 * STEP, used: AtomicUsize::new(0) };
        let pages = HandlePages { sizes: &[usize::MAX], pages: RwLock::new(vec![pages]) };
        assert_eq!([(); 3].map(|()| pages.take().unwrap()), [4096, 4112, 4128]);
        for _ in 0..3 {
            assert_eq!(pages.take().unwrap_err().code(), Code::Limit);
        }
    }
}
