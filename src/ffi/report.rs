//! `sbx_report`: what the doctor found.

use std::ffi::{CString, c_char, c_int};
use std::ptr;

use super::call::{call_on, call_or, call_with};
use super::codes::{SBX_FINDING_LIMITED, SBX_FINDING_MISSING, SBX_FINDING_OK};
use super::error::sbx_error;
use super::handle::{self, Object};
use super::structs::c_text;
use crate::doctor::{Report, Status};
use crate::error::{Code, Error, Result};

/// What the doctor found. It doesn't change; any thread may read it. Texts live as long as it.
#[derive(Debug)]
pub struct sbx_report {
    _private: [u8; 0],
}

#[derive(Debug)]
pub(super) struct ReportObject {
    texts: Texts,
}

#[derive(Debug)]
struct Texts {
    usable: bool,
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
        Self { usable: report.usable(), findings: findings.collect() }
    }

    fn finding(&self, index: usize) -> Result<&FindingTexts> {
        self.findings
            .get(index)
            .ok_or_else(|| Error::new(Code::NotFound, format!("the report has no finding {index}")))
    }
}

fn text(
    report: *const sbx_report,
    index: usize,
    field: impl FnOnce(&FindingTexts) -> &CString,
) -> *const c_char {
    call_or(ptr::null(), || {
        call_with(report, |report: &ReportObject| Ok(field(report.texts()?.finding(index)?).as_ptr()))
    })
}

/// Whether sandboxes can be created: nothing is missing.
///
/// Returns 1 or 0; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
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
/// Returns the count; SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
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

/// How a requirement stands: SBX_FINDING_OK, SBX_FINDING_LIMITED or SBX_FINDING_MISSING.
///
/// Returns that; SBX_ENOTFOUND, SBX_EHANDLE, SBX_EFORKED, SBX_EPANIC.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_status(report: *const sbx_report, index: usize) -> c_int {
    // SAFETY: NULL is allowed for the error.
    unsafe {
        call_on(report, ptr::null_mut::<sbx_error>(), |report: &ReportObject| {
            Ok(report.texts()?.finding(index)?.status)
        })
    }
}

/// What the requirement is called. NULL for a bad handle or index.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_name(report: *const sbx_report, index: usize) -> *const c_char {
    text(report, index, |finding| &finding.name)
}

/// What was found. NULL for a bad handle or index.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_detail(report: *const sbx_report, index: usize) -> *const c_char {
    text(report, index, |finding| &finding.detail)
}

/// What to do about it; empty where there is nothing to do. NULL for a bad handle or index.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_remedy(report: *const sbx_report, index: usize) -> *const c_char {
    text(report, index, |finding| &finding.remedy)
}

/// Frees a report and its texts; NULL is allowed.
///
/// # Safety
/// No text of the report may be used after.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_report_free(report: *mut sbx_report) {
    call_or((), || handle::take::<ReportObject>(report).map(drop));
}
