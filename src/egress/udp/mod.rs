//! UDP flows.
//!
//! | file | |
//! |---|---|
//! | `flow` | datagrams out and their answers |
//! | `table` | one sandbox's flows |
//! | `reply_sockets` | the sockets of G that answers come from |

mod flow;
mod reply_sockets;
mod table;

pub(super) use flow::Udp;
