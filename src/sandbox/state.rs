//! Where a sandbox is in its life.

/// Where a sandbox is in its life. It only ever moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum State {
    /// Being created: nothing of the program runs yet.
    Starting = 1,
    /// The program was started.
    Running = 2,
    /// The program has ended, or the sandbox is being ended; its processes are going away.
    Ending = 3,
    /// Nothing of it is left.
    Ended = 4,
}
