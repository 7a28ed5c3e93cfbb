/* Prints the layout of every struct, for tests/abi.rs to compare with a committed list. */
#include "check.h"
#define SIZE(type) printf(#type " %zu\n", sizeof(type))
#define FIELD(type, field) printf(#type "." #field " %zu %zu\n", offsetof(type, field), sizeof(((type *)0)->field))
int main(void) {
    SIZE(sbx_error);
    FIELD(sbx_error, size); FIELD(sbx_error, code); FIELD(sbx_error, os_error); FIELD(sbx_error, reserved);
    FIELD(sbx_error, message);
    SIZE(sbx_verdict);
    FIELD(sbx_verdict, size); FIELD(sbx_verdict, allowed); FIELD(sbx_verdict, reason); FIELD(sbx_verdict, entry);
    FIELD(sbx_verdict, detail);
    SIZE(sbx_exit);
    FIELD(sbx_exit, size); FIELD(sbx_exit, reason); FIELD(sbx_exit, code); FIELD(sbx_exit, signal);
    FIELD(sbx_exit, runtime_ms); FIELD(sbx_exit, reserved);
    SIZE(sbx_event);
    FIELD(sbx_event, size); FIELD(sbx_event, kind); FIELD(sbx_event, cookie); FIELD(sbx_event, sequence);
    FIELD(sbx_event, time_ms); FIELD(sbx_event, lost); FIELD(sbx_event, code); FIELD(sbx_event, reason);
    FIELD(sbx_event, entry); FIELD(sbx_event, protocol); FIELD(sbx_event, port); FIELD(sbx_event, count);
    FIELD(sbx_event, address); FIELD(sbx_event, detail); FIELD(sbx_event, value);
    SIZE(sbx_stats);
    FIELD(sbx_stats, size); FIELD(sbx_stats, known); FIELD(sbx_stats, uptime_ms); FIELD(sbx_stats, cpu_us);
    FIELD(sbx_stats, memory_bytes); FIELD(sbx_stats, memory_peak_bytes); FIELD(sbx_stats, processes);
    FIELD(sbx_stats, tunnel_connections); FIELD(sbx_stats, tunnel_connections_total);
    FIELD(sbx_stats, tunnel_bytes_in); FIELD(sbx_stats, tunnel_bytes_out); FIELD(sbx_stats, egress_flows);
    FIELD(sbx_stats, reserved); FIELD(sbx_stats, egress_flows_total); FIELD(sbx_stats, egress_bytes_in);
    FIELD(sbx_stats, egress_bytes_out); FIELD(sbx_stats, egress_denied); FIELD(sbx_stats, dns_queries);
    FIELD(sbx_stats, dns_refused); FIELD(sbx_stats, library_us);
    SIZE(sbx_file_options);
    FIELD(sbx_file_options, size); FIELD(sbx_file_options, flags); FIELD(sbx_file_options, mode);
    FIELD(sbx_file_options, reserved); FIELD(sbx_file_options, offset); FIELD(sbx_file_options, limit);
    FIELD(sbx_file_options, time_limit_ms); FIELD(sbx_file_options, user);
    FIELD(sbx_file_options, progress_timeout_ms);
    SIZE(sbx_file_entry);
    FIELD(sbx_file_entry, size); FIELD(sbx_file_entry, kind); FIELD(sbx_file_entry, mode);
    FIELD(sbx_file_entry, user); FIELD(sbx_file_entry, group); FIELD(sbx_file_entry, links);
    FIELD(sbx_file_entry, bytes); FIELD(sbx_file_entry, modified_ns); FIELD(sbx_file_entry, name);
    FIELD(sbx_file_entry, target);
    SIZE(sbx_file_totals);
    FIELD(sbx_file_totals, size); FIELD(sbx_file_totals, reserved); FIELD(sbx_file_totals, bytes);
    FIELD(sbx_file_totals, entries); FIELD(sbx_file_totals, skipped);
    SIZE(sbx_runtime_config);
    FIELD(sbx_runtime_config, size); FIELD(sbx_runtime_config, flags); FIELD(sbx_runtime_config, runsc);
    FIELD(sbx_runtime_config, keeper); FIELD(sbx_runtime_config, image_directory);
    SIZE(sbx_finding);
    FIELD(sbx_finding, size); FIELD(sbx_finding, status); FIELD(sbx_finding, name); FIELD(sbx_finding, detail);
    FIELD(sbx_finding, remedy);
    SIZE(sbx_sandbox_entry);
    FIELD(sbx_sandbox_entry, size); FIELD(sbx_sandbox_entry, state); FIELD(sbx_sandbox_entry, id);
    FIELD(sbx_sandbox_entry, name);
    SIZE(sbx_policy_summary);
    FIELD(sbx_policy_summary, size); FIELD(sbx_policy_summary, mode); FIELD(sbx_policy_summary, dns);
    FIELD(sbx_policy_summary, entry_count); FIELD(sbx_policy_summary, domain_port_count);
    FIELD(sbx_policy_summary, reserved);
    SIZE(sbx_output);
    FIELD(sbx_output, size); FIELD(sbx_output, reserved); FIELD(sbx_output, head); FIELD(sbx_output, head_length);
    FIELD(sbx_output, tail); FIELD(sbx_output, tail_length); FIELD(sbx_output, dropped);
    SIZE(sbx_tunnel);
    FIELD(sbx_tunnel, size); FIELD(sbx_tunnel, kind); FIELD(sbx_tunnel, container_port); FIELD(sbx_tunnel, port);
    FIELD(sbx_tunnel, host); FIELD(sbx_tunnel, url); FIELD(sbx_tunnel, ca_pem); FIELD(sbx_tunnel, spki_sha256);
    return 0;
}
