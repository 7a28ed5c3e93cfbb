//! placeholder

/// placeholder
#[derive(Clone, Debug)]
pub struct Report {}
impl Report {
    /// placeholder
    pub fn findings(&self) -> &[Finding] {
        &[]
    }
    /// placeholder
    pub fn usable(&self) -> bool {
        false
    }
}
/// placeholder
#[derive(Clone, Debug)]
pub struct Finding {
    /// placeholder
    pub name: String,
    /// placeholder
    pub status: Status,
    /// placeholder
    pub detail: String,
    /// placeholder
    pub remedy: String,
}
/// placeholder
#[derive(Clone, Copy, Debug)]
pub enum Status {
    /// placeholder
    Ok,
    /// placeholder
    Limited,
    /// placeholder
    Missing,
}
