"""include/sbx.h, for ctypes. Made by tests/abi/generate.py; do not edit."""

# A function's kinds are a letter a parameter, and behind > what it returns if that isn't an int: h a handle, & the
# address of a result, a struct or an array, e the error, s a text, b bytes of the library's, i int, u uint32_t,
# q int64_t, Q uint64_t, z size_t, v void. A struct's fields are kinds and names; a number is an array of that many bytes,
# and before a letter of that many numbers.
LAYOUTS = {
    "runtime_config": (
        "u size, u flags, s runsc, s keeper, s image_directory, s volume_directory, Q volume_min_free_bytes"
    ),
    "error": (
        "u size, i code, i os_error, u reserved, 496 message"
    ),
    "finding": (
        "u size, i status, s name, s detail, s remedy"
    ),
    "sandbox_entry": (
        "u size, i state, s id, s name"
    ),
    "event": (
        "u size, u kind, Q cookie, Q sequence, q time_ms, Q lost, i code, i reason, i entry, u protocol, u "
        "port, u count, 64 address, 280 detail, 2Q value"
    ),
    "file_entry": (
        "u size, u kind, u mode, u user, u group, u links, Q bytes, q modified_ns, s name, s target"
    ),
    "file_totals": (
        "u size, u reserved, Q bytes, Q entries, Q skipped"
    ),
    "stats": (
        "u size, u known, q uptime_ms, q cpu_us, Q memory_bytes, Q memory_peak_bytes, u processes, u "
        "tunnel_connections, Q tunnel_connections_total, Q tunnel_bytes_in, Q tunnel_bytes_out, u egress_flows, "
        "u reserved, Q egress_flows_total, Q egress_bytes_in, Q egress_bytes_out, Q egress_denied, Q "
        "dns_queries, Q dns_refused, q library_us"
    ),
    "verdict": (
        "u size, i allowed, i reason, i entry, 240 detail"
    ),
    "policy_summary": (
        "u size, i mode, i dns, u entry_count, u domain_port_count, u reserved"
    ),
    "exit": (
        "u size, i reason, i code, i signal, q runtime_ms, q reserved"
    ),
    "warm_stats": (
        "u size, u wanted, u ready, u filling, Q hits, Q misses_empty, Q misses_different, Q misses_changed, Q "
        "discarded, Q failures, 256 last_miss, 256 last_failure"
    ),
    "output": (
        "u size, u reserved, b head, z head_length, b tail, z tail_length, Q dropped"
    ),
    "file_options": (
        "u size, u flags, u mode, u reserved, Q offset, Q limit, q time_limit_ms, s user, q progress_timeout_ms"
    ),
    "image_options": (
        "u size, i format, s tag, s platform, s select, s username, s password, s ca_pem, s credential_helper, "
        "s mirrors, Q limit_bytes, Q limit_entries, Q limit_ratio, Q limit_memory_bytes, u limit_depth, u "
        "limit_layers"
    ),
    "image_summary": (
        "u size, u reserved, s id, s tags, s source, s config, Q bytes, q created_ms, q last_used_ms"
    ),
    "volume_summary": (
        "u size, u in_use, s name, s path, q created_ms"
    ),
    "tunnel": (
        "u size, i kind, u container_port, u port, s host, s url, s ca_pem, s spki_sha256"
    ),
}

FUNCTIONS = {
    "version": ">s",
    "abi_version": ">u",
    "log_set_fd": "ii",
    "runtime_new": "&&e",
    "runtime_check": "&&e",
    "runtime_check_begin": "&hQ&e",
    "runtime_sandboxes": "h&e",
    "runtime_free": "h>v",
    "report_usable": "h",
    "report_count": "h",
    "report_finding": "hz&",
    "report_json": "h>s",
    "report_free": "h>v",
    "sandbox_list_count": "h",
    "sandbox_list_entry": "hz&",
    "sandbox_list_free": "h>v",
    "queue_new": "u&e",
    "queue_open_fd": "he",
    "queue_next": "h&e",
    "queue_free": "h>v",
    "operation_wait": "hqe",
    "operation_cancel": "he",
    "operation_open_fd": "he",
    "operation_bytes": "h&>b",
    "operation_count": "h",
    "operation_entry": "hz&e",
    "operation_totals": "h&e",
    "operation_next_change": "hq&ze",
    "operation_policy": "h&&e",
    "operation_stats": "h&e",
    "operation_report": "h&e",
    "operation_image": "h&e",
    "operation_images": "h&e",
    "operation_volumes": "h&e",
    "operation_free": "h>v",
    "policy_new": "i&e",
    "policy_allow_cidr": "hs",
    "policy_allow_local_cidr": "hs",
    "policy_deny_cidr": "hs",
    "policy_allow_domain": "hs",
    "policy_add_domain_port": "hu",
    "policy_set_dns": "hi",
    "policy_check": "hsuu&e",
    "policy_free": "h>v",
    "policy_info": "h&",
    "policy_domain_port": "hz",
    "policy_entry": "hz>s",
    "config_new": "&e",
    "config_check": "he",
    "config_free": "h>v",
    "config_set_command": "h&z",
    "config_set_env": "hss",
    "config_set_secret": "hss",
    "config_set_workdir": "hs",
    "config_set_user": "hs",
    "config_set_hostname": "hs",
    "config_set_name": "hs",
    "config_set_tag": "hss",
    "config_set_rootfs": "hs",
    "config_set_image": "hh",
    "config_set_exit_snapshot": "hs",
    "config_add_image_mount": "hhs",
    "config_set_entrypoint": "h&z",
    "config_set_no_command": "h",
    "config_add_mount": "hssu",
    "config_set_timeout_ms": "hq",
    "config_set_idle_timeout_ms": "hq",
    "config_set_memory_bytes": "hQ",
    "config_set_millicpus": "hu",
    "config_set_max_processes": "hu",
    "config_set_disk_bytes": "hQ",
    "config_set_max_open_files": "hu",
    "config_set_limit_mode": "hi",
    "config_add_port": "hui",
    "config_bind_port": "husu",
    "config_add_nameserver": "hs",
    "config_set_inbound_cidr_allowlist": "h&z",
    "config_set_tls_certificate": "hss",
    "config_add_tls_name": "hs",
    "config_set_tunnel_rate": "hi",
    "config_set_policy": "hh",
    "config_set_egress_limits": "huuQQ",
    "config_add_host_service": "hus",
    "config_set_mtu": "hu",
    "config_set_stream": "hii",
    "config_capture_stream": "hizz",
    "config_set_tcp_probe": "huq",
    "config_set_exec_probe": "h&zq",
    "config_set_queue": "hhQ",
    "create": "hh&e",
    "create_begin": "hh&e",
    "tunnels": "hq&e",
    "wait_ready": "hqe",
    "wait": "hq&e",
    "terminate": "he",
    "stop": "hiqe",
    "connect": "hue",
    "connect_begin": "huhQ&e",
    "signal": "hie",
    "sandbox_free": "h>v",
    "sandbox_state": "h",
    "sandbox_id": "h>s",
    "sandbox_name": "h>s",
    "sandbox_tag": "hs>s",
    "sandbox_find": "hs&e",
    "sandbox_failure": "he",
    "sandbox_open_fd": "hie",
    "sandbox_capture": "hi&e",
    "set_policy": "hh&e",
    "set_policy_begin": "hhhQ&e",
    "sandbox_policy": "h&&e",
    "sandbox_policy_begin": "hhQ&e",
    "sandbox_stats": "h&e",
    "sandbox_stats_begin": "hhQ&e",
    "runtime_keep_warm": "hhue",
    "runtime_set_spares": "hue",
    "runtime_spares": "he",
    "runtime_warm_stats": "hh&e",
    "runtime_set_max_starts": "hue",
    "runtime_max_starts": "he",
    "sandbox_snapshot_begin": "hshQ&e",
    "sandbox_exit_image": "h&e",
    "sandbox_snapshot_directory_begin": "hsshQ&e",
    "sandbox_copy_image_begin": "hhshQ&e",
    "exec_config_new": "&e",
    "exec_config_check": "he",
    "exec_config_free": "h>v",
    "exec_config_set_command": "h&z",
    "exec_config_set_env": "hss",
    "exec_config_set_secret": "hss",
    "exec_config_set_workdir": "hs",
    "exec_config_set_user": "hs",
    "exec_config_set_stream": "hii",
    "exec_config_capture_stream": "hizz",
    "exec_config_set_timeout_ms": "hq",
    "exec_config_set_pty": "huu",
    "exec_config_set_queue": "hhQ",
    "exec": "hh&e",
    "exec_begin": "hh&e",
    "process_wait": "hq&e",
    "process_failure": "he",
    "process_signal": "hie",
    "process_resize": "huue",
    "process_open_fd": "hie",
    "process_capture": "hi&e",
    "process_free": "h>v",
    "capture_output": "h&",
    "capture_free": "h>v",
    "file_read_begin": "hs&hQ&e",
    "file_write_begin": "hs&z&hQ&e",
    "file_list_begin": "hs&hQ&e",
    "file_stat_begin": "hs&hQ&e",
    "file_make_directory_begin": "hs&hQ&e",
    "file_remove_begin": "hs&hQ&e",
    "file_rename_begin": "hss&hQ&e",
    "file_download_begin": "hs&hQ&e",
    "file_upload_begin": "hs&hQ&e",
    "file_copy_out_begin": "hs&hQ&e",
    "file_copy_in_begin": "hs&hQ&e",
    "file_watch_begin": "hs&hQ&e",
    "image_pull_begin": "hs&hQ&e",
    "image_import_begin": "hsi&hQ&e",
    "image_find_begin": "hshQ&e",
    "image_list_begin": "hhQ&e",
    "image_tag_begin": "hsshQ&e",
    "image_remove_begin": "hshQ&e",
    "image_prune_begin": "hQhQ&e",
    "image_info": "h&",
    "image_free": "h>v",
    "image_list_count": "h",
    "image_list_entry": "hz&",
    "image_list_free": "h>v",
    "build_new": "&e",
    "build_free": "h>v",
    "build_set_dockerfile": "h&z",
    "build_set_context": "hs",
    "build_set_ignore": "h&z",
    "build_add_context": "hss",
    "build_add_arg": "hss",
    "build_add_secret": "hs&z",
    "build_set_config": "hh",
    "build_set_no_cache": "h",
    "build_set_max_age_ms": "hq",
    "build_set_timeout_ms": "hq",
    "build_set_max_bytes": "hQ",
    "build_set_tag": "hs",
    "build_set_output_fd": "hi",
    "image_build_begin": "hhhQ&e",
    "config_add_volume": "hsssu",
    "volume_create_begin": "hsuhQ&e",
    "volume_find_begin": "hshQ&e",
    "volume_list_begin": "hhQ&e",
    "volume_remove_begin": "hshQ&e",
    "volume_list_count": "h",
    "volume_list_entry": "hz&",
    "volume_list_free": "h>v",
    "tunnel_map_count": "h",
    "tunnel_map_tunnel": "hz&",
    "tunnel_map_url": "hu>s",
    "tunnel_map_ca_pem": "hu>s",
    "tunnel_map_free": "h>v",
}

ABI_VERSION = 512
EINVALID = -1001
EHANDLE = -1002
ESIZE = -1003
ETIMEDOUT = -1004
ECLOSED = -1005
ESTATE = -1006
EEXISTS = -1007
ENOTFOUND = -1008
EUNSUPPORTED = -1009
ELIMIT = -1010
EHOST = -1011
ERUNSC_MISSING = -1012
ERUNSC_UNUSABLE = -1013
EENGINE = -1014
EFORKED = -1015
EPANIC = -1016
ESYSTEM = -1017
EREFUSED = -1018
EEXEC = -1019
EINTERNAL = -1020
EIMAGE = -1021
STATE_STARTING = 1
STATE_RUNNING = 2
STATE_ENDING = 3
STATE_ENDED = 4
EXIT_EXITED = 1
EXIT_SIGNALLED = 2
EXIT_TIMED_OUT = 3
EXIT_IDLE = 4
EXIT_TERMINATED = 5
EXIT_OUT_OF_MEMORY = 6
EXIT_ENGINE_LOST = 7
EVENT_STARTED = 1
EVENT_FAILED = 2
EVENT_READY = 3
EVENT_EXITED = 4
EVENT_PROCESS_EXITED = 5
EVENT_DENIED = 6
EVENT_POLICY_APPLIED = 7
EVENT_LIMIT = 8
EVENT_PROCESS_STARTED = 9
EVENT_OPERATION_DONE = 10
EVENT_FILE_CHANGED = 11
EVENT_UNREACHABLE = 12
EVENT_CHECKED = 13
EVENT_PROGRESS = 14
EVENT_EXIT_SNAPSHOT = 15
LIMITS_STRICT = 0
LIMITS_WATCHDOG = 1
STATS_CPU = 1
STATS_MEMORY = 2
STATS_MEMORY_PEAK = 4
STATS_PROCESSES = 8
STATS_EGRESS = 16
FILE_RECURSIVE = 1
FILE_PARENTS = 2
FILE_EXCLUSIVE = 4
FILE_APPEND = 8
FILE_NO_FOLLOW = 16
FILE_KEEP_OWNER = 32
FILE_MISSING_OK = 64
FILE_PROGRESS_TIMEOUT_MS = 60000
FILE_KIND_FILE = 1
FILE_KIND_DIRECTORY = 2
FILE_KIND_SYMLINK = 3
FILE_KIND_FIFO = 4
FILE_KIND_SOCKET = 5
FILE_KIND_DEVICE = 6
FILE_KIND_OTHER = 7
CHANGE_READY = 1
CHANGE_CREATED = 2
CHANGE_MODIFIED = 3
CHANGE_REMOVED = 4
CHANGE_MOVED_FROM = 5
CHANGE_MOVED_TO = 6
CHANGE_ATTRIBUTES = 7
CHANGE_OVERFLOW = 8
FINDING_OK = 1
FINDING_LIMITED = 2
FINDING_MISSING = 3
STDIN = 0
STDOUT = 1
STDERR = 2
TERMINAL = 3
STREAM_NULL = 0
STREAM_DESCRIPTOR = 1
STREAM_MERGED = 2
PORT_ENCRYPTED = 1
PORT_H2 = 2
PORT_UNENCRYPTED = 3
MOUNT_READ_ONLY = 0
MOUNT_WRITABLE = 1
VOLUME_READ_ONLY = 1
VOLUME_CREATE = 2
VOLUME_CREATE_SUB_PATH = 4
VOLUME_EXCLUSIVE = 8
IMAGE_FORMAT_AUTO = 0
IMAGE_FORMAT_OCI = 1
IMAGE_FORMAT_DOCKER = 2
IMAGE_FORMAT_TARBALL = 3
IMAGE_FORMAT_DIRECTORY = 4
POLICY_OPEN = 1
POLICY_ALLOWLIST = 2
POLICY_BLOCKED = 3
REASON_OPEN = 1
REASON_LISTED = 2
REASON_DOMAIN = 3
REASON_BLOCKED = -1
REASON_DENIED = -2
REASON_NOT_LISTED = -3
REASON_PROTECTED = -4
REASON_METADATA = -5
REASON_HOST = -6
REASON_RESERVED = -7
REASON_PROTOCOL = -8
REASON_DNS_NAME = -9
REASON_REBINDING = -10
REASON_NOT_TLS = -11
REASON_NO_SERVER_NAME = -12
REASON_SERVER_NAME = -13
REASON_NOT_RESOLVED = -14
REASON_TLS_TIMEOUT = -15
REASON_GATEWAY = -16
REASON_ON_LINK = -17
DNS_AUTO = 0
DNS_ON = 1
DNS_OFF = 2
DNS_ADDRESSES = 3
RUNTIME_NO_USER_NAMESPACE = 1
