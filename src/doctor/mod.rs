//! The doctor: checks the host and reports what the library lacks there, with the remedy.
//!
//! | file | |
//! |---|---|
//! | `checks` | the checks, by texts of /proc and /sys and by the trial |
//! | `place` | the container, service or machine that this process runs in |
//! | `trial` | a keeper makes its namespaces, and the library configures links and rules in them |
//! | `report` | the findings |
//! | `background` | the same on a thread of its own, for hosts that must not block |

mod background;
mod checks;
mod place;
mod report;
mod trial;

use std::path::PathBuf;

pub use report::{Finding, Report, Status};

use crate::config::RuntimeConfig;
use crate::error::Result;
use crate::event::{Operation, Queue};
use crate::image;
use crate::keeper::Origin;
use crate::runsc::find::Locator;
use crate::runtime;

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

/// What to check, by the environment as it was when this was made.
struct HostCheck {
    locator: Locator,
    images: Result<PathBuf>,
    environment: place::Environment,
    keeper: Origin,
    user_namespace: bool,
}

impl HostCheck {
    /// Reads the environment. What can hang is left to [`HostCheck::report`].
    fn new(config: &RuntimeConfig) -> Self {
        Self {
            locator: runtime::locator(config),
            images: image::directory(config.image_directory.as_deref()),
            environment: place::Environment::read(),
            keeper: runtime::keeper(config),
            user_namespace: config.user_namespace,
        }
    }

    /// Runs the checks and the trial.
    fn report(&self) -> Report {
        let runsc = self.locator.locate();
        let trial = trial::run(&self.keeper, self.user_namespace);
        checks::examine(runsc.as_deref(), &self.images, &self.environment, Some(trial))
    }
}
