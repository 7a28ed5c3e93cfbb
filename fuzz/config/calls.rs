//! Made by tests/header.rs.

use std::ffi::{c_char, c_void};

use super::{Handles, Input};

unsafe extern "C" {
    fn sbx_policy_allow_cidr(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_policy_allow_local_cidr(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_policy_deny_cidr(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_policy_allow_domain(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_policy_add_domain_port(a0: *const c_void, a1: u32) -> i32;
    fn sbx_policy_set_dns(a0: *const c_void, a1: i32) -> i32;
    fn sbx_policy_check(a0: *const c_void, a1: *const c_char, a2: u32, a3: u32, a4: *mut c_void, a5: *mut c_void) -> i32;
    fn sbx_policy_domain_port(a0: *const c_void, a1: usize) -> i32;
    fn sbx_config_check(a0: *const c_void, a1: *mut c_void) -> i32;
    fn sbx_config_set_command(a0: *const c_void, a1: *const *const c_char, a2: usize) -> i32;
    fn sbx_config_set_env(a0: *const c_void, a1: *const c_char, a2: *const c_char) -> i32;
    fn sbx_config_set_secret(a0: *const c_void, a1: *const c_char, a2: *const c_char) -> i32;
    fn sbx_config_set_workdir(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_config_set_user(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_config_set_hostname(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_config_set_name(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_config_set_tag(a0: *const c_void, a1: *const c_char, a2: *const c_char) -> i32;
    fn sbx_config_set_rootfs(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_config_set_exit_snapshot(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_config_set_entrypoint(a0: *const c_void, a1: *const *const c_char, a2: usize) -> i32;
    fn sbx_config_set_no_command(a0: *const c_void) -> i32;
    fn sbx_config_add_mount(a0: *const c_void, a1: *const c_char, a2: *const c_char, a3: u32) -> i32;
    fn sbx_config_set_timeout_ms(a0: *const c_void, a1: i64) -> i32;
    fn sbx_config_set_idle_timeout_ms(a0: *const c_void, a1: i64) -> i32;
    fn sbx_config_set_memory_bytes(a0: *const c_void, a1: u64) -> i32;
    fn sbx_config_set_millicpus(a0: *const c_void, a1: u32) -> i32;
    fn sbx_config_set_max_processes(a0: *const c_void, a1: u32) -> i32;
    fn sbx_config_set_disk_bytes(a0: *const c_void, a1: u64) -> i32;
    fn sbx_config_set_max_open_files(a0: *const c_void, a1: u32) -> i32;
    fn sbx_config_set_limit_mode(a0: *const c_void, a1: i32) -> i32;
    fn sbx_config_add_port(a0: *const c_void, a1: u32, a2: i32) -> i32;
    fn sbx_config_bind_port(a0: *const c_void, a1: u32, a2: *const c_char, a3: u32) -> i32;
    fn sbx_config_add_nameserver(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_config_set_inbound_cidr_allowlist(a0: *const c_void, a1: *const *const c_char, a2: usize) -> i32;
    fn sbx_config_set_tls_certificate(a0: *const c_void, a1: *const c_char, a2: *const c_char) -> i32;
    fn sbx_config_add_tls_name(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_config_set_tunnel_rate(a0: *const c_void, a1: i32) -> i32;
    fn sbx_config_set_policy(a0: *const c_void, a1: *const c_void) -> i32;
    fn sbx_config_set_egress_limits(a0: *const c_void, a1: u32, a2: u32, a3: u64, a4: u64) -> i32;
    fn sbx_config_add_host_service(a0: *const c_void, a1: u32, a2: *const c_char) -> i32;
    fn sbx_config_set_mtu(a0: *const c_void, a1: u32) -> i32;
    fn sbx_config_set_stream(a0: *const c_void, a1: i32, a2: i32) -> i32;
    fn sbx_config_capture_stream(a0: *const c_void, a1: i32, a2: usize, a3: usize) -> i32;
    fn sbx_config_set_tcp_probe(a0: *const c_void, a1: u32, a2: i64) -> i32;
    fn sbx_config_set_exec_probe(a0: *const c_void, a1: *const *const c_char, a2: usize, a3: i64) -> i32;
    fn sbx_config_set_queue(a0: *const c_void, a1: *const c_void, a2: u64) -> i32;
    fn sbx_exec_config_check(a0: *const c_void, a1: *mut c_void) -> i32;
    fn sbx_exec_config_set_command(a0: *const c_void, a1: *const *const c_char, a2: usize) -> i32;
    fn sbx_exec_config_set_env(a0: *const c_void, a1: *const c_char, a2: *const c_char) -> i32;
    fn sbx_exec_config_set_secret(a0: *const c_void, a1: *const c_char, a2: *const c_char) -> i32;
    fn sbx_exec_config_set_workdir(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_exec_config_set_user(a0: *const c_void, a1: *const c_char) -> i32;
    fn sbx_exec_config_set_stream(a0: *const c_void, a1: i32, a2: i32) -> i32;
    fn sbx_exec_config_capture_stream(a0: *const c_void, a1: i32, a2: usize, a3: usize) -> i32;
    fn sbx_exec_config_set_timeout_ms(a0: *const c_void, a1: i64) -> i32;
    fn sbx_exec_config_set_pty(a0: *const c_void, a1: u32, a2: u32) -> i32;
    fn sbx_exec_config_set_queue(a0: *const c_void, a1: *const c_void, a2: u64) -> i32;
    fn sbx_config_add_volume(a0: *const c_void, a1: *const c_char, a2: *const c_char, a3: *const c_char, a4: u32) -> i32;
}

/// The functions' numbers.
const IDS: [u16; 58] = [1580, 2152, 3143, 4383, 7047, 8325, 8527, 12222, 12765, 14061, 16195, 17933, 20533, 21884, 22724, 23445, 23911, 24136, 27376, 27598, 27674, 28689, 29220, 29856, 30081, 30579, 30617, 31901, 31991, 32429, 32758, 33473, 35023, 36033, 36920, 40404, 40612, 41576, 43258, 43695, 43856, 44398, 44623, 44667, 45620, 48297, 49904, 50669, 52553, 55530, 56831, 56993, 57614, 59143, 61295, 63875, 64090, 65014];

/// Calls the function of that number, or else any of them.
pub(super) fn call(number: u16, input: &mut Input<'_>, handles: &Handles) -> i32 {
    let any = IDS[usize::from(number) % IDS.len()];
    match if IDS.contains(&number) { number } else { any } {
        59143 => unsafe { sbx_policy_allow_cidr(handles.policy(input), input.text()) },
        7047 => unsafe { sbx_policy_allow_local_cidr(handles.policy(input), input.text()) },
        12222 => unsafe { sbx_policy_deny_cidr(handles.policy(input), input.text()) },
        30579 => unsafe { sbx_policy_allow_domain(handles.policy(input), input.text()) },
        20533 => unsafe { sbx_policy_add_domain_port(handles.policy(input), input.number() as u32) },
        61295 => unsafe { sbx_policy_set_dns(handles.policy(input), input.number() as i32) },
        23911 => unsafe { sbx_policy_check(handles.policy(input), input.text(), input.number() as u32, input.number() as u32, input.room(), input.room()) },
        43695 => unsafe { sbx_policy_domain_port(handles.policy(input), input.size()) },
        63875 => unsafe { sbx_config_check(handles.config(input), input.room()) },
        23445 => unsafe { sbx_config_set_command(handles.config(input), input.list(), input.size()) },
        3143 => unsafe { sbx_config_set_env(handles.config(input), input.text(), input.text()) },
        64090 => unsafe { sbx_config_set_secret(handles.config(input), input.text(), input.text()) },
        55530 => unsafe { sbx_config_set_workdir(handles.config(input), input.text()) },
        28689 => unsafe { sbx_config_set_user(handles.config(input), input.text()) },
        48297 => unsafe { sbx_config_set_hostname(handles.config(input), input.text()) },
        8325 => unsafe { sbx_config_set_name(handles.config(input), input.text()) },
        27376 => unsafe { sbx_config_set_tag(handles.config(input), input.text(), input.text()) },
        52553 => unsafe { sbx_config_set_rootfs(handles.config(input), input.text()) },
        35023 => unsafe { sbx_config_set_exit_snapshot(handles.config(input), input.text()) },
        29856 => unsafe { sbx_config_set_entrypoint(handles.config(input), input.list(), input.size()) },
        56831 => unsafe { sbx_config_set_no_command(handles.config(input)) },
        43258 => unsafe { sbx_config_add_mount(handles.config(input), input.text(), input.text(), input.number() as u32) },
        32758 => unsafe { sbx_config_set_timeout_ms(handles.config(input), input.number() as i64) },
        30081 => unsafe { sbx_config_set_idle_timeout_ms(handles.config(input), input.number() as i64) },
        31991 => unsafe { sbx_config_set_memory_bytes(handles.config(input), input.number()) },
        27598 => unsafe { sbx_config_set_millicpus(handles.config(input), input.number() as u32) },
        36920 => unsafe { sbx_config_set_max_processes(handles.config(input), input.number() as u32) },
        4383 => unsafe { sbx_config_set_disk_bytes(handles.config(input), input.number()) },
        44667 => unsafe { sbx_config_set_max_open_files(handles.config(input), input.number() as u32) },
        31901 => unsafe { sbx_config_set_limit_mode(handles.config(input), input.number() as i32) },
        43856 => unsafe { sbx_config_add_port(handles.config(input), input.number() as u32, input.number() as i32) },
        65014 => unsafe { sbx_config_bind_port(handles.config(input), input.number() as u32, input.text(), input.number() as u32) },
        36033 => unsafe { sbx_config_add_nameserver(handles.config(input), input.text()) },
        2152 => unsafe { sbx_config_set_inbound_cidr_allowlist(handles.config(input), input.list(), input.size()) },
        33473 => unsafe { sbx_config_set_tls_certificate(handles.config(input), input.text(), input.text()) },
        57614 => unsafe { sbx_config_add_tls_name(handles.config(input), input.text()) },
        14061 => unsafe { sbx_config_set_tunnel_rate(handles.config(input), input.number() as i32) },
        1580 => unsafe { sbx_config_set_policy(handles.config(input), handles.policy(input)) },
        22724 => unsafe { sbx_config_set_egress_limits(handles.config(input), input.number() as u32, input.number() as u32, input.number(), input.number()) },
        32429 => unsafe { sbx_config_add_host_service(handles.config(input), input.number() as u32, input.text()) },
        49904 => unsafe { sbx_config_set_mtu(handles.config(input), input.number() as u32) },
        44398 => unsafe { sbx_config_set_stream(handles.config(input), input.number() as i32, input.number() as i32) },
        27674 => unsafe { sbx_config_capture_stream(handles.config(input), input.number() as i32, input.size(), input.size()) },
        40404 => unsafe { sbx_config_set_tcp_probe(handles.config(input), input.number() as u32, input.number() as i64) },
        45620 => unsafe { sbx_config_set_exec_probe(handles.config(input), input.list(), input.size(), input.number() as i64) },
        16195 => unsafe { sbx_config_set_queue(handles.config(input), handles.queue(input), input.number()) },
        50669 => unsafe { sbx_exec_config_check(handles.exec_config(input), input.room()) },
        8527 => unsafe { sbx_exec_config_set_command(handles.exec_config(input), input.list(), input.size()) },
        56993 => unsafe { sbx_exec_config_set_env(handles.exec_config(input), input.text(), input.text()) },
        41576 => unsafe { sbx_exec_config_set_secret(handles.exec_config(input), input.text(), input.text()) },
        40612 => unsafe { sbx_exec_config_set_workdir(handles.exec_config(input), input.text()) },
        44623 => unsafe { sbx_exec_config_set_user(handles.exec_config(input), input.text()) },
        21884 => unsafe { sbx_exec_config_set_stream(handles.exec_config(input), input.number() as i32, input.number() as i32) },
        24136 => unsafe { sbx_exec_config_capture_stream(handles.exec_config(input), input.number() as i32, input.size(), input.size()) },
        29220 => unsafe { sbx_exec_config_set_timeout_ms(handles.exec_config(input), input.number() as i64) },
        30617 => unsafe { sbx_exec_config_set_pty(handles.exec_config(input), input.number() as u32, input.number() as u32) },
        17933 => unsafe { sbx_exec_config_set_queue(handles.exec_config(input), handles.queue(input), input.number()) },
        12765 => unsafe { sbx_config_add_volume(handles.config(input), input.text(), input.text(), input.text(), input.number() as u32) },
        _ => 0,
    }
}
