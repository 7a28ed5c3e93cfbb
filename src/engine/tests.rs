//! The engine with real sockets on loopback. What the keeper and init would do, a thread of the rig does: it
//! makes ordinary sockets, and answers for init as the test wants.

mod faults;
mod relay;
mod rig;
mod tls;
