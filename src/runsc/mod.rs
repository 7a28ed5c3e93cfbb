//! Finding and probing runsc, its bundle and its command line; the doctor.
pub(crate) mod report;
