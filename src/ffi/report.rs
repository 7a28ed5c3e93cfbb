//! `sbx_report`: what the doctor found.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use super::call::{call_on, call_or, call_with};
use super::codes::{SBX_FINDING_LIMITED, SBX_FINDING_MISSING, SBX_FINDING_OK};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::structs::{self, Layout, c_text};
use crate::doctor::{Report, Status};
use crate::error::{Code, Error, Result};

/// What the doctor found. It doesn't change; any thread may read it. Texts live as long as it.
#[derive(Debug)]
pub struct sbx_report {
    _private: [u8; 0],
}

/// How one requirement stands. Its texts belong to the report. The caller owns the struct; zero it or use
/// SBX_FINDING_INIT.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct sbx_finding {
    /// sizeof(sbx_finding), or 0.
    pub size: u32,
    /// SBX_FINDING_OK, SBX_FINDING_LIMITED or SBX_FINDING_MISSING.
    pub status: i32,
    /// What the requirement is called.
    pub name: *const c_char,
    /// What was found.
    pub detail: *const c_char,
    /// What to do about it; empty where there is nothing to do.
    pub remedy: *const c_char,
}

// SAFETY: repr(C), begins with its size, 32 bytes without padding, integers and raw pointers only.
unsafe impl Layout for sbx_finding {
    const NAME: &'static str = "sbx_finding";
    const FIRST_SIZE: usize = 32;
}

impl From<&FindingTexts> for sbx_finding {
    fn from(texts: &FindingTexts) -> Self {
        Self {
            size: 0,
            status: texts.status,
            name: texts.name.as_ptr(),
            detail: texts.detail.as_ptr(),
            remedy: texts.remedy.as_ptr(),
        }
    }
}

#[derive(Debug)]
pub(super) struct ReportObject {
    texts: Texts,
}

#[derive(Debug)]
struct Texts {
    usable: bool,
    json: CString,
    findings: Vec<FindingTexts>,
}

#[derive(Debug)]
struct FindingTexts {
    status: i32,
    name: CString,
    detail: CString,
    remedy: CString,
}

impl Object for ReportObject {
    type Opaque = sbx_report;
    const KIND: &'static str = "report";
}

impl ReportObject {
    pub(super) fn of(report: &Report) -> Self {
        Self { texts: Texts::new(report) }
    }

    fn texts(&self) -> Result<&Texts> {
        Ok(&self.texts)
    }
}

impl Texts {
    fn new(report: &Report) -> Self {
        let findings = report.findings().iter().map(|finding| FindingTexts {
            status: match finding.status {
                Status::Ok => SBX_FINDING_OK,
                Status::Limited => SBX_FINDING_LIMITED,
                Status::Missing => SBX_FINDING_MISSING,
            },
            name: c_text(finding.name),
            detail: c_text(&finding.detail),
            remedy: c_text(&finding.remedy),
        });
        Self { usable: report.usable(), json: c_text(&report.to_json()), findings: findings.collect() }
    }

    fn finding(&self, index: usize) -> Result<&FindingTexts> {
        self.findings
            .get(index)
            .ok_or_else(|| Error::new(Code::NotFound, format!("the report has no finding {index}")))
    }
}

/// Whether sandboxes can be created: nothing is missing.
///
/// Returns 1 or 0.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_usable(report: *const sbx_report) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(report, ptr::null_mut::<sbx_error>(), |report: &ReportObject| {
            Ok(c_int::from(report.texts()?.usable))
        })
    }
}

/// How many findings there are.
///
/// Returns the count.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_count(report: *const sbx_report) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(report, ptr::null_mut::<sbx_error>(), |report: &ReportObject| {
            Ok(c_int::try_from(report.texts()?.findings.len()).unwrap_or(c_int::MAX))
        })
    }
}

/// Reads one finding, from 0.
///
/// Returns 0 and fills *finding; SBX_ENOTFOUND (the index), SBX_EINVALID, SBX_ESIZE.
///
/// # Safety
/// `finding` must point to a finding struct or be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_finding(
    report: *const sbx_report,
    index: usize,
    finding: *mut sbx_finding,
) -> c_int {
    let read = |report: &ReportObject| {
        // SAFETY: as the caller promises.
        let finding = unsafe { structs::output("finding", finding) }?;
        finding.write(&sbx_finding::from(report.texts()?.finding(index)?));
        Ok(0)
    };
    // SAFETY: NULL is allowed for the error.
    unsafe { call_on(report, ptr::null_mut::<sbx_error>(), read) }
}

/// The whole report as one line of JSON.
///
/// An object with "version" (the library's), "usable" (true or false) and "findings", a list of objects with "name",
/// "status" ("ok", "limited" or "missing"), "detail" and "remedy", which is empty where nothing is to be done. Later
/// versions may add members. Any thread, never blocks. The text lives as long as the report.
///
/// Returns NULL for a bad handle.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_json(report: *const sbx_report) -> *const c_char {
    call_or(ptr::null(), || call_with(report, |object: &ReportObject| Ok(object.texts()?.json.as_ptr())))
}

/// Frees a report and its texts.
///
/// # Safety
/// No text of the report may be used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_free(report: *mut sbx_report) {
    call_or((), || handle::take::<ReportObject>(report).map(drop));
}
