//! `sbx_verdict`.

use std::ffi::c_char;

use super::structs::{Layout, fill};
use crate::policy::Verdict;

/// What a policy says of an address. The caller owns it; zero it or use SBX_VERDICT_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_verdict {
    /// sizeof(sbx_verdict), or 0.
    pub size: u32,
    /// 1 if it may be reached, 0 if not.
    pub allowed: i32,
    /// Why: SBX_REASON_....
    pub reason: i32,
    /// The place of the policy's entry that decided, or -1: sbx_policy_entry.
    pub entry: i32,
    /// The same for people, terminated.
    pub detail: [c_char; 240],
}

// SAFETY: repr(C), begins with its size, 256 bytes without padding, integers only.
unsafe impl Layout for sbx_verdict {
    const NAME: &'static str = "sbx_verdict";
    const FIRST_SIZE: usize = 256;
}

impl From<&Verdict> for sbx_verdict {
    fn from(verdict: &Verdict) -> Self {
        let mut made = Self {
            size: 0,
            allowed: i32::from(verdict.is_allowed()),
            reason: verdict.reason as i32,
            entry: verdict.entry.and_then(|entry| i32::try_from(entry).ok()).unwrap_or(-1),
            detail: [0; 240],
        };
        fill(&mut made.detail, &verdict.to_string());
        made
    }
}
