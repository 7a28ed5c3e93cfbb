// gVisor sandboxes inside your own process. sbx.d.ts says what there is; README.md how to use it.
//
// Nothing here waits in the library: what takes time is begun and ends as an event. One queue takes the events of all
// sandboxes, and its doorbell is a socket of the event loop.

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
  11: "fileDone",
};
const REASONS = [, "exited", "signalled", "timedOut", "idle", "terminated", "outOfMemory", "engineLost"];
const STREAMS = { ignore: 0, pipe: 1, merged: 2 };
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
    reason: kind === "exited" ? REASONS[field("reason")] : field("reason"),
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

/** What is known of a sandbox from its events. It doesn't keep the sandbox's object alive. */
class Life {
  started = deferred();
  ready = deferred();
  exited = deferred();
  exit = null;
  over = false;
  handle = 0;
  id = "";
  listeners = new Set();

  /** Whether that was the last event. */
  happened(event) {
    if (event.kind === "started") this.started.resolve();
    if (event.kind === "ready") this.ready.resolve();
    if (event.kind === "exited") {
      this.exit = { code: event.code, reason: event.reason };
      this.exited.resolve(this.exit);
    }
    if (event.kind === "failed") this.#settle(this.failure(event));
    if (event.kind === "exited") this.#settle(new SbxError(`sandbox ${this.id} has ended`, -1006));
    for (const listener of this.listeners) listener(event);
    return this.over;
  }

  #settle(error) {
    this.over = true;
    for (const waited of [this.started, this.ready, this.exited]) waited.reject(error);
  }

  failure(event) {
    try {
      call("sandbox_failure", this.handle);
      return new SbxError(event.detail, event.code);
    } catch (error) {
      return error;
    }
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
  try {
    return use(handle, (what, ...values) => native[`${kind}_${what}`](handle, ...values));
  } finally {
    native[`${kind}_free`](handle);
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

const OPTIONS = new Set(
  (
    "name env workdir user rootfs mounts writableMounts timeoutMs encryptedPorts h2Ports unencryptedPorts tlsNames " +
    "inboundCidrAllowlist blockNetwork outboundCidrAllowlist outboundDomainAllowlist outboundCidrDenylist " +
    "readinessProbe stdin stdout stderr signal"
  ).split(" "),
);

/** Writes options into a config. */
function configure(config, set, command, options) {
  for (const name of Object.keys(options)) if (!OPTIONS.has(name)) throw invalid(`there is no option "${name}"`);
  set("set_command", texts(command, "command"), command.length);
  for (const [name, value] of Object.entries(options.env ?? {})) set("set_env", text(name, "env"), text(value, `env.${name}`));
  for (const name of ["name", "workdir", "user", "rootfs"]) {
    if (options[name] !== undefined) set(`set_${name}`, text(options[name], name));
  }
  for (const [option, how] of [["mounts", "mount_read_only"], ["writableMounts", "mount_writable"]]) {
    for (const [place, source] of Object.entries(options[option] ?? {})) set(how, text(source, option), text(place, option));
  }
  if (options.timeoutMs !== undefined) set("set_timeout_ms", milliseconds(options.timeoutMs, "timeoutMs"));
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
  for (const [stream, name] of ["stdin", "stdout", "stderr"].entries()) {
    const mode = STREAMS[options[name] ?? "ignore"];
    if (mode === undefined) throw invalid(`${name} must be one of ${Object.keys(STREAMS).join(", ")}`);
    set("set_stream", stream, mode);
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

/** A sandbox that nobody refers to any more is ended and freed. */
const lost = new FinalizationRegistry((handle) => native.sandbox_free(handle));

export class Sandbox {
  #life;
  #options;
  #tunnels;
  #streams = [];
  #held = false;

  constructor(life, options, key) {
    if (key !== lost) throw new TypeError("a sandbox is made by Sandbox.create()");
    this.#life = life;
    this.#options = options;
    lost.register(this, life.handle, this);
  }

  static async create(command, options = {}) {
    const { signal } = options;
    signal?.throwIfAborted();
    await hub().during(hub().runtime());
    signal?.throwIfAborted();
    const sandbox = new Sandbox(begin(command, options), options, lost);
    const aborted = deferred();
    const abort = () => aborted.reject(signal.reason);
    signal?.addEventListener("abort", abort);
    try {
      await hub().during(Promise.race([sandbox.#life.started.promise, aborted.promise]));
      return sandbox;
    } catch (error) {
      sandbox.#free();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  get id() {
    return this.#life.id;
  }

  get name() {
    return this.#options.name;
  }

  get exitCode() {
    return this.#life.exit?.code ?? null;
  }

  get exitReason() {
    return this.#life.exit?.reason ?? null;
  }

  get stdin() {
    return this.#stream(0, "stdin");
  }

  get stdout() {
    return this.#stream(1, "stdout");
  }

  get stderr() {
    return this.#stream(2, "stderr");
  }

  /** Opened when it is asked for: an idle sandbox has nothing on the event loop. */
  #stream(number, name) {
    if (this.#options[name] !== "pipe") return null;
    return (this.#streams[number] ??= new Socket({
      fd: call("sandbox_open_fd", this.#life.handle, number),
      readable: number > 0,
      writable: number === 0,
    }));
  }

  tunnels() {
    if (!this.#tunnels) {
      const map = open("tunnels", this.#life.handle, 0);
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
      call("wait_ready", this.#life.handle, 0); // looks, and begins to ask
    } catch (error) {
      if (error.errno !== ETIMEDOUT) throw error;
      await hub().during(within(this.#life.ready.promise, timeoutMs, `sandbox ${this.id} was not ready`));
    }
  }

  async wait({ timeoutMs } = {}) {
    return hub().during(within(this.#life.exited.promise, timeoutMs, `sandbox ${this.id} did not end`));
  }

  async terminate() {
    if (!this.#life.over) call("terminate", this.#life.handle);
    return this.wait();
  }

  kill(signal = "SIGTERM") {
    const number = typeof signal === "string" ? constants.signals[signal] : signal;
    call("signal", this.#life.handle, whole(number, `signal ${signal}`, 1, 64));
  }

  /** The events from now on, to the last. */
  events() {
    const life = this.#life;
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
      while (waiting.length > 0 || !this.#life.over) {
        if (waiting.length > 0) yield waiting.shift();
        else await more();
      }
    } finally {
      this.#life.listeners.delete(listener);
    }
  }

  /** Keeps the process alive until the sandbox has ended. */
  ref() {
    if (!this.#held && !this.#life.over) {
      this.#held = true;
      hub().hold();
      this.#life.exited.promise.catch(() => {}).then(() => this.unref());
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

  #free() {
    lost.unregister(this);
    native.sandbox_free(this.#life.handle);
  }

  async [Symbol.asyncDispose]() {
    try {
      if (!this.#life.over) await this.terminate();
    } finally {
      this.#streams[0]?.destroy();
      this.#free();
    }
  }
}

/** Begins to create a sandbox. */
function begin(command, options) {
  const life = new Life();
  making("config", "new", (config, set) => {
    configure(config, set, command, options);
    call("config_check", config);
    const cookie = hub().listen(life);
    set("set_queue", hub().queue, cookie);
    try {
      life.handle = open("create_begin", 0, config);
    } catch (error) {
      hub().lives.delete(cookie);
      throw error;
    }
  });
  life.id = native.sandbox_id(life.handle);
  return life;
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
