//! A question that a member of the warm pool answers if it is alive, asked for the creation that is to take it.
//!
//! What was killed just now looks alive for as long as the kernel takes to end it, so there has to be an answer.

use std::time::{Duration, Instant};

/// How long an answer shows that a member is alive. What it was asked for may take much longer to be planned.
const ANSWER_COUNTS: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct LifeCheck {
    creation: u64,
    ticket: u32,
    answered: Option<Instant>,
}

impl LifeCheck {
    /// Asked with this ticket.
    pub(super) fn new(creation: u64, ticket: u32) -> Self {
        Self { creation, ticket, answered: None }
    }

    /// Whether it was asked for this creation, and is still to be answered or was just now.
    pub(super) fn counts(&self, now: Instant, creation: u64) -> bool {
        let is_fresh = |at: Instant| now.saturating_duration_since(at) <= ANSWER_COUNTS;
        self.creation == creation && self.answered.is_none_or(is_fresh)
    }

    /// Whether init has answered, and for this creation.
    pub(super) fn is_alive(&self, creation: u64) -> bool {
        self.creation == creation && self.answered.is_some()
    }

    pub(super) fn on_pong(&mut self, now: Instant, ticket: u32) {
        if self.ticket == ticket {
            self.answered = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fresh_answer_to_this_question_counts() {
        let (now, mut check) = (Instant::now(), LifeCheck::new(7, 2));
        check.on_pong(now, 1);
        let late = now + Duration::from_secs(5);
        assert!(check.counts(late, 7) && !check.is_alive(7), "it is still to be answered");
        check.on_pong(now, 2);
        assert!(check.is_alive(7) && !check.is_alive(8));
        assert!(check.counts(now + ANSWER_COUNTS, 7) && !check.counts(now, 8));
        assert!(!check.counts(now + 2 * ANSWER_COUNTS, 7));
    }
}
