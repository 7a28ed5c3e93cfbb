// gVisor sandboxes inside your own process. sbx.d.ts says what there is; README.md how to use it.
//
// Nothing here waits in the library: what takes time is begun and ends as an event. One queue takes the events of all
// sandboxes, and its doorbell is a socket of the event loop. Only creating is begun on a thread of libuv's.

import { Socket } from "node:net";
import { constants } from "node:os";
import { isMainThread } from "node:worker_threads";
import { call, callElsewhere, invalid, make, native, open, read, SbxError, text, texts } from "./native.js";

export { SbxError };

const EVENTS = {
  1: "started",
  2: "failed",
  3: "ready",
  4: "exited",
  5: "processExited",
  6: "denied",
  7: "policyApplied",
  8: "limit",
  9: "portListening",
  10: "processStarted",
  11: "fileDone",
  12: "fileChanged",
};
const REASONS = [, "exited", "signalled", "timedOut", "idle", "terminated", "outOfMemory", "engineLost"];
const STREAMS = { ignore: 0, pipe: 1, merged: 2 };
const TERMINAL = 3;
const LIMITS_WATCHDOG = 1;
const ETIMEDOUT = -1004;
const AT_ONCE = 64; // events, before others have their turn

/** The queue, its doorbell, and who gets which events. */
class Hub {
  lives = new Map();
  #cookies = 0;
  #holds = 0;
  #runtime;

  constructor() {
    this.queue = open("queue_new", 65536);
    this.event = make("event");
    this.bell = new Socket({ fd: call("queue_open_fd", this.queue), readable: true, writable: false });
    this.bell.on("data", () => this.drain());
    this.bell.on("error", () => {});
    this.bell.unref();
    // A worker's sandboxes end with it; the process's own do anyway.
    if (!isMainThread) process.once("exit", () => this.lives.forEach((life) => native.sandbox_free(life.handle)));
  }

  /**
   * The library's own runtime. Making it takes a moment, as runsc is asked what it is, and has no `_begin` form: the
   * first time it is done on a thread of libuv's. Once that failed, it is tried again.
   */
  runtime() {
    const list = Buffer.alloc(8);
    this.#runtime ??= callElsewhere("runtime_sandboxes", 0, list).then(
      () => native.sandbox_list_free(Number(list.readBigUInt64LE())),
      (error) => {
        this.#runtime = undefined;
        throw error;
      },
    );
    return this.#runtime;
  }

  listen(life) {
    this.lives.set(++this.#cookies, life);
    return this.#cookies;
  }

  drain() {
    for (let taken = 0; taken < AT_ONCE; taken++) {
      if (call("queue_next", this.queue, this.event) === 0) return;
      const cookie = read("event", this.event, "cookie");
      const life = this.lives.get(cookie);
      if (life?.happened(told(this.event))) this.lives.delete(cookie);
    }
    setImmediate(() => this.drain());
  }

  hold() {
    if (this.#holds++ === 0) this.bell.ref();
  }

  release() {
    if (--this.#holds === 0) this.bell.unref();
  }

  /** Waits for that, and keeps the process alive meanwhile. */
  async during(promise) {
    this.hold();
    try {
      return await promise;
    } finally {
      this.release();
    }
  }
}

let theHub;
function hub() {
  return (theHub ??= new Hub());
}

/** An event as it is told to JavaScript. */
function told(event) {
  const field = (name) => read("event", event, name);
  const kind = EVENTS[field("kind")] ?? "unknown";
  return {
    kind,
    time: field("time_ms"),
    lost: field("lost"),
    code: field("code"),
    reason: kind === "exited" || kind === "processExited" ? REASONS[field("reason")] : field("reason"),
    rule: field("rule"),
    protocol: field("protocol"),
    port: field("port"),
    count: field("count"),
    address: field("address"),
    detail: field("detail"),
  };
}

/** A promise to be settled from elsewhere. That nobody waits for it is no error. */
function deferred() {
  const result = {};
  result.promise = new Promise((resolve, reject) => Object.assign(result, { resolve, reject }));
  result.promise.catch(() => {});
  return result;
}

/** What is known of a sandbox, or of a program executed in one, from its events. It doesn't keep the object alive. */
class Life {
  started = deferred();
  ready = deferred();
  exited = deferred();
  exit = null;
  over = false;
  handle = 0;
  what = "";
  listeners = new Set();
  early = [];

  constructor(failure) {
    this.failure = failure;
  }

  /** Whether that was the last event. */
  happened(event) {
    if (this.handle === 0) {
      this.early.push(event); // it was quicker than the call that began it
      return false;
    }
    if (event.kind === "started" || event.kind === "processStarted") this.started.resolve();
    if (event.kind === "ready") this.ready.resolve();
    if (["exited", "failed", "processExited"].includes(event.kind)) this.#end(event);
    for (const listener of this.listeners) listener(event);
    return this.over;
  }

  #end({ code, reason }) {
    this.over = true;
    let error = new SbxError(`${this.what} has ended`, -1006);
    try {
      if (code < 0) call(this.failure, this.handle);
      this.exit = { code, reason };
      this.exited.resolve(this.exit);
    } catch (failure) {
      error = failure;
    }
    for (const waited of [this.started, this.ready, this.exited]) waited.reject(error);
  }

  /**
   * Begins what a config asks for; its events come here. A sandbox is planned in that call, which looks at files and
   * takes longer than the event loop should wait where processors are scarce: that is done `elsewhere`.
   */
  async begin(how, elsewhere, on, config, set) {
    const cookie = hub().listen(this);
    set("set_queue", hub().queue, cookie);
    const place = Buffer.alloc(8);
    try {
      await hub().during((elsewhere ? callElsewhere : call)(how, on, config, place));
      this.handle = Number(place.readBigUInt64LE());
    } catch (error) {
      hub().lives.delete(cookie);
      throw error;
    }
    for (const event of this.early.splice(0)) if (this.happened(event)) hub().lives.delete(cookie);
  }
}

/** The same promise, or an error after that time. */
async function within(promise, timeoutMs, what) {
  if (timeoutMs === undefined) return promise;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new SbxError(`${what} within ${timeoutMs} ms`, ETIMEDOUT)), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Something of the library's that is made, filled in and freed here. A bad value is what its check says at the end. */
function making(kind, how, use) {
  const handle = Number(native[`${kind}_${how}`]());
  if (!handle) call("config_check", 0); // says why: a forked child, or no handles left
  const free = () => native[`${kind}_free`](handle);
  try {
    const made = use(handle, (what, ...values) => native[`${kind}_${what}`](handle, ...values));
    if (made instanceof Promise) return made.finally(free);
    free();
    return made;
  } catch (error) {
    free();
    throw error;
  }
}

function whole(value, what, least, most) {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw invalid(`${what} must be an integer from ${least} to ${most}, not ${String(value)}`);
  }
  return value;
}

const port = (value, what) => whole(value, what, 1, 65535);
const milliseconds = (value, what) => whole(value, what, 1, 2 ** 53 - 1);

const PROGRAM_OPTIONS = "env secrets workdir user timeoutMs stdin stdout stderr signal".split(" ");
const EXEC_OPTIONS = [...PROGRAM_OPTIONS, "terminal"];
const OPTIONS = [
  ...PROGRAM_OPTIONS,
  ..."name rootfs mounts writableMounts idleTimeoutMs cpu memoryMiB memoryWatchdog maxProcesses maxOpenFiles".split(" "),
  ..."diskMiB encryptedPorts h2Ports unencryptedPorts tlsNames inboundCidrAllowlist blockNetwork".split(" "),
  ..."outboundCidrAllowlist outboundDomainAllowlist outboundCidrDenylist readinessProbe".split(" "),
];

/** Writes into a config what a sandbox's own program and executed ones have in common. */
function describe(set, command, options, known) {
  for (const name of Object.keys(options)) if (!known.includes(name)) throw invalid(`there is no option "${name}"`);
  // Without a command a sandbox waits for exec().
  if (command !== undefined) set("set_command", texts(command, "command"), command.length);
  for (const [option, how] of [["secrets", "set_secret"], ["env", "set_env"]]) {
    for (const [name, value] of Object.entries(options[option] ?? {})) {
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

/** Writes options into a sandbox's config. */
function configure(config, set, command, options) {
  describe(set, command, options, OPTIONS);
  for (const name of ["name", "rootfs"]) if (options[name] !== undefined) set(`set_${name}`, text(options[name], name));
  if (options.idleTimeoutMs !== undefined) set("set_idle_timeout_ms", milliseconds(options.idleTimeoutMs, "idleTimeoutMs"));
  for (const [option, limit, unit] of [
    ["cpu", "cpu", 1000],
    ["memoryMiB", "memory", 2 ** 20],
    ["diskMiB", "disk", 2 ** 20],
    ["maxProcesses", "max_processes", 1],
    ["maxOpenFiles", "max_open_files", 1],
  ]) {
    const value = options[option];
    if (value === undefined) continue;
    if (typeof value !== "number" || !(value > 0 && value <= 2 ** 20)) throw invalid(`${option} must be a number up to ${2 ** 20}, not ${value}`);
    set(`set_${limit}`, Math.round(value * unit));
  }
  if (options.memoryWatchdog) set("set_limit_mode", LIMITS_WATCHDOG);
  for (const [option, how] of [["mounts", "mount_read_only"], ["writableMounts", "mount_writable"]]) {
    for (const [place, source] of Object.entries(options[option] ?? {})) set(how, text(source, option), text(place, option));
  }
  for (const kind of ["encrypted", "h2", "unencrypted"]) {
    for (const number of options[`${kind}Ports`] ?? []) set(`add_${kind}_port`, port(number, `${kind}Ports`));
  }
  for (const name of options.tlsNames ?? []) set("add_tls_name", text(name, "tlsNames"));
  if (options.inboundCidrAllowlist) {
    const ranges = options.inboundCidrAllowlist;
    set("set_inbound_cidr_allowlist", texts(ranges, "inboundCidrAllowlist"), ranges.length);
  }
  restrict(config, options);
  const probe = options.readinessProbe;
  if (probe?.command) {
    const interval = milliseconds(probe.intervalMs ?? 100, "readinessProbe.intervalMs");
    set("set_exec_probe", texts(probe.command, "readinessProbe.command"), probe.command.length, interval);
  } else if (probe) {
    const interval = milliseconds(probe.intervalMs ?? 100, "readinessProbe.intervalMs");
    set("set_tcp_probe", port(probe.port, "readinessProbe.port"), interval);
  }
}

/** Gives a config its policy. No option is the library's default; an empty list is a list: it allows nothing. */
function restrict(config, { blockNetwork, outboundCidrAllowlist, outboundDomainAllowlist, outboundCidrDenylist }) {
  const lists = { outboundCidrAllowlist, outboundDomainAllowlist, outboundCidrDenylist };
  if (blockNetwork) {
    const listed = Object.keys(lists).find((name) => lists[name] !== undefined);
    if (listed) throw invalid(`${listed} can't be used when blockNetwork is on`);
    making("policy", "new_blocked", (policy) => native.config_set_policy(config, policy));
    return;
  }
  const unlisted = !outboundCidrAllowlist && !outboundDomainAllowlist;
  if (unlisted && !outboundCidrDenylist) return;
  making("policy", unlisted ? "new_open" : "new_allowlist", (policy, set) => {
    for (const range of outboundCidrAllowlist ?? []) set("allow_cidr", text(range, "outboundCidrAllowlist"));
    for (const name of outboundDomainAllowlist ?? []) set("allow_domain", text(name, "outboundDomainAllowlist"));
    for (const range of outboundCidrDenylist ?? []) set("deny_cidr", text(range, "outboundCidrDenylist"));
    native.config_set_policy(config, policy);
  });
}

/** What nobody refers to any more is freed, and a sandbox ended by that. */
const lost = new FinalizationRegistry(([free, handle]) => native[free](handle));

/** What a sandbox's own program and executed ones have in common. */
class Program {
  #kind;
  #options;
  #streams = {};

  constructor(kind, life, options, key) {
    if (key !== lost) throw new TypeError("a sandbox is made by Sandbox.create(), a process by exec()");
    this.#kind = kind;
    this.#options = options;
    Object.defineProperty(this, "_life", { value: life });
    lost.register(this, [`${kind}_free`, life.handle], this);
  }

  get exitCode() {
    return this._life.exit?.code ?? null;
  }

  get exitReason() {
    return this._life.exit?.reason ?? null;
  }

  get stdin() {
    return this.#options.stdin === "pipe" ? this._stream(0) : null;
  }

  get stdout() {
    return this.#options.stdout === "pipe" ? this._stream(1) : null;
  }

  get stderr() {
    return this.#options.stderr === "pipe" ? this._stream(2) : null;
  }

  /** Opened when it is asked for: what is idle has nothing on the event loop. */
  _stream(number) {
    return (this.#streams[number] ??= new Socket({
      fd: call(`${this.#kind}_open_fd`, this._life.handle, number),
      readable: number > 0,
      writable: number === 0 || number === TERMINAL,
    }));
  }

  async wait({ timeoutMs } = {}) {
    return hub().during(within(this._life.exited.promise, timeoutMs, `${this._life.what} did not end`));
  }

  /** Waits until it was started, or gives it up. */
  async _start(signal) {
    const aborted = deferred();
    const abort = () => aborted.reject(signal.reason);
    signal?.addEventListener("abort", abort);
    try {
      await hub().during(Promise.race([this._life.started.promise, aborted.promise]));
      return this;
    } catch (error) {
      this._giveUp?.();
      this._free();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  _free() {
    lost.unregister(this);
    native[`${this.#kind}_free`](this._life.handle);
    this.#streams[0]?.destroy();
  }
}

/** The number of a signal. */
function signalNumber(signal) {
  return whole(typeof signal === "string" ? constants.signals[signal] : signal, `signal ${signal}`, 1, 64);
}

/** A program that was executed in a sandbox. */
export class Process extends Program {
  #terminal;

  constructor(life, options, key) {
    super("process", life, options, key);
    this.#terminal = options.terminal;
  }

  get terminal() {
    return this.#terminal ? this._stream(TERMINAL) : null;
  }

  kill(signal = "SIGTERM") {
    call("process_signal", this._life.handle, signalNumber(signal));
  }

  /** A sandbox is ended by being freed; a process isn't. */
  _giveUp() {
    this.kill("SIGKILL");
  }

  resize(rows, columns) {
    call("process_resize", this._life.handle, port(rows, "rows"), port(columns, "columns"));
  }
}

export class Sandbox extends Program {
  #id;
  #name;
  #tunnels;
  #held = false;

  constructor(life, options, key) {
    super("sandbox", life, options, key);
    this.#id = native.sandbox_id(life.handle);
    this.#name = options.name;
    life.what = `sandbox ${this.#id}`;
  }

  static async create(command, options = {}) {
    const { signal } = options;
    signal?.throwIfAborted();
    await hub().during(hub().runtime());
    signal?.throwIfAborted();
    const life = new Life("sandbox_failure");
    await making("config", "new", (config, set) => {
      configure(config, set, command, options);
      call("config_check", config);
      return life.begin("create_begin", true, 0, config, set);
    });
    return new Sandbox(life, options, lost)._start(signal);
  }

  async exec(command, options = {}) {
    const { signal, terminal } = options;
    signal?.throwIfAborted();
    const life = new Life("process_failure");
    await making("exec_config", "new", (config, set) => {
      describe(set, command, options, EXEC_OPTIONS);
      if (terminal) set("set_pty", port(terminal.rows, "terminal.rows"), port(terminal.columns, "terminal.columns"));
      call("exec_config_check", config);
      life.what = `${command[0]} in sandbox ${this.id}`;
      return life.begin("exec_begin", false, this._life.handle, config, set);
    });
    return new Process(life, options, lost)._start(signal);
  }

  get id() {
    return this.#id;
  }

  get name() {
    return this.#name;
  }

  tunnels() {
    if (!this.#tunnels) {
      const map = open("tunnels", this._life.handle, 0);
      try {
        this.#tunnels = readTunnels(map);
      } finally {
        native.tunnel_map_free(map);
      }
    }
    return this.#tunnels;
  }

  async waitUntilReady({ timeoutMs = 300_000 } = {}) {
    milliseconds(timeoutMs, "timeoutMs");
    try {
      call("wait_ready", this._life.handle, 0); // looks, and begins to ask
    } catch (error) {
      if (error.errno !== ETIMEDOUT) throw error;
      await hub().during(within(this._life.ready.promise, timeoutMs, `sandbox ${this.id} was not ready`));
    }
  }

  async terminate() {
    if (!this._life.over) call("terminate", this._life.handle);
    return this.wait();
  }

  async stop({ signal = "SIGTERM", graceMs = 10_000 } = {}) {
    if (!this._life.over) call("stop", this._life.handle, signalNumber(signal), whole(graceMs, "graceMs", 0, 2 ** 31));
    return this.wait();
  }

  kill(signal = "SIGTERM") {
    call("signal", this._life.handle, signalNumber(signal));
  }

  /** The events from now on, to the last. */
  events() {
    const life = this._life;
    const waiting = [];
    let wake = () => {};
    const listener = (event) => {
      waiting.push(event);
      wake();
    };
    life.listeners.add(listener);
    const more = () => hub().during(new Promise((resolve) => (wake = resolve)));
    return this.#iterate(waiting, more, listener);
  }

  async *#iterate(waiting, more, listener) {
    try {
      while (waiting.length > 0 || !this._life.over) {
        if (waiting.length > 0) yield waiting.shift();
        else await more();
      }
    } finally {
      this._life.listeners.delete(listener);
    }
  }

  /** Keeps the process alive until the sandbox has ended. */
  ref() {
    if (!this.#held && !this._life.over) {
      this.#held = true;
      hub().hold();
      this._life.exited.promise.catch(() => {}).then(() => this.unref());
    }
    return this;
  }

  unref() {
    if (this.#held) {
      this.#held = false;
      hub().release();
    }
    return this;
  }

  async [Symbol.asyncDispose]() {
    try {
      if (!this._life.over) await this.terminate();
    } finally {
      this._free();
    }
  }
}

function readTunnels(map) {
  const tunnels = {};
  for (let index = 0; index < native.tunnel_map_count(map); index++) {
    const number = native.tunnel_map_container_port(map, index);
    const [host, url, ca, spkiSha256] = ["host", "url", "ca_pem", "spki_sha256"].map(
      (what) => native[`tunnel_map_${what}`](map, number) ?? undefined,
    );
    tunnels[number] = Object.freeze({ host, port: native.tunnel_map_port(map, number), url, ca, spkiSha256 });
  }
  return Object.freeze(tunnels);
}
