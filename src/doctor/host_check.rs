//! A check of the host, from the environment to the report.

use std::path::PathBuf;

use super::{Report, checks, place, trial};
use crate::config::RuntimeConfig;
use crate::error::Result;
use crate::image;
use crate::keeper::Origin;
use crate::runsc::find::Locator;
use crate::runtime;

/// What to check, by the environment as it was when this was made.
pub(super) struct HostCheck {
    locator: Locator,
    images: Result<PathBuf>,
    environment: place::Environment,
    keeper: Origin,
    user_namespace: bool,
}

impl HostCheck {
    /// Reads the environment. What can hang is left to [`HostCheck::report`].
    pub(super) fn new(config: &RuntimeConfig) -> Self {
        Self {
            locator: runtime::locator(config),
            images: image::directory(config.image_directory.as_deref()),
            environment: place::Environment::read(),
            keeper: runtime::keeper(config),
            user_namespace: config.user_namespace,
        }
    }

    /// Runs the checks and the trial.
    pub(super) fn report(&self) -> Report {
        let runsc = self.locator.locate();
        let trial = trial::run(&self.keeper, self.user_namespace);
        checks::examine(runsc.as_deref(), &self.images, &self.environment, Some(trial))
    }
}
