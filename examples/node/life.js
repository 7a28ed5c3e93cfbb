// What is known of a sandbox, or of a program executed in one, from its events. It doesn't keep the object alive.

import { ESTATE, ETIMEDOUT, SbxError } from "./errors.js";
import { hub } from "./hub.js";
import { call, native, open } from "./native.js";
import { deferred } from "./waiting.js";

export class Life {
  started = deferred();
  ready = deferred();
  exited = deferred();
  exit = null;
  over = false;
  handle = 0;
  what = "";
  listeners = new Set();
  #asked = false;

  /** `kind` is what the library's functions begin with: sandbox or process. */
  constructor(kind) {
    this.kind = kind;
  }

  /** Whether that was the last event. */
  happened(event) {
    if (event.kind === "started" || event.kind === "processStarted") this.started.resolve();
    if (event.kind === "ready") this.ready.resolve();
    if (["exited", "failed", "processExited"].includes(event.kind)) this.#end(event);
    for (const listener of this.listeners) listener(event);
    return this.over;
  }

  #end({ code, reason }) {
    this.over = true;
    hub().release(this);
    const why = String(reason).replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
    let error = new SbxError(`${this.what} has ended: ${why}`, ESTATE);
    try {
      if (code < 0) call(`${this.kind}_failure`, this.handle);
      this.exit = { code, reason };
      this.exited.resolve(this.exit);
    } catch (failure) {
      error = failure;
    }
    for (const waited of [this.started, this.ready, this.exited]) waited.reject(error);
  }

  /** Looks whether the server inside answers, and begins to ask. */
  async look() {
    this.#asked = true;
    try {
      call("wait_ready", this.handle, 0);
      this.ready.resolve();
    } catch (error) {
      if (error.errno !== ETIMEDOUT) throw error;
    }
  }

  lookAgain() {
    if (this.#asked) this.look().catch(() => {}); // that it has ended is told by itself
  }

  /** Begins what a config asks for; its events come here. */
  begin(how, on, config, set) {
    hub().begin(this, (cookie) => {
      set("set_queue", hub().queue, cookie);
      this.handle = open(how, on, config);
    });
  }

  free() {
    native[`${this.kind}_free`](this.handle);
  }
}
