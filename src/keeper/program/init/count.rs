//! Counting the sandbox's processes.

use std::fs;

/// More than gVisor allows (65,536 tasks). A `/proc` with more entries is not believed.
const MAX_PROCESSES: usize = 1 << 17;

/// The number of processes in `/proc` without init itself; `None` if `/proc` can't be read.
pub(super) fn processes() -> Option<u64> {
    let names = fs::read_dir("/proc").ok()?.flatten().take(MAX_PROCESSES).map(|entry| entry.file_name());
    let count = names.filter(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit)).count();
    u64::try_from(count.checked_sub(1)?).ok()
}
