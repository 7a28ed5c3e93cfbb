//! Why an attempt failed, whether another may do better, and when.

use std::time::Duration;

use super::patience::Patience;
use crate::error::{Error, Result};

/// How often something is tried without any progress.
const MAX_ATTEMPTS: u32 = 5;

/// The pause before the second attempt. It doubles from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause that a server can ask for (Retry-After).
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Why an attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another attempt would fail as well.
    Final(Error),
    /// Another attempt may succeed: the connection broke, or the server is busy.
    Passing {
        error: Error,
        /// How long the server asks to wait.
        after: Option<Duration>,
    },
}

impl Failure {
    pub(super) fn passing(error: Error) -> Self {
        Self::Passing { error, after: None }
    }

    /// The same with `context: ` before its text.
    pub(super) fn context(self, context: &str) -> Self {
        match self {
            Self::Final(error) => Self::Final(error.context(context)),
            Self::Passing { error, after } => Self::Passing { error: error.context(context), after },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// Counts attempts at one thing.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: u32,
}

impl Attempts {
    /// Something was achieved: what fails next has all its attempts again.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits for the time of the next attempt, or returns the error if there is none.
    pub(super) fn wait(&mut self, failure: Failure, patience: &Patience<'_>) -> Result<()> {
        let (error, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { error, after } => (error, after),
        };
        self.failed = self.failed.saturating_add(1);
        if self.failed >= MAX_ATTEMPTS {
            return Err(error.append(&format!(" (after {MAX_ATTEMPTS} attempts)")));
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failed - 1).min(8));
        let pause = after.unwrap_or(doubled).max(doubled).min(MAX_PAUSE);
        // Not much is left of the operation's time: this error says more than that the time was up.
        if pause >= patience.left() {
            return Err(error);
        }
        patience.pause(pause)
    }
}

/// Tries until it succeeds, fails for good, or has failed too often.
pub(super) fn retried<T>(
    patience: &Patience<'_>,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T> {
    let mut attempts = Attempts::default();
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(failure) => attempts.wait(failure, patience)?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    fn error() -> Error {
        Error::new(Code::Host, "broken")
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let cancelled = AtomicBool::new(false);
        let patience = Patience::new(&cancelled, Instant::now() + Duration::from_secs(60));
        let mut count = 0;
        let result: Result<()> = retried(&patience, || {
            count += 1;
            Err(Failure::Final(error()))
        });
        assert_eq!((count, result.unwrap_err().message()), (1, "broken"));
        let mut count = 0;
        let result = retried(&patience, || {
            count += 1;
            if count < 3 { Err(Failure::passing(error())) } else { Ok(count) }
        });
        assert_eq!(result.unwrap(), 3);
    }

    #[test]
    fn attempts_end() {
        let cancelled = AtomicBool::new(false);
        let patience = Patience::new(&cancelled, Instant::now() + Duration::from_secs(60));
        let mut count = 0;
        let result: Result<()> = retried(&patience, || {
            count += 1;
            Err(Failure::passing(error()))
        });
        assert_eq!((count, result.unwrap_err().message()), (5, "broken (after 5 attempts)"));
    }

    #[test]
    fn a_pause_beyond_the_deadline_is_not_begun() {
        let cancelled = AtomicBool::new(false);
        let start = Instant::now();
        let patience = Patience::new(&cancelled, start + Duration::from_secs(10));
        let after = Some(Duration::from_secs(3600));
        let failure = Failure::Passing { error: error(), after };
        assert_eq!(Attempts::default().wait(failure, &patience).unwrap_err().message(), "broken");
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}
