//! The server's name in a TLS handshake (SNI), by which connections to domains are let through.
//!
//! | file | |
//! |---|---|
//! | `peek` | reads what the sandbox sends first, and checks the name in it |
//! | `client_hello` | the name in a ClientHello |

mod client_hello;
mod peek;

pub(super) use peek::{Adopt, Sni, may_be_domain};
