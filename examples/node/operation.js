// What was begun in the library: it goes on by itself and ends as an event.

import { ECLOSED, ETIMEDOUT, FileError, SbxError } from "./errors.js";
import { hub } from "./hub.js";
import { call, native, open } from "./native.js";
import { make, readAll } from "./structs.js";
import { deferred, unlessAborted } from "./waiting.js";

const CHANGES = [, "ready", "created", "modified", "removed", "movedFrom", "movedTo", "attributes", "overflow"];
const LONGEST_PATH = 4096;
const ENDS = ["operationDone", "policyApplied", "checked"];

export class Operation {
  /** Settled at its end, or with what it failed with. */
  done = deferred();
  /** Settled at its next event. */
  told = deferred();

  /** `begin` is the library's function, and `values` what it takes before the queue. */
  constructor(begin, ...values) {
    this.handle = hub().begin(this, (cookie) => open(begin, ...values, hub().queue, cookie));
  }

  /** Whether that was the last event. */
  happened({ kind }) {
    this.lookAgain();
    if (!ENDS.includes(kind)) return false;
    try {
      this.done.resolve(this.result());
    } catch (error) {
      this.done.reject(error);
    }
    return true;
  }

  result() {
    this.call("wait", 0);
  }

  /** Wakes who waits for a change. */
  lookAgain() {
    this.told.resolve();
    this.told = deferred();
  }

  /** Calls one of its functions. */
  call(what, ...values) {
    return call(`operation_${what}`, this.handle, ...values);
  }

  /** Calls one that gives a handle. */
  open(what) {
    return open(`operation_${what}`, this.handle);
  }

  /** What `take` makes of it once it has ended. It is freed then; its owner isn't garbage until that. */
  async run(owner, take, signal) {
    try {
      await hub().during(unlessAborted(this.done.promise, signal), owner);
      return await take?.(this);
    } finally {
      this.free();
    }
  }

  /** Ends it if it still goes on, and rejects whatever waits for it. */
  free() {
    this.done.reject(this.givenUp());
    hub().forget(this);
    native.operation_free(this.handle);
  }

  givenUp() {
    return new SbxError("the operation was given up", ECLOSED);
  }
}

/** An operation on files. */
export class FileOperation extends Operation {
  #path;

  /** `path` is for its errors. */
  constructor(sandbox, what, path, values, options) {
    super(`file_${what}_begin`, sandbox, ...values, options);
    this.#path = path;
  }

  /** How much it has done. */
  result() {
    const totals = make("file_totals");
    this.call("totals", totals);
    return readAll("file_totals", totals);
  }

  call(what, ...values) {
    try {
      return super.call(what, ...values);
    } catch (error) {
      throw error instanceof SbxError ? new FileError(error, this.#path) : error;
    }
  }

  givenUp() {
    return new FileError(super.givenUp(), this.#path);
  }

  /** The next change in a directory that is watched, its path as bytes; null if nothing has changed. */
  change() {
    const place = Buffer.alloc(LONGEST_PATH);
    try {
      const kind = CHANGES[this.call("next_change", 0, place, place.length)] ?? "unknown";
      return { kind, path: place.subarray(0, place.indexOf(0)) };
    } catch (error) {
      if (error.errno === ETIMEDOUT) return null;
      throw error;
    }
  }
}
