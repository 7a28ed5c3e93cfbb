//! The library's error type and its codes.
//!
//! Every error names the value or the call that failed and, where there is one, the remedy. The code's number is stable
//! and part of the C ABI; the text is for people.

use std::io;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure, with the numbers they have in C.
///
/// They are below -1000, so that they can't be confused with a negated `errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum Code {
    /// An argument or a setting has a value that is not allowed; the message names it and the rule.
    Invalid = -1001,
    /// A handle is NULL, freed, of another kind, or from another copy of the library.
    Handle = -1002,
    /// A struct's `size` is impossible, or an unknown part of it is not zero.
    Size = -1003,
    /// The timeout expired. Nothing was changed; the call may be repeated.
    TimedOut = -1004,
    /// The object was freed, or its runtime was shut down, while the call waited.
    Closed = -1005,
    /// Not possible in the object's current state (for example the tunnels of a sandbox that has ended).
    State = -1006,
    /// The name is already taken.
    Exists = -1007,
    /// Not found.
    NotFound = -1008,
    /// The combination or the operation is not supported.
    Unsupported = -1009,
    /// A limit of the library or of the process is reached (descriptors, queue, table).
    Limit = -1010,
    /// The host lacks something that the library needs; the message names it and the remedy.
    Host = -1011,
    /// No runsc was found.
    RunscMissing = -1012,
    /// The runsc that was found can't be used: not executable, too old, not runsc, or it did not answer.
    RunscUnusable = -1013,
    /// The engine (keeper or runsc) failed to start or was lost.
    Engine = -1014,
    /// The call was made in a child of fork; only the process that first used the library may call it.
    Forked = -1015,
    /// The library panicked: a bug. The host goes on; the object can only be freed.
    Panic = -1016,
    /// A system call failed; `os_error` has its number.
    System = -1017,
    /// Nothing in the sandbox accepts connections on that port.
    Refused = -1018,
    /// The program could not be started in the sandbox (not found, not executable, ...).
    Exec = -1019,
    /// An internal inconsistency: a bug in the library.
    Internal = -1020,
    /// An image can't be used, or made: it is malformed, its registry refused, the process that reads it has ended, or the
    /// directory of images isn't safe. The message says which, and what to do.
    Image = -1021,
}

impl Code {
    /// The number this kind of failure has in C.
    pub fn number(self) -> i32 {
        self as i32
    }
}

/// A failure: its kind, its text, and the operating system's number if a system call was the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    code: Code,
    os: Option<i32>,
    message: String,
}

impl Error {
    /// An error of the given kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, os: None, message: message.into() }
    }

    /// A setting or an argument that breaks a rule.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::Invalid, message)
    }

    /// The sandbox has ended, and why, as far as that is known.
    pub(crate) fn sandbox_ended(which: &str, why: Option<&str>) -> Self {
        let (colon, why) = why.map_or(("", ""), |why| (": ", why));
        Self::new(Code::State, format!("{which} has ended{colon}{why}"))
    }

    /// The sandbox has not started yet.
    pub(crate) fn still_starting(id: impl std::fmt::Display) -> Self {
        Self::new(Code::State, format!("sandbox {id} is still starting: wait for it first"))
    }

    /// The process is out of descriptors: what they were for, and a remedy beside a higher limit.
    pub(crate) fn no_descriptors(what: &str, remedy: &str) -> Self {
        let text = "the process has no descriptors left for";
        Self::new(Code::Limit, format!("{text} {what}: raise the limit (ulimit -n) or {remedy}"))
    }

    /// The runtime has ended.
    pub(crate) fn shut_down() -> Self {
        Self::new(Code::Closed, "the runtime was shut down")
    }

    /// A failed system call; `what` describes what was being done.
    pub fn system(what: impl AsRef<str>, cause: &io::Error) -> Self {
        let code = match cause.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Code::Limit,
            _ => Code::System,
        };
        Self { code, os: cause.raw_os_error(), message: format!("{}: {cause}", what.as_ref()) }
    }

    /// The same error with another code, where the caller knows better what a failed call means.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// The same error with `context: ` before its text.
    #[must_use]
    pub fn context(mut self, context: impl AsRef<str>) -> Self {
        self.message = format!("{}: {}", context.as_ref(), self.message);
        self
    }

    /// The same error with more text after its own.
    #[must_use]
    pub(crate) fn append(mut self, more: &str) -> Self {
        self.message.push_str(more);
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The `errno` of the system call that failed, if one did.
    pub fn os_error(&self) -> Option<i32> {
        self.os
    }

    /// The text, without the code.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Adds context to an error.
pub(crate) trait Context<T> {
    /// Turns the failure into an [`Error`] that begins with `what: `.
    fn context(self, what: impl AsRef<str>) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl AsRef<str>) -> Result<T> {
        self.map_err(|cause| Error::system(what, &cause))
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, what: impl AsRef<str>) -> Result<T> {
        self.map_err(|cause| Error::system(what, &io::Error::from(cause)))
    }
}

impl<T> Context<T> for Result<T> {
    fn context(self, what: impl AsRef<str>) -> Result<T> {
        self.map_err(|error| Error::context(error, what))
    }
}
