//! A question that a member of the warm pool answers if it is alive, asked for the creation that is to take it.
//!
//! What was killed just now looks alive for as long as the kernel takes to end it, so there has to be an answer.

#[derive(Debug)]
pub(super) struct LifeCheck {
    creation: u64,
    ticket: u32,
    is_answered: bool,
}

impl LifeCheck {
    /// Asked with this ticket.
    pub(super) fn new(creation: u64, ticket: u32) -> Self {
        Self { creation, ticket, is_answered: false }
    }

    pub(super) fn is_for(&self, creation: u64) -> bool {
        self.creation == creation
    }

    /// Whether init has answered, and for this creation.
    pub(super) fn is_alive(&self, creation: u64) -> bool {
        self.is_for(creation) && self.is_answered
    }

    pub(super) fn on_pong(&mut self, ticket: u32) {
        self.is_answered |= self.ticket == ticket;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_this_question_counts() {
        let mut check = LifeCheck::new(7, 2);
        check.on_pong(1);
        assert!(check.is_for(7) && !check.is_alive(7));
        check.on_pong(2);
        assert!(check.is_alive(7) && !check.is_alive(8) && !check.is_for(8));
    }
}
