//! The poll loop: tokens, timers, waker. Knows no sandbox.
