//! The topology laid in namespaces of its own, as whoever runs the tests: an ordinary user, or root.
//!
//! S's kernel stands in for gVisor. What the kernel was told is judged by `ip` and `nft`, what the rules do
//! by packets.

mod links;
mod neighbours;
mod nflog;
mod notices;
mod packets;
mod policies;
mod rules;
mod sets;
mod space;
mod traffic;
