//! Handles: what C holds instead of pointers to our objects.
//!
//! A handle is an address in a read-only mapping that is given out once ([`HandlePages`]); the object is
//! found in a table. So a NULL, freed, foreign or wrong-kind handle is an error that can be named, and
//! an object that is freed while another thread uses it lives until that call returns.

use std::any::Any;
use std::collections::HashMap;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Code, Error, Result};
use crate::sys::handle_page::HandlePages;

/// What can stand behind a handle.
pub(super) trait Object: Any + Send + Sync {
    /// The incomplete type that C sees.
    type Opaque;
    /// What it is called in messages.
    const KIND: &'static str;
}

struct Slot {
    kind: &'static str,
    object: Arc<dyn Any + Send + Sync>,
    /// A call on the object panicked: it may be inconsistent.
    poisoned: bool,
}

struct Table {
    page: HandlePages,
    slots: Mutex<HashMap<usize, Slot>>,
}

fn table() -> Result<&'static Table> {
    static TABLE: OnceLock<Result<Table>> = OnceLock::new();
    TABLE
        .get_or_init(|| Ok(Table { page: HandlePages::new()?, slots: Mutex::new(HashMap::new()) }))
        .as_ref()
        .map_err(Clone::clone)
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, kind: &str, address: usize) -> Error {
        Error::new(
            Code::Handle,
            if address == 0 {
                format!("the {kind} handle is NULL")
            } else if self.page.gave(address) {
                format!("the {kind} handle {address:#x} was freed")
            } else {
                format!("the {kind} handle {address:#x} is not one of this copy of the library")
            },
        )
    }
}

/// A new handle for an object.
pub(super) fn insert<T: Object>(object: T) -> Result<*mut T::Opaque> {
    Ok(reserve()?.fill(object))
}

/// Takes a handle for an object that is yet to be made, so that nothing can fail once it is. Unfilled it is lost.
pub(super) fn reserve() -> Result<Reserved> {
    let table = table()?;
    Ok(Reserved { table, address: table.page.take()? })
}

/// A handle without an object.
pub(super) struct Reserved {
    table: &'static Table,
    address: usize,
}

impl Reserved {
    /// Gives it its object.
    pub(super) fn fill<T: Object>(self, object: T) -> *mut T::Opaque {
        let slot = Slot { kind: T::KIND, object: Arc::new(object), poisoned: false };
        self.table.lock().insert(self.address, slot);
        ptr::with_exposed_provenance_mut(self.address)
    }
}

/// The object of a handle.
pub(super) fn get<T: Object>(handle: *const T::Opaque) -> Result<Arc<T>> {
    let table = table()?;
    let address = handle.addr();
    let slots = table.lock();
    let slot = slots.get(&address).ok_or_else(|| table.refuse(T::KIND, address))?;
    if slot.poisoned {
        return Err(Error::new(
            Code::Panic,
            format!("the {} is not usable any more: a call on it panicked; free it", slot.kind),
        ));
    }
    downcast(slot)
}

/// Ends a handle and returns its object. `None` for NULL, which every `_free` function accepts.
pub(super) fn take<T: Object>(handle: *const T::Opaque) -> Result<Option<Arc<T>>> {
    if handle.is_null() {
        return Ok(None);
    }
    let table = table()?;
    let address = handle.addr();
    let mut slots = table.lock();
    let object = downcast::<T>(slots.get(&address).ok_or_else(|| table.refuse(T::KIND, address))?)?;
    let slot = slots.remove(&address);
    drop(slots);
    drop(slot);
    Ok(Some(object))
}

/// Makes an object unusable after a call on it panicked. It can still be freed.
pub(super) fn poison(address: usize) {
    // The handle may have been freed by another thread since the call began.
    if let Ok(table) = table()
        && let Some(slot) = table.lock().get_mut(&address)
    {
        slot.poisoned = true;
    }
}

fn downcast<T: Object>(slot: &Slot) -> Result<Arc<T>> {
    Arc::clone(&slot.object)
        .downcast()
        .map_err(|_| Error::new(Code::Handle, format!("the handle is a {}, not a {}", slot.kind, T::KIND)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    enum OneOpaque {}
    enum TwoOpaque {}
    struct One(u32);
    struct Two;

    impl Object for One {
        type Opaque = OneOpaque;
        const KIND: &'static str = "one";
    }
    impl Object for Two {
        type Opaque = TwoOpaque;
        const KIND: &'static str = "two";
    }

    fn refusal<T>(result: Result<Arc<T>>) -> String {
        match result {
            Ok(_) => panic!("accepted"),
            Err(error) => error.message().to_owned(),
        }
    }

    #[test]
    fn every_wrong_handle_has_its_own_text() {
        let one = insert(One(7)).unwrap();
        assert_eq!(get::<One>(one).unwrap().0, 7);
        assert!(refusal(get::<One>(ptr::null())).contains("is NULL"));
        assert!(refusal(get::<Two>(one.cast())).contains("is a one, not a two"));
        let local = 0_u64;
        assert!(refusal(get::<One>((&raw const local).cast())).contains("not one of this copy"));
        assert!(refusal(get::<One>(one.wrapping_byte_add(1))).contains("not one of this copy"));
        assert!(take::<Two>(one.cast()).is_err(), "a wrong kind frees nothing");
        assert_eq!(take::<One>(one).unwrap().unwrap().0, 7);
        assert!(refusal(get::<One>(one)).contains("was freed"));
        assert!(take::<One>(one).is_err());
        assert!(take::<One>(ptr::null()).unwrap().is_none());
    }

    #[test]
    fn a_poisoned_object_can_only_be_freed() {
        let one = insert(One(1)).unwrap();
        poison(one.addr());
        assert!(get::<One>(one).is_err_and(|error| error.code() == Code::Panic));
        assert!(take::<One>(one).unwrap().is_some());
    }

    #[test]
    fn threads_make_use_and_free_handles_at_once() {
        let shared = insert(One(5)).unwrap().addr();
        let uses = AtomicU32::new(0);
        // Each uses the shared one until it is freed, and meanwhile makes and frees one of its own.
        let user = || {
            while let Ok(one) = get::<One>(ptr::without_provenance(shared)) {
                assert_eq!(one.0, 5);
                let own = insert(One(uses.fetch_add(1, Ordering::Relaxed))).unwrap();
                assert!(get::<One>(own).is_ok());
                assert!(take::<One>(own).unwrap().is_some());
                assert!(get::<One>(own).is_err());
            }
        };
        thread::scope(|scope| {
            let users: Vec<_> = (0..4).map(|_| scope.spawn(user)).collect();
            while uses.load(Ordering::Relaxed) < 1000 && !users.iter().any(|user| user.is_finished()) {
                thread::yield_now();
            }
            assert_eq!(take::<One>(ptr::without_provenance(shared)).unwrap().unwrap().0, 5);
        });
    }

    #[test]
    fn an_object_in_use_outlives_its_handle() {
        let one = insert(One(3)).unwrap();
        let used = get::<One>(one).unwrap();
        take::<One>(one).unwrap();
        assert_eq!(used.0, 3);
    }
}
