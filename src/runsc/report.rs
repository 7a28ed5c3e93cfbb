//! placeholder

/// placeholder
#[derive(Clone, Debug)]
pub struct Report {}
/// placeholder
#[derive(Clone, Debug)]
pub struct Finding {}
/// placeholder
#[derive(Clone, Copy, Debug)]
pub enum Status {}
