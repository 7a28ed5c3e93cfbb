//! Kernel settings of G, which the keeper writes and reads back (no other process is in that namespace).
//!
//! A new network namespace inherits some settings of the host's (a docker host forwards, for example). G has no uplink,
//! and its rules drop everything else: isolation doesn't depend on a setting. So none is mandatory, and a sandbox starts
//! in a container whose `/proc/sys` is read-only; each comment says what is lost there. Those of IPv6 don't exist on a
//! kernel without it.

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The path below `/proc/sys`.
    pub(crate) name: &'static str,
    /// Its value.
    pub(crate) value: &'static str,
    /// Whether a sandbox needs it.
    pub(crate) mandatory: bool,
}

const fn optional(name: &'static str, value: &'static str) -> Setting {
    Setting { name, value, mandatory: false }
}

/// The settings of G.
pub(crate) const GATEWAY: &[Setting] = &[
    // Nothing is forwarded: prerouting delivers or drops every packet. Without these, a packet could at most be sent back
    // on the link that it came from.
    optional("net/ipv4/ip_forward", "0"),
    optional("net/ipv6/conf/all/forwarding", "0"),
    // G neither accepts nor sends redirects and router advertisements. Without these: an ICMP packet that the rules drop.
    optional("net/ipv4/conf/all/accept_redirects", "0"),
    optional("net/ipv4/conf/default/accept_redirects", "0"),
    optional("net/ipv4/conf/all/send_redirects", "0"),
    optional("net/ipv4/conf/default/send_redirects", "0"),
    optional("net/ipv6/conf/all/accept_redirects", "0"),
    optional("net/ipv6/conf/default/accept_redirects", "0"),
    optional("net/ipv6/conf/all/accept_ra", "0"),
    optional("net/ipv6/conf/default/accept_ra", "0"),
    // The sandbox is alone on the link. Without these: packets with other senders, which the rules drop.
    optional("net/ipv4/conf/all/rp_filter", "1"),
    optional("net/ipv4/conf/default/rp_filter", "1"),
    // A hostile sandbox must not fill the host's log.
    optional("net/ipv4/conf/all/log_martians", "0"),
    optional("net/ipv4/conf/default/log_martians", "0"),
    // Every rejected packet is answered at once. Without these, most of a flood get no answer.
    optional("net/ipv4/icmp_ratelimit", "0"),
    optional("net/ipv6/icmp/ratelimit", "0"),
    // Connections into the sandbox come from five addresses: their ports must suffice and come free quickly.
    // Without these, 28,000 connects a minute from each.
    optional("net/ipv4/tcp_tw_reuse", "1"),
    optional("net/ipv4/ip_local_port_range", "1024 65535"),
    // The link is local. The host's preferences for the Internet (bbr's pacing, a slow start after each pause, metrics of
    // earlier connections) are harmful here. Without these: a tenth of the throughput.
    optional("net/ipv4/tcp_congestion_control", "reno"),
    optional("net/ipv4/tcp_slow_start_after_idle", "0"),
    optional("net/ipv4/tcp_no_metrics_save", "1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_below_proc_sys_net_and_each_is_there_once() {
        for (index, setting) in GATEWAY.iter().enumerate() {
            assert!(setting.name.starts_with("net/ipv"), "{}", setting.name);
            assert!(!setting.name.contains(".."), "{}", setting.name);
            assert!(GATEWAY[index + 1..].iter().all(|other| other.name != setting.name), "{}", setting.name);
        }
    }
}
