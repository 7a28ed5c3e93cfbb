// Options of programs and sandboxes, written into the library's configs.

import { NUMBERS } from "./abi.js";
import { list, milliseconds, onlyKnown, port, record, whole } from "./arguments.js";
import { invalid, SbxError } from "./errors.js";
import { Image } from "./image.js";
import { call, native, text, texts } from "./native.js";
import { makePolicy, POLICY_OPTIONS } from "./policy.js";
import { mountedVolume } from "./volume.js";

const STREAMS = { ignore: 0, pipe: 1, merged: 2 };
const LIMITS = { cpu: ["millicpus", 1000], memoryMiB: ["memory_bytes", 2 ** 20], diskMiB: ["disk_bytes", 2 ** 20] };
Object.assign(LIMITS, { maxProcesses: ["max_processes", 1], maxOpenFiles: ["max_open_files", 1] });
const MOST = 2 ** 20;
const { PORT_ENCRYPTED, PORT_H2, PORT_UNENCRYPTED } = NUMBERS;
const PORTS = { encryptedPorts: PORT_ENCRYPTED, h2Ports: PORT_H2, unencryptedPorts: PORT_UNENCRYPTED };

const PROGRAM_OPTIONS = "env secrets workdir user timeoutMs stdin stdout stderr signal".split(" ");
export const EXEC_OPTIONS = [...PROGRAM_OPTIONS, "terminal"];
const OPTIONS = [
  ...PROGRAM_OPTIONS,
  ..."name rootfs mounts writableMounts idleTimeoutMs cpu memoryMiB memoryWatchdog maxProcesses maxOpenFiles".split(" "),
  ..."diskMiB hostServices encryptedPorts h2Ports unencryptedPorts tlsNames inboundCidrAllowlist readinessProbe".split(" "),
  ..."image imageMounts exitSnapshot entrypoint hostname tags bindPorts tlsCertificate nameservers egressLimits mtu".split(" "),
  ..."volumes tunnelRate".split(" "),
  ...POLICY_OPTIONS,
];

/** Writes into a config what a sandbox's own program and executed ones have in common. */
export function describe(set, command, options, known) {
  onlyKnown(options, known);
  // Without a command a sandbox waits for exec().
  if (command !== undefined) set("set_command", texts(command, "command"), command.length);
  for (const [option, how] of [["secrets", "set_secret"], ["env", "set_env"]]) {
    for (const [name, value] of Object.entries(record(options[option] ?? {}, option))) {
      set(how, text(name, option), text(value, `${option}.${name}`));
    }
  }
  for (const name of ["workdir", "user"]) if (options[name] !== undefined) set(`set_${name}`, text(options[name], name));
  if (options.timeoutMs !== undefined) set("set_timeout_ms", milliseconds(options.timeoutMs, "timeoutMs"));
  for (const [stream, name] of ["stdin", "stdout", "stderr"].entries()) {
    const mode = STREAMS[options[name] ?? "ignore"];
    if (mode === undefined) throw invalid(`${name} must be one of ${Object.keys(STREAMS).join(", ")}`);
    if (mode !== STREAMS.ignore) set("set_stream", stream, mode);
  }
}

// The budgets of what leaves a sandbox, in the order in which the library takes them.
const BUDGETS = { maxFlows: 2 ** 32 - 1, newFlowsPerSecond: 2 ** 32 - 1, bytesPerSecond: 2 ** 53 - 1, totalBytes: 2 ** 53 - 1 };

/** Where on this machine a tunnel listens: an address, or one and a port. */
function listener(place, what) {
  const { address, port: number = 0, ...more } = typeof place === "string" ? { address: place } : record(place, what);
  for (const name of Object.keys(more)) throw invalid(`${what} has an address and a port, and no "${name}"`);
  return [text(address, `${what}.address`), whole(number, `${what}.port`, 0, 65535)];
}

/** Writes options into a sandbox's config. */
export function configure(config, set, command, options) {
  // What the library refuses it says in its own words; whose value it was is said before them. It reports the first bad
  // value: after one of those that aren't named here, the name would be the wrong one.
  let [bad, before] = [false, false];
  const put = set;
  set = (...words) => {
    const code = put(...words);
    [before, bad] = [bad, bad || code < 0];
    return code;
  };
  describe(set, command, options, OPTIONS);
  const named = (option, code) => {
    if (code >= 0 || before) return;
    try {
      call("config_check", config);
    } catch ({ message, errno, osError }) {
      throw new SbxError(`${option}: ${message}`, errno, osError);
    }
  };
  for (const name of ["name", "hostname", "rootfs"]) {
    if (options[name] !== undefined) named(name, set(`set_${name}`, text(options[name], name)));
  }
  const { image, entrypoint } = options;
  if (image !== undefined) named("image", set("set_image", Image.handleOf(image, "image")));
  if (entrypoint !== undefined) set("set_entrypoint", texts(entrypoint, "entrypoint"), entrypoint.length);
  // An image that doesn't say what runs in it waits for exec(), too.
  if (image && !image.hasProgram && command === undefined && !entrypoint?.length) set("set_no_command");
  const { exitSnapshot } = options;
  if (exitSnapshot) set("set_exit_snapshot", exitSnapshot === true ? null : text(exitSnapshot, "exitSnapshot"));
  for (const [place, mounted] of Object.entries(record(options.imageMounts ?? {}, "imageMounts"))) {
    const what = `imageMounts[${JSON.stringify(place)}]`;
    named(what, set("add_image_mount", Image.handleOf(mounted, what), text(place, "imageMounts")));
  }
  for (const [place, volume] of Object.entries(record(options.volumes ?? {}, "volumes"))) {
    const what = `volumes[${JSON.stringify(place)}]`;
    const [name, subPath, flags] = mountedVolume(volume, what);
    named(what, set("add_volume", name, text(place, "volumes"), subPath, flags));
  }
  for (const [name, value] of Object.entries(record(options.tags ?? {}, "tags"))) {
    named(`tags.${name}`, set("set_tag", text(name, "tags"), text(value, `tags.${name}`)));
  }
  if (options.idleTimeoutMs !== undefined) set("set_idle_timeout_ms", milliseconds(options.idleTimeoutMs, "idleTimeoutMs"));
  for (const [option, [limit, unit]] of Object.entries(LIMITS)) {
    const value = options[option];
    if (value === undefined) continue;
    const fits = typeof value === "number" && value > 0 && value <= MOST;
    if (!fits) throw invalid(`${option} must be a number up to ${MOST}, not ${value}`);
    set(`set_${limit}`, Math.round(value * unit));
  }
  if (options.memoryWatchdog) set("set_limit_mode", NUMBERS.LIMITS_WATCHDOG);
  for (const [option, how] of [["mounts", NUMBERS.MOUNT_READ_ONLY], ["writableMounts", NUMBERS.MOUNT_WRITABLE]]) {
    for (const [place, source] of Object.entries(record(options[option] ?? {}, option))) {
      set("add_mount", text(source, `${option}[${JSON.stringify(place)}]`), text(place, option), how);
    }
  }
  for (const [option, kind] of Object.entries(PORTS)) {
    for (const number of list(options[option], option)) set("add_port", port(number, option), kind);
  }
  for (const [number, address] of Object.entries(record(options.hostServices ?? {}, "hostServices"))) {
    const inside = port(Number(number), "a port of hostServices");
    named(`hostServices[${number}]`, set("add_host_service", inside, text(address, `hostServices[${number}]`)));
  }
  for (const [number, place] of Object.entries(record(options.bindPorts ?? {}, "bindPorts"))) {
    const inside = port(Number(number), "a port of bindPorts");
    named(`bindPorts[${number}]`, set("bind_port", inside, ...listener(place, `bindPorts[${number}]`)));
  }
  for (const name of list(options.tlsNames, "tlsNames")) named("tlsNames", set("add_tls_name", text(name, "tlsNames")));
  if (options.tlsCertificate !== undefined) {
    const { cert, key } = record(options.tlsCertificate, "tlsCertificate");
    const pair = [text(cert, "tlsCertificate.cert"), text(key, "tlsCertificate.key")];
    named("tlsCertificate", set("set_tls_certificate", ...pair));
  }
  if (options.tunnelRate !== undefined) set("set_tunnel_rate", whole(options.tunnelRate, "tunnelRate", -1, 1_000_000));
  for (const server of list(options.nameservers, "nameservers")) {
    named("nameservers", set("add_nameserver", text(server, "nameservers")));
  }
  if (options.egressLimits !== undefined) {
    for (const name of Object.keys(record(options.egressLimits, "egressLimits"))) {
      if (!(name in BUDGETS)) throw invalid(`egressLimits has no "${name}", but ${Object.keys(BUDGETS).join(", ")}`);
    }
    const budgets = Object.entries(BUDGETS).map(([name, most]) => whole(options.egressLimits[name] ?? 0, `egressLimits.${name}`, 0, most));
    named("egressLimits", set("set_egress_limits", ...budgets));
  }
  if (options.mtu !== undefined) set("set_mtu", whole(options.mtu, "mtu", 1280, 9000));
  if (options.inboundCidrAllowlist !== undefined) {
    const ranges = options.inboundCidrAllowlist;
    set("set_inbound_cidr_allowlist", texts(ranges, "inboundCidrAllowlist"), ranges.length);
  }
  makePolicy(options, (policy) => native.config_set_policy(config, policy));
  const probe = options.readinessProbe;
  if (probe !== undefined) record(probe, "readinessProbe");
  const interval = milliseconds(probe?.intervalMs ?? 100, "readinessProbe.intervalMs");
  if (probe?.command) {
    set("set_exec_probe", texts(probe.command, "readinessProbe.command"), probe.command.length, interval);
  } else if (probe) {
    set("set_tcp_probe", port(probe.port, "readinessProbe.port"), interval);
  }
}
