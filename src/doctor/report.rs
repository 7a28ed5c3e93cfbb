//! The doctor's findings: everything that the library needs of a host, and the remedy where it lacks something.

use std::fmt;

use serde_json::json;

/// The status of one requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum Status {
    /// Met.
    Ok = 0,
    /// Sandboxes work with a restriction; or it could not be tried.
    Limited = 1,
    /// No sandbox can be created.
    Missing = 2,
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The requirement's name; stable from release to release.
    pub name: &'static str,
    /// Its status.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// The remedy, as a command where there is one; empty if none is needed.
    pub remedy: String,
}

impl Finding {
    pub(crate) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), remedy: String::new() }
    }

    pub(crate) fn limited(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Limited, detail: detail.into(), remedy: remedy.into() }
    }

    pub(crate) fn missing(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Missing, detail: detail.into(), remedy: remedy.into() }
    }
}

/// The findings of a check of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(findings: Vec<Finding>) -> Self {
        Self { findings }
    }

    /// All findings, always the same ones in the same order.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether sandboxes can be created on this host: nothing is missing.
    pub fn usable(&self) -> bool {
        self.findings.iter().all(|finding| finding.status != Status::Missing)
    }

    /// The report as one line of JSON, without a line break: an object with `version` (the library's), `usable`, and
    /// `findings`, a list of objects with `name`, `status` ("ok", "limited" or "missing"), `detail` and `remedy`, which is
    /// empty where nothing is to be done. Later versions may add members.
    pub fn to_json(&self) -> String {
        let finding = |finding: &Finding| {
            json!({
                "name": finding.name,
                "status": finding.status.name(),
                "detail": finding.detail,
                "remedy": finding.remedy,
            })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "usable": self.usable(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
        .to_string()
    }
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// One line a finding; a remedy on a line of its own below.
impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { name, status, detail, remedy } in &self.findings {
            writeln!(out, "{status:<8} {name:<16} {detail}")?;
            if !remedy.is_empty() {
                writeln!(out, "{:25} -> {remedy}", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_everything_in_one_line() {
        let report = Report::new(vec![
            Finding::ok("kernel", "Linux 6.1"),
            Finding::missing("runsc", "\"x\" isn't\nthere", "get it"),
        ]);
        let text = report.to_json();
        assert!(!text.contains('\n') && !text.contains('\0'));
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["usable"], false);
        assert_eq!(read["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(
            read["findings"],
            json!([
                {"name": "kernel", "status": "ok", "detail": "Linux 6.1", "remedy": ""},
                {"name": "runsc", "status": "missing", "detail": "\"x\" isn't\nthere", "remedy": "get it"},
            ])
        );
    }
}
