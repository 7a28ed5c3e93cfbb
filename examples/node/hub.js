// The queue, its doorbell, and who gets which events.

import { Socket } from "node:net";
import { isMainThread } from "node:worker_threads";
import { call, open } from "./native.js";
import { reasonOf } from "./policy.js";
import { make, namesOf, readAll } from "./structs.js";

const EVENTS = namesOf("EVENT_");
const ENDS = namesOf("EXIT_");
const AT_ONCE = 64; // events, before others have their turn

class Hub {
  #listeners = new Map();
  #cookies = 0;
  #held = new Map();
  #event = make("event");

  constructor() {
    this.queue = open("queue_new", 65536);
    this.bell = new Socket({ fd: call("queue_open_fd", this.queue), readable: true, writable: false });
    this.bell.on("data", () => this.drain());
    this.bell.on("error", () => {});
    this.bell.unref();
    // A worker's sandboxes end with it; the process's own do anyway.
    if (!isMainThread) process.once("exit", () => this.#listeners.forEach((listener) => listener.free?.()));
  }

  /** Begins what tells its events to `listener.happened`, by a cookie, until that says that it was the last. */
  begin(listener, begin) {
    listener.cookie = ++this.#cookies;
    this.#listeners.set(listener.cookie, listener);
    try {
      return begin(listener.cookie);
    } catch (error) {
      this.forget(listener);
      throw error;
    }
  }

  forget({ cookie }) {
    this.#listeners.delete(cookie);
  }

  drain() {
    for (let taken = 0; taken < AT_ONCE; taken++) {
      if (call("queue_next", this.queue, this.#event) === 0) return;
      const { cookie, sequence, kind: number, reason: why, timeMs: time, ...more } = readAll("event", this.#event);
      const kind = EVENTS[number] ?? "unknown";
      const ends = kind === "exited" || kind === "processExited";
      const reason = ends ? ENDS[why] : kind === "denied" ? reasonOf(why) : why;
      const listener = this.#listeners.get(cookie);
      if (listener?.happened({ kind, time, reason, ...more })) this.forget(listener);
      // What says that there is something to see may be among the lost; ends never are.
      if (more.lost > 0) this.#listeners.forEach((waiting) => waiting.lookAgain?.());
    }
    setImmediate(() => this.drain());
  }

  /** Until that is released, the process lives, and `owner` is not garbage: what it has would end with it. */
  hold(reason, owner) {
    this.#held.set(reason, owner);
    this.bell.ref();
  }

  release(reason) {
    this.#held.delete(reason);
    if (this.#held.size === 0) this.bell.unref();
  }

  /** Waits for that, and holds its owner meanwhile. */
  during(promise, owner) {
    const reason = {};
    this.hold(reason, owner);
    return Promise.resolve(promise).finally(() => this.release(reason));
  }
}

let theHub;
export const hub = () => (theHub ??= new Hub());
