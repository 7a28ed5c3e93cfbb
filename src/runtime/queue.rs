//! placeholder

/// placeholder
#[derive(Clone, Debug)]
pub struct Queue {}
