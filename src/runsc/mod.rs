//! gVisor's `runsc`: finding and probing the binary, its command line and bundle, and the file system a
//! sandbox sees.
//!
//! Nothing here starts a sandbox: these are the plans; the keeper carries them out.
//!
//! * [`find::Locator::locate`] gives the [`probe::Runsc`] to use, probed, and probed again when the file was replaced.
//! * [`command::Launch::arguments`] is the command line of one sandbox, [`bundle::Bundle::json`] its `config.json`.
//! * [`rootfs`] says what to mount where before runsc starts.
pub(crate) mod bundle;
pub(crate) mod command;
mod features;
pub(crate) mod find;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod rootfs;
mod subprocess;

#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod fake;
