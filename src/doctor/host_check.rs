//! A check of the host, from the environment to the report.

use super::{Report, checks, trial};
use crate::config::RuntimeConfig;
use crate::keeper::Origin;
use crate::runsc::find::Locator;
use crate::runtime;

/// What to check, by the environment as it was when this was made.
pub(super) struct HostCheck {
    locator: Locator,
    keeper: Origin,
    user_namespace: bool,
}

impl HostCheck {
    /// Reads the environment. What can hang is left to [`HostCheck::report`].
    pub(super) fn new(config: &RuntimeConfig) -> Self {
        Self {
            locator: runtime::locator(config),
            keeper: runtime::keeper(config),
            user_namespace: config.user_namespace,
        }
    }

    /// Runs the checks and the trial.
    pub(super) fn report(&self) -> Report {
        let runsc = self.locator.locate();
        checks::examine(runsc.as_deref(), Some(trial::run(&self.keeper, self.user_namespace)))
    }
}
