//! What a sandbox is asked to be: every setting, its default and its rule.

/// placeholder
#[derive(Clone, Debug, Default)]
pub struct Config {}
/// placeholder
#[derive(Clone, Debug)]
pub struct Mount {}
/// placeholder
#[derive(Clone, Debug)]
pub struct Port {}
/// placeholder
#[derive(Clone, Copy, Debug)]
pub enum PortKind {
    /** TLS */
    Encrypted,
    /** TLS, h2 */
    H2,
    /** raw TCP */
    Unencrypted,
}
/// placeholder
#[derive(Clone, Debug)]
pub enum Probe {}
/// placeholder
#[derive(Clone, Copy, Debug)]
pub enum Stdio {}
