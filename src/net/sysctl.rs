//! Kernel settings of G, which the keeper writes (it alone is in that namespace).
//!
//! A new network namespace inherits some of them from the host's (a docker host forwards, for example). G has
//! no uplink and its rules drop what isn't named, so none of them is what keeps the sandbox in: they are
//! written where `/proc/sys` can be, and reported where it can't.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// The path below `/proc/sys`.
    pub(crate) name: &'static str,
    /// Its value.
    pub(crate) value: &'static str,
    /// Whether a sandbox can't do without it.
    pub(crate) mandatory: bool,
}

const fn optional(name: &'static str, value: &'static str) -> Setting {
    Setting { name, value, mandatory: false }
}

/// The settings of G.
pub(crate) const GATEWAY: &[Setting] = &[
    optional("net/ipv4/ip_forward", "0"),
    optional("net/ipv4/conf/all/accept_redirects", "0"),
    optional("net/ipv4/conf/default/accept_redirects", "0"),
    optional("net/ipv4/conf/all/send_redirects", "0"),
    optional("net/ipv4/conf/default/send_redirects", "0"),
    // A hostile sandbox must not be able to fill the host's log.
    optional("net/ipv4/conf/all/log_martians", "0"),
    optional("net/ipv4/conf/default/log_martians", "0"),
    optional("net/ipv6/conf/all/forwarding", "0"),
    optional("net/ipv6/conf/all/accept_ra", "0"),
    optional("net/ipv6/conf/default/accept_ra", "0"),
    optional("net/ipv6/conf/default/accept_redirects", "0"),
    // Every refusal is answered, not one a second.
    optional("net/ipv4/icmp_ratelimit", "0"),
    optional("net/ipv6/icmp/ratelimit", "0"),
    // Connections into the sandbox come from few addresses; their ports must come free quickly.
    optional("net/ipv4/tcp_tw_reuse", "1"),
    optional("net/ipv4/ip_local_port_range", "1024 65535"),
];
