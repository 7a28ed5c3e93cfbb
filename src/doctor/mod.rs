//! The doctor: looks at the host and reports what the library lacks there, each time with the remedy.
//!
//! | file | |
//! |---|---|
//! | `checks` | what is judged, by texts of /proc and /sys and by the trial |
//! | `trial` | a keeper makes its namespaces, and links and rules are laid in them |
//! | `report` | what was found |
//! | `background` | the same on a thread of its own, for hosts that must not block |

mod background;
mod checks;
mod report;
mod trial;

pub use report::{Finding, Report, Status};

use crate::config::RuntimeConfig;
use crate::error::Result;
use crate::event::{Operation, Queue};
use crate::keeper::Origin;
use crate::runsc::find::Locator;
use crate::runtime;

/// Checks everything the library needs of this host. Needs no runtime.
pub fn check_host(config: &RuntimeConfig) -> Report {
    HostCheck::new(config).report()
}

/// Begins that check and returns at once. With a queue its end is an event (`Checked`) there, with that cookie. A check
/// that is cancelled still runs to its end, unheard.
pub fn check_host_begin(config: &RuntimeConfig, events: Option<(&Queue, u64)>) -> Result<Operation<Report>> {
    background::begin(config, events)
}

/// What is looked at, by the environment as it was when this was made.
struct HostCheck {
    locator: Locator,
    keeper: Origin,
    user_namespace: bool,
}

impl HostCheck {
    /// Reads the environment. What can hang is left to [`HostCheck::report`].
    fn new(config: &RuntimeConfig) -> Self {
        Self {
            locator: runtime::locator(config),
            keeper: runtime::keeper(config),
            user_namespace: config.user_namespace,
        }
    }

    /// Looks, and has a keeper try what it can do here.
    fn report(&self) -> Report {
        let runsc = self.locator.locate();
        checks::examine(runsc.as_deref(), Some(trial::run(&self.keeper, self.user_namespace)))
    }
}
