//! Whose rights a program or a file operation has.

use std::fmt;

use super::codec::wire;

wire! {
    /// The user that a program runs as, as written in the configuration. Init looks names up in the sandbox.
    #[derive(Clone, Debug, PartialEq, Eq, Default)]
    pub(crate) struct User {
        /// A name or a number; empty for root.
        pub(crate) user: String,
        /// A name or a number. Empty for the user's own group: the one in `/etc/passwd`, or else (unless
        /// `of_image`) the group with the user's number.
        pub(crate) group: String,
        /// Whether both are looked up as docker does in an image: a number without an entry has group 0, and an
        /// explicit group is the only one.
        pub(crate) of_image: bool,
    }
}

/// As it is written in a configuration; empty for root.
impl fmt::Display for User {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colon = if self.group.is_empty() { "" } else { ":" };
        write!(out, "{}{colon}{}", self.user, self.group)
    }
}
