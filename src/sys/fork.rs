//! Detects, without a lock and without a system call, that the process is a forked child.
//!
//! A child of fork has one thread and a copy of every lock in its state at that moment: the library's threads are gone,
//! so a call could block forever. A page that the kernel zeroes in children (MADV_WIPEONFORK) identifies them. A process
//! id would cost a system call, and in a container a child can have its parent's number.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use crate::error::{Code, Context, Error, Result};

/// Written to the page by the process that first uses the library; a child reads 0 there.
const NOT_FORKED: u8 = 1;
const PAGE: usize = 4096;

/// The page, or null before the first call. Made once and never freed.
static MARK: AtomicPtr<AtomicU8> = AtomicPtr::new(ptr::null_mut());

/// Fails in a forked child of the process that first used the library.
pub(crate) fn refuse_child() -> Result<()> {
    let mark = match NonNull::new(MARK.load(Ordering::Acquire)) {
        Some(mark) => mark,
        None => publish(new_mark()?),
    };
    // SAFETY: `mark` is a page of `new_mark` that was published and is never unmapped.
    let mark = unsafe { mark.as_ref() };
    if mark.load(Ordering::Relaxed) == NOT_FORKED {
        return Ok(());
    }
    Err(Error::new(
        Code::Forked,
        "called in a child of fork: only the process that first used the library may call it; exec first",
    ))
}

/// Makes `fresh` the page of the process, or drops it if another thread was quicker.
fn publish(fresh: NonNull<AtomicU8>) -> NonNull<AtomicU8> {
    match MARK.compare_exchange(ptr::null_mut(), fresh.as_ptr(), Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => fresh,
        Err(winner) => {
            unmap(fresh);
            NonNull::new(winner).unwrap_or(fresh)
        }
    }
}

fn new_mark() -> Result<NonNull<AtomicU8>> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory of ours.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error()).context("mmap of a page that forked children find empty");
    }
    let Some(mark) = NonNull::new(address.cast::<AtomicU8>()) else {
        return Err(Error::new(Code::Internal, "mmap returned NULL"));
    };
    // SAFETY: the page was mapped above and no other code has its address.
    let advised = unsafe { libc::madvise(address, PAGE, libc::MADV_WIPEONFORK) };
    if advised != 0 {
        let cause = io::Error::last_os_error();
        unmap(mark);
        return Err(cause).context("madvise(MADV_WIPEONFORK)");
    }
    // SAFETY: the page is mapped, writable and zeroed, which is a valid AtomicU8.
    unsafe { mark.as_ref() }.store(NOT_FORKED, Ordering::Relaxed);
    Ok(mark)
}

fn unmap(mark: NonNull<AtomicU8>) {
    // SAFETY: only called for a page of `new_mark` that was not published: nothing refers to it.
    unsafe { libc::munmap(mark.as_ptr().cast(), PAGE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_refused_and_its_parent_is_not() {
        refuse_child().unwrap();
        // SAFETY: the child makes no call but the lock-free one under test and _exit.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // The error's text is allocated, which glibc makes safe after fork.
            let refused = refuse_child().is_err_and(|error| error.code() == Code::Forked);
            // SAFETY: _exit runs nothing of the parent's.
            unsafe { libc::_exit(if refused { 7 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child made above; `status` is ours.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!((waited, libc::WEXITSTATUS(status)), (child, 7));
        refuse_child().unwrap();
    }
}
