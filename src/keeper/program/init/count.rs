//! How many processes there are.

use std::fs;

/// More than gVisor lets there be (65,536 tasks); a `/proc` that shows more is none.
const MAX_PROCESSES: usize = 1 << 17;

/// Those that `/proc` shows, but for init itself; `None` if it shows nothing.
pub(super) fn processes() -> Option<u64> {
    let names = fs::read_dir("/proc").ok()?.flatten().take(MAX_PROCESSES).map(|entry| entry.file_name());
    let count = names.filter(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit)).count();
    u64::try_from(count.checked_sub(1)?).ok()
}
