// The header as JavaScript: functions and structs.

// The functions by what they take, a letter a parameter, and what they return if that isn't an int. The tests compare
// this, and the structs, with the header. h is a handle, & the address of a result, a struct or an array, e the error,
// s a text, b bytes that the library holds, v nothing; the others are integers.
export const FUNCTIONS = {
  ">u": "abi_version", ">h": "policy_new_open policy_new_allowlist policy_new_blocked config_new exec_config_new",
  "h>v":
    "queue_free policy_free config_free sandbox_free tunnel_map_free exec_config_free " +
    "process_free file_operation_free",
  "h>s": "sandbox_id", h: "sandbox_state tunnel_map_count policy_mode policy_dns policy_entry_count file_operation_count",
  he: "queue_open_fd config_check exec_config_check terminate sandbox_failure process_failure file_operation_open_fd",
  hs:
    "policy_allow_cidr policy_allow_local_cidr policy_deny_cidr policy_allow_domain config_set_workdir " +
    "config_set_user config_set_name config_set_rootfs config_add_tls_name exec_config_set_workdir exec_config_set_user",
  hss:
    "config_set_env config_set_secret config_mount_read_only config_mount_writable exec_config_set_env " +
    "exec_config_set_secret",
  hh: "config_set_policy", hhQ: "config_set_queue exec_config_set_queue",
  hq: "config_set_timeout_ms config_set_idle_timeout_ms exec_config_set_timeout_ms",
  hQ: "config_set_memory config_set_disk", hi: "config_set_limit_mode policy_set_dns",
  hu:
    "config_add_encrypted_port config_add_h2_port config_add_unencrypted_port tunnel_map_port config_set_cpu " +
    "config_set_max_processes config_set_max_open_files",
  huu: "exec_config_set_pty", huue: "process_resize",
  "hu>s": "tunnel_map_host tunnel_map_url tunnel_map_ca_pem tunnel_map_spki_sha256", huq: "config_set_tcp_probe",
  hus: "config_add_host_service", hii: "config_set_stream exec_config_set_stream", hie: "signal sandbox_open_fd process_signal process_open_fd",
  hiqe: "stop", hz: "tunnel_map_container_port",
  "h&z": "config_set_command exec_config_set_command config_set_inbound_cidr_allowlist",
  "h&zq": "config_set_exec_probe", "u&e": "queue_new", "h&e": "queue_next sandbox_stats",
  "hh&e": "create_begin exec_begin", hhQe: "set_policy_begin", hqe: "wait_ready file_operation_wait",
  "hq&e": "tunnels", "hq&ze": "file_operation_next_change", "hz&e": "file_operation_info",
  "hz>s": "policy_entry file_operation_name file_operation_target", "h&>b": "file_operation_bytes",
  "h&&e": "sandbox_policy", "h&&&e": "file_operation_totals",
  "hs&Q&e":
    "file_read_begin file_list_begin file_stat_begin file_make_directory_begin file_remove_begin " +
    "file_watch_begin file_download_begin file_upload_begin file_copy_out_begin file_copy_in_begin",
  "hs&z&Q&e": "file_write_begin", "hss&Q&e": "file_rename_begin",
};

// The structs, as their fields' kinds and names; a number is an array of that many bytes.
export const STRUCTS = {
  error: "u size, i code, i os_error, u reserved, 496 message",
  event:
    "u size, u kind, Q cookie, Q sequence, q time_ms, Q lost, i code, i reason, i rule, u protocol, u port, u count, " +
    "64 address, 280 detail",
  stats:
    "u size, u known, q uptime_ms, q cpu_us, Q memory_bytes, Q memory_peak_bytes, u processes, u tunnel_connections, " +
    "Q tunnel_connections_total, Q tunnel_bytes_in, Q tunnel_bytes_out, u egress_flows, u reserved, " +
    "Q egress_flows_total, Q egress_bytes_in, Q egress_bytes_out, Q egress_denied, Q dns_queries, " +
    "Q dns_refused, q library_us",
  file_options: "u size, u flags, u mode, u reserved, Q offset, Q limit, q timeout_ms, s user, q stall_timeout_ms",
  file_info: "u size, u kind, u mode, u user, u group, u links, Q bytes, q modified_ns",
};

/** The places of a struct's fields: kind, offset and size by name, and the size of it all. */
export function layout(struct) {
  const fields = {};
  let size = 0;
  for (const [kind, name] of STRUCTS[struct].split(", ").map((field) => field.split(" "))) {
    const bytes = { u: 4, i: 4, q: 8, Q: 8, s: 8 }[kind] ?? Number(kind);
    fields[name] = { kind, offset: size, bytes };
    size += bytes;
  }
  return { fields, size };
}

const LAYOUTS = Object.fromEntries(Object.keys(STRUCTS).map((struct) => [struct, layout(struct)]));

/** A struct of zeroes that knows its size. */
export function make(struct) {
  const memory = Buffer.alloc(LAYOUTS[struct].size);
  memory.writeUInt32LE(memory.length, 0);
  return memory;
}

const READERS = { u: "readUInt32LE", i: "readInt32LE", q: "readBigInt64LE", Q: "readBigUInt64LE" };

/** A field of a struct. Numbers fit a double: they are counts, times and our own cookies. */
export function read(struct, memory, name) {
  const { kind, offset, bytes } = LAYOUTS[struct].fields[name];
  if (kind in READERS) return Number(memory[READERS[kind]](offset));
  const text = memory.subarray(offset, offset + bytes);
  return text.toString("utf8", 0, text.indexOf(0));
}

/** All fields of a struct but its size and what is reserved, under names as JavaScript has them. */
export function readAll(struct, memory) {
  const names = Object.keys(LAYOUTS[struct].fields).filter((name) => !["size", "reserved"].includes(name));
  const camel = (name) => name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(names.map((name) => [camel(name), read(struct, memory, name)]));
}

/** Sets a field of a struct; a text by its address. */
export function write(struct, memory, name, value) {
  const { kind, offset } = LAYOUTS[struct].fields[name];
  if (kind === "u") memory.writeUInt32LE(value, offset);
  else memory.writeBigUInt64LE(BigInt(value), offset);
}
