//! The doctor: checks the host and reports what the library lacks there, with the remedy.
//!
//! | file | |
//! |---|---|
//! | `checks` | the checks, by texts of /proc and /sys and by the trial |
//! | `place` | the container, service or machine that this process runs in |
//! | `trial` | a keeper makes its namespaces, and the library configures links and rules in them |
//! | `report` | the findings |
//! | `host_check` | all of it: reads the environment, checks, and makes the report |
//! | `background` | the same on a thread of its own, for hosts that must not block |

mod background;
mod checks;
mod host_check;
mod place;
mod report;
mod trial;

pub use report::{Finding, Report, Status};

use crate::config::RuntimeConfig;
use crate::error::Result;
use crate::event::{Operation, Queue};
use host_check::HostCheck;

/// Checks everything that the library needs of this host. Needs no runtime.
///
/// ```no_run
/// let report = sbx::check_host(&sbx::RuntimeConfig::default());
/// print!("{report}");
/// assert!(report.usable());
/// ```
pub fn check_host(config: &RuntimeConfig) -> Report {
    HostCheck::new(config).report()
}

/// Begins that check and returns at once. With a queue its end is an event (`Checked`) there, with that cookie. A check
/// that is cancelled still runs to its end, unheard.
pub fn check_host_begin(config: &RuntimeConfig, events: Option<(&Queue, u64)>) -> Result<Operation<Report>> {
    background::begin(config, events)
}
