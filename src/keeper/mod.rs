//! The keeper: client side, wire format, and the static program.
