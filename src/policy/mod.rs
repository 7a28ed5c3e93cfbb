//! What a sandbox may reach.

/// placeholder
#[derive(Clone, Debug)]
pub struct Policy {}
