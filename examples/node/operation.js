// An operation on files: begun here, it goes on by itself and ends as an event.

import { ECLOSED, ETIMEDOUT, FileError, SbxError } from "./errors.js";
import { hub } from "./hub.js";
import { call, native, open } from "./native.js";
import { deferred } from "./waiting.js";

const CHANGES = [, "ready", "created", "modified", "removed", "movedFrom", "movedTo", "attributes", "overflow"];
const LONGEST_PATH = 4096;

export class Operation {
  /** Settled at its end: with how much it has done, or with what it failed with. */
  done = deferred();
  /** Settled at its next event. */
  told = deferred();
  #path;

  /** `path` is for its errors; `values` are what the library takes before the options. */
  constructor(sandbox, what, path, values, options) {
    this.#path = path;
    this.handle = hub().begin(this, (cookie) => open(`file_${what}_begin`, sandbox, ...values, options, cookie));
  }

  /** Whether that was the last event. */
  happened({ kind }) {
    this.lookAgain();
    if (kind !== "operationDone") return false;
    const places = [Buffer.alloc(8), Buffer.alloc(8), Buffer.alloc(8)];
    try {
      this.call("totals", ...places);
      const [bytes, entries, skipped] = places.map((place) => Number(place.readBigUInt64LE()));
      this.done.resolve({ bytes, entries, skipped });
    } catch (error) {
      this.done.reject(error);
    }
    return true;
  }

  /** Wakes who waits for a change. */
  lookAgain() {
    this.told.resolve();
    this.told = deferred();
  }

  /** Calls one of its functions. */
  call(what, ...values) {
    try {
      return call(`file_operation_${what}`, this.handle, ...values);
    } catch (error) {
      throw error instanceof SbxError ? new FileError(error, this.#path) : error;
    }
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

  /** Ends it if it still goes on; nobody waits for it in vain. */
  free() {
    this.done.reject(new FileError({ message: "the operation was given up", errno: ECLOSED }, this.#path));
    hub().forget(this);
    native.file_operation_free(this.handle);
  }
}
