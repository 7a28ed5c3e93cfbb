// What is known of a sandbox, or of a program executed in one, from its events. It doesn't keep the object alive.

import { ESTATE, SbxError } from "./errors.js";
import { hub } from "./hub.js";
import { call, callElsewhere, native } from "./native.js";
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
  early = [];

  /** `kind` is what the library's functions begin with: sandbox or process. */
  constructor(kind) {
    this.kind = kind;
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
    let error = new SbxError(`${this.what} has ended`, ESTATE);
    try {
      if (code < 0) call(`${this.kind}_failure`, this.handle);
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
    const place = Buffer.alloc(8);
    const begun = hub().begin(this, (cookie) => {
      set("set_queue", hub().queue, cookie);
      return (elsewhere ? callElsewhere : call)(how, on, config, place);
    });
    await hub().during(begun).catch((error) => {
      hub().forget(this);
      throw error;
    });
    this.handle = Number(place.readBigUInt64LE());
    if (this.early.splice(0).some((event) => this.happened(event))) hub().forget(this);
  }

  free() {
    native[`${this.kind}_free`](this.handle);
  }
}
