//! `sbx_exit`.

use super::structs::Layout;
use crate::sandbox::Exit;

/// How a sandbox or a program executed in it ended. The caller owns it; zero it or use SBX_EXIT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_exit {
    /// sizeof(sbx_exit), or 0.
    pub size: u32,
    /// Why: SBX_EXIT_.... It tells a program's own 124 or 137 apart from the library's.
    pub reason: i32,
    /// The program's own code; 128 + n for signal n; 124 when time ran out or it was idle; 137 when terminated.
    pub code: i32,
    /// The signal that ended the program, or 0.
    pub signal: i32,
    /// From the program's start to its end, in milliseconds.
    pub runtime_ms: i64,
    /// 0.
    pub reserved: i64,
}

// SAFETY: repr(C), begins with its size, 32 bytes without padding, integers only.
unsafe impl Layout for sbx_exit {
    const NAME: &'static str = "sbx_exit";
    const FIRST_SIZE: usize = 32;
}

impl From<Exit> for sbx_exit {
    fn from(exit: Exit) -> Self {
        Self {
            size: 0,
            reason: exit.reason as i32,
            code: exit.code,
            signal: exit.signal,
            runtime_ms: i64::try_from(exit.runtime.as_millis()).unwrap_or(i64::MAX),
            reserved: 0,
        }
    }
}
