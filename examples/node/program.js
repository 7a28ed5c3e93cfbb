// Programs in a sandbox: their streams and ends.

import { Socket } from "node:net";
import { port, record, signalNumber } from "./arguments.js";
import { hub } from "./hub.js";
import { call } from "./native.js";
import { unlessAborted, within } from "./waiting.js";

const TERMINAL = 3;

/** What nobody refers to any more is freed, and a sandbox ended by that. */
export const lost = new FinalizationRegistry((life) => life.free());

/** Whose a stream is, which isn't garbage while that is open. */
const owners = new WeakMap();

/** What a sandbox's own program and executed ones have in common. */
export class Program {
  #streams = {};

  /** `sandbox` is the one that a process runs in, which ends if it is garbage. */
  constructor(life, options, key, sandbox) {
    if (key !== lost) throw new TypeError("a sandbox is made by Sandbox.create(), a process by exec()");
    const hidden = { _life: life, _options: options, _sandbox: sandbox };
    for (const [name, value] of Object.entries(hidden)) Object.defineProperty(this, name, { value });
    lost.register(this, life, this);
  }

  get exitCode() {
    return this._life.exit?.code ?? null;
  }

  get exitReason() {
    return this._life.exit?.reason ?? null;
  }

  get stdin() {
    return this._options.stdin === "pipe" ? this._stream(0) : null;
  }

  get stdout() {
    return this._options.stdout === "pipe" ? this._stream(1) : null;
  }

  get stderr() {
    return this._options.stderr === "pipe" ? this._stream(2) : null;
  }

  /** Opened when it is asked for: what is idle has nothing on the event loop. */
  _stream(number) {
    return (this.#streams[number] ??= this.#open(number));
  }

  #open(number) {
    const socket = new Socket({
      fd: call(`${this._life.kind}_open_fd`, this._life.handle, number),
      readable: number > 0,
      writable: number === 0 || number === TERMINAL,
    });
    owners.set(socket, this);
    socket.once("close", () => owners.delete(socket));
    // Nobody reads from it, so it wouldn't see the end, and Node keeps what is open.
    if (number === 0) this._life.exited.promise.catch(() => {}).then(() => socket.destroy());
    return socket;
  }

  async wait(options = {}) {
    const { timeoutMs = Infinity } = record(options, "options");
    return hub().during(within(this._life.exited.promise, timeoutMs, `${this._life.what} did not end`), this);
  }

  /** Waits until it was started, or gives it up. */
  async _start(signal) {
    await hub().during(unlessAborted(this._life.started.promise, signal), this).catch((error) => {
      if (this._life.kind === "process") this.kill("SIGKILL"); // a sandbox is ended by being freed
      this._free();
      throw error;
    });
    return this;
  }

  _free() {
    lost.unregister(this);
    this._life.free();
    this.#streams[0]?.destroy();
  }
}

/** A program that was executed in a sandbox. */
export class Process extends Program {
  get terminal() {
    return this._options.terminal ? this._stream(TERMINAL) : null;
  }

  kill(signal = "SIGTERM") {
    call("process_signal", this._life.handle, signalNumber(signal));
  }

  resize(rows, columns) {
    call("process_resize", this._life.handle, port(rows, "rows"), port(columns, "columns"));
  }
}
