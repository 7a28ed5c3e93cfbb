//! `sbx_config`: ports, TLS, policy.

use std::ffi::{c_char, c_int};

use super::call::call_with;
use super::codes::{SBX_PORT_ENCRYPTED, SBX_PORT_H2, SBX_PORT_UNENCRYPTED};
use super::config::{sbx_config, set};
use super::input;
use super::policy::{PolicyObject, sbx_policy};
use crate::config::{EgressLimits, PortKind, TunnelRate};
use crate::error::Error;

/// Adds a tunnel to a port inside, from 1 to 65535: SBX_PORT_ENCRYPTED, SBX_PORT_H2 or SBX_PORT_UNENCRYPTED.
///
/// A port is listed once, of whatever kind. The tunnel listens on 127.0.0.1, on a port that the kernel picks; see
/// sbx_config_bind_port. Every user of this machine can connect to it there: a loopback address has no owner. Where
/// that matters, let the server inside ask for a secret.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_add_port(
    config: *mut sbx_config,
    container_port: u32,
    kind: i32,
) -> c_int {
    set(config, |config| {
        let kind = match kind {
            SBX_PORT_ENCRYPTED => PortKind::Encrypted,
            SBX_PORT_H2 => PortKind::H2,
            SBX_PORT_UNENCRYPTED => PortKind::Unencrypted,
            _ => {
                let rule = "must be one of SBX_PORT_...";
                return Err(Error::invalid(format!("port {container_port}: kind {kind}: {rule}")));
            }
        };
        config.add_any_port(container_port, kind).map(drop)
    })
}

/// Sets where the tunnel of a listed port listens on the host: an IPv4 or IPv6 address, and a port, or 0 for one
/// that the kernel picks. Any address but a loopback one lets other machines reach the server inside: see
/// sbx_config_set_inbound_cidr_allowlist.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `address` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_bind_port(
    config: *mut sbx_config,
    container_port: u32,
    address: *const c_char,
    host_port: u32,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let address = unsafe { input::text("bind address", address) }?;
        config.bind_any_port(container_port, address, host_port).map(drop)
    })
}

/// Adds an upstream DNS server for the sandbox, in place of those of the host's /etc/resolv.conf: an address
/// ("192.0.2.53", "2001:db8::53"), or an address and a port ("127.0.0.1:5353", "[2001:db8::53]:5353"). Servers that
/// are added later are asked when earlier ones don't answer. At most 8.
///
/// The host asks it, so it may be at any address that the host reaches, also at one that the sandbox doesn't.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `address` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_add_nameserver(config: *mut sbx_config, address: *const c_char) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let address = unsafe { input::text("name server", address) }?;
        config.add_nameserver(address).map(drop)
    })
}

/// Sets who may connect to the tunnels: only peers in one of `count` ranges, in the form of sbx_policy_allow_cidr.
/// A count of 0 lets no peer in; without this call every peer that reaches the address may connect.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `ranges` must point to `count` terminated texts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_inbound_cidr_allowlist(
    config: *mut sbx_config,
    ranges: *const *const c_char,
    count: usize,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let ranges = unsafe { input::texts("inbound CIDR range", ranges, count) }?;
        config.set_inbound_cidr_allowlist(ranges).map(drop)
    })
}

/// Sets the certificate of encrypted tunnels: a chain, the leaf first, and its unencrypted key, both PEM. Without
/// it the library makes one under a CA of the sandbox's own: sbx_tunnel_map_ca_pem. The key is never logged. It can
/// be ECDSA (P-256 or P-384), Ed25519, or RSA of 2048 to 4096 bits.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `chain_pem` and `key_pem` must be terminated texts or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_tls_certificate(
    config: *mut sbx_config,
    chain_pem: *const c_char,
    key_pem: *const c_char,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let chain_pem = unsafe { input::text("tls certificate", chain_pem) }?;
        // SAFETY: as the caller promises.
        let key_pem = unsafe { input::text("tls key", key_pem) }?;
        config.set_tls_certificate(chain_pem, key_pem).map(drop)
    })
}

/// Adds a DNS name ("*." in front for a wildcard) or address that the certificate made by the library is valid for,
/// beside 127.0.0.1, ::1 and localhost. Not together with sbx_config_set_tls_certificate.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `name` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_add_tls_name(config: *mut sbx_config, name: *const c_char) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let name = unsafe { input::text("tls name", name) }?;
        config.add_tls_name(name).map(drop)
    })
}

/// Sets how many new connections a second the tunnels of the sandbox take together while another sandbox of the runtime is
/// served, and until ten seconds after: 1 to 1,000,000. 0 is the default, which is 250 for each processor that this process
/// may use, and a negative number is no limit.
///
/// Those of two seconds may come at once. Further ones wait in the listeners' queues, and their clients see a connection that
/// isn't answered yet. A port that others leave no room takes one every 10 ms, or as often as the rate if that is lower. A
/// sandbox that is served alone is not slowed down. At a high rate, or without one, the clients of one sandbox can take the
/// processors from the others: what a connection costs its clients, the kernel and the programs inside is several times what
/// it costs the library, which shares only its own time among the sandboxes.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_tunnel_rate(
    config: *mut sbx_config,
    new_connections_per_second: i32,
) -> c_int {
    let rate = TunnelRate::of_number(new_connections_per_second);
    set(config, |config| config.set_tunnel_rate(rate).map(drop))
}

/// Sets what the sandbox may reach. The policy is copied; its first bad entry, if any, becomes the config's.
/// Without a policy it is SBX_POLICY_OPEN: every public address, and nothing of the host or its networks.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_policy(config: *mut sbx_config, policy: *const sbx_policy) -> c_int {
    set(config, |config| config.set_policy(&call_with(policy, PolicyObject::copy)?).map(drop))
}

/// Limits what leaves the sandbox; 0 is the default or none.
///
/// At most `max_flows` connections and UDP flows are open at once (default 16,384), and `new_flows_per_second` may
/// begin within a second (default: 200, and 2,000 at once after a quiet while): a connection beyond that is reset
/// at once, a datagram dropped. Beyond `bytes_per_second`, both directions together, the library reads no more
/// until there is room, which slows the sender down. When `total_bytes` have passed, every flow is reset and no
/// further one is let through. Each of these except `bytes_per_second` is reported as SBX_EVENT_LIMIT, every ten
/// seconds at most.
///
/// The resolver's queries for the sandbox and their answers count as bytes that pass, and wait for room like
/// others: when `total_bytes` have passed, no query leaves, and a name that isn't known already is REFUSED. The
/// resolver takes a thousand queries a second, and a thousand at once after a pause. More of them wait over TCP;
/// over UDP those that find no room are lost.
///
/// Each connection takes a local port of the host towards its destination and, if the sandbox closes it first,
/// keeps it for a minute (TIME_WAIT). Towards one destination all sandboxes together get three quarters of these
/// ports, and one of *n* sandboxes 1/(*n* + 1) of that. A connection beyond that is reset at once, with
/// SBX_EVENT_LIMIT.
///
/// What the kernel buffers in sockets is the host's memory. When the connections of one of *n* sandboxes together
/// hold more than 1/(*n* + 1) of half the second number of net.ipv4.tcp_mem, but 16 MiB at least and 256 MiB at most,
/// those with more than their share and new ones get small buffers, which slows them down and cuts none, with
/// SBX_EVENT_LIMIT. If they go on to hold twice as much, those with more than their share are reset, the longest
/// silent first, until it is less, with another SBX_EVENT_LIMIT. The same holds for the connections of its tunnels.
///
/// Each UDP flow takes a local port of the host: all sandboxes together get a quarter of them
/// (net.ipv4.ip_local_port_range), and one of *n* sandboxes 1/(*n* + 1) of that. When there is no room, flows that
/// have been silent for a second are dropped first.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_egress_limits(
    config: *mut sbx_config,
    max_flows: u32,
    new_flows_per_second: u32,
    bytes_per_second: u64,
    total_bytes: u64,
) -> c_int {
    let limits = EgressLimits::of_numbers(max_flows, new_flows_per_second, bytes_per_second, total_bytes);
    set(config, |config| config.set_egress_limits(limits).map(drop))
}

/// Makes a TCP port of the sandbox's gateway, 192.0.0.1, lead to an address that the host names, such as
/// "127.0.0.1:8080" or "[::1]:8080": a proxy of the host's for models, say.
///
/// Nothing else at that address can be reached by it. A policy neither opens nor closes it; the egress limits hold
/// for it too. Port 53 is refused: it is the sandbox's resolver. At most 16.
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// `address` must be a terminated text or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_add_host_service(
    config: *mut sbx_config,
    port: u32,
    address: *const c_char,
) -> c_int {
    set(config, |config| {
        // SAFETY: as the caller promises.
        let address = unsafe { input::text("host service", address) }?;
        config.add_host_service(input::port(port)?, address).map(drop)
    })
}

/// Sets the MTU of the sandbox's interface, from 1280 to 9000 bytes (default 1500).
///
/// Returns 0 or SBX_EINVALID.
///
/// # Safety
/// None: a bad handle is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_config_set_mtu(config: *mut sbx_config, bytes: u32) -> c_int {
    set(config, |config| config.set_mtu(bytes).map(drop))
}
