// Sandboxes.

import { Socket } from "node:net";
import { onlyKnown, patience, port, record, signalNumber, whole } from "./arguments.js";
import { configure, describe, EXEC_OPTIONS } from "./config.js";
import { Files } from "./files.js";
import { hub } from "./hub.js";
import { Image, copyImage, snapshotOf } from "./image.js";
import { Life } from "./life.js";
import { call, freeing, making, native, open, text } from "./native.js";
import { Operation } from "./operation.js";
import { makePolicy, POLICY_OPTIONS, readPolicy } from "./policy.js";
import { lost, Process, Program } from "./program.js";
import { readStats, readTunnels } from "./readings.js";
import { make } from "./structs.js";
import { deferred, within } from "./waiting.js";

export class Sandbox extends Program {
  #tunnels;
  #isTerminated = false;

  constructor(life, options, key) {
    super(life, options, key);
    this.id = String(native.sandbox_id(life.handle));
    this.name = options.name;
    this.tags = Object.freeze({ ...options.tags });
    this.files = new Files(this);
    life.what = `sandbox ${this.id}`;
  }

  static async create(command, options = {}) {
    const { signal } = record(options, "options");
    signal?.throwIfAborted();
    const life = new Life("sandbox");
    making("config", (config, set) => {
      configure(config, set, command, options);
      call("config_check", config);
      life.begin("create_begin", 0, config, set);
    });
    return new Sandbox(life, options, lost)._start(signal);
  }

  async exec(command, options = {}) {
    const { signal, terminal } = record(options, "options");
    signal?.throwIfAborted();
    const life = new Life("process");
    making("exec_config", (config, set) => {
      describe(set, command, options, EXEC_OPTIONS);
      if (terminal) record(terminal, "terminal");
      if (terminal) set("set_pty", port(terminal.rows, "terminal.rows"), port(terminal.columns, "terminal.columns"));
      call("exec_config_check", config);
      life.what = `${command[0]} in sandbox ${this.id}`;
      life.begin("exec_begin", this._life.handle, config, set);
    });
    return new Process(life, options, lost, this)._start(signal);
  }

  async setPolicy(options) {
    onlyKnown(options, POLICY_OPTIONS);
    const change = makePolicy(options, (policy) => new Operation("set_policy_begin", this._life.handle, policy));
    return change.run(this, (done) => {
      const generation = Buffer.alloc(8);
      done.call("policy", null, generation);
      return Number(generation.readBigUInt64LE());
    });
  }

  async policy() {
    return new Operation("sandbox_policy_begin", this._life.handle).run(this, (done) => {
      const [copy, generation] = [Buffer.alloc(8), Buffer.alloc(8)];
      done.call("policy", copy, generation);
      const read = freeing("policy", Number(copy.readBigUInt64LE()), readPolicy);
      return { generation: Number(generation.readBigUInt64LE()), ...read };
    });
  }

  async stats() {
    return new Operation("sandbox_stats_begin", this._life.handle).run(this, (done) => {
      const stats = make("stats");
      done.call("stats", stats);
      return readStats(stats);
    });
  }

  async snapshot(options = {}) {
    return hub().during(snapshotOf(this, this._life.handle, options), this);
  }

  async snapshotDirectory(path, options = {}) {
    return hub().during(snapshotOf(this, this._life.handle, options, text(path, "path")), this);
  }

  async copyImage(image, path, options = {}) {
    await hub().during(copyImage(this._life.handle, image, path, options), this);
  }

  async exitImage() {
    await this.wait();
    return new Image(open("sandbox_exit_image", this._life.handle));
  }

  async connect(number) {
    const connection = new Operation("connect_begin", this._life.handle, port(number, "port"));
    const fd = await connection.run(this, (done) => done.call("open_fd"));
    return new Socket({ fd, readable: true, writable: true });
  }

  tunnels() {
    return (this.#tunnels ??= freeing("tunnel_map", open("tunnels", this._life.handle, 0), readTunnels));
  }

  async waitUntilReady(options = {}) {
    const { timeoutMs = 300_000 } = record(options, "options");
    patience(timeoutMs);
    await this._life.look();
    await hub().during(within(this._life.ready.promise, timeoutMs, `sandbox ${this.id} was not ready`), this);
  }

  async terminate() {
    if (!this._life.over) call("terminate", this._life.handle);
    this.#isTerminated = true;
    return this.wait();
  }

  async stop(options = {}) {
    const { signal, graceMs = 10_000 } = record(options, "options");
    const number = signal === undefined ? 0 : signalNumber(signal);
    if (!this._life.over) call("stop", this._life.handle, number, whole(graceMs, "graceMs", 0, 2 ** 31));
    return this.wait();
  }

  kill(signal = "SIGTERM") {
    call("signal", this._life.handle, signalNumber(signal));
  }

  /** The events from the moment when the first is asked for, to the last. */
  async *events() {
    const waiting = [];
    let told = deferred();
    const listener = (event) => told.resolve(waiting.push(event));
    this._life.listeners.add(listener);
    try {
      while (waiting.length > 0 || !this._life.over) {
        if (waiting.length > 0) {
          yield waiting.shift();
        } else {
          await hub().during(told.promise, this);
          told = deferred();
        }
      }
    } finally {
      this._life.listeners.delete(listener);
    }
  }

  /** Keeps the process alive until the sandbox has ended. */
  ref() {
    if (!this._life.over) hub().hold(this._life, this);
    return this;
  }

  unref() {
    hub().release(this._life);
    return this;
  }

  async [Symbol.asyncDispose]() {
    // A second terminate() would give the exit snapshot up.
    if (!this._life.over) await (this.#isTerminated ? this.wait() : this.terminate()).finally(() => this._free());
    else this._free();
  }
}
