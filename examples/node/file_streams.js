// Files and archives of any size as streams. A stream ends well only once the sandbox has said that all of it was done.

import { Socket } from "node:net";
import { Readable, Writable } from "node:stream";
import { hub } from "./hub.js";

/** A stream over an operation. `totals` is how much was done, once it has ended well. */
const overOperation = (Base, directions) =>
  class extends Base {
    totals = null;

    /** `begin` begins the operation; it holds the sandbox, too, which is not garbage as long as this isn't. */
    constructor(begin, signal) {
      super({ signal });
      this._begin = begin;
    }

    _construct(callback) {
      try {
        this._operation = this._begin();
        this._socket = new Socket({ fd: this._operation.call("open_fd"), ...directions });
      } catch (error) {
        return callback(error);
      }
      this._operation.done.promise.then((totals) => (this.totals = totals), (error) => this.destroy(error));
      this._socket.on("error", (error) => this._end().then(() => this.destroy(error), () => {}));
      callback();
    }

    /** Its operation's end, which knows more than the socket; the process lives until then. */
    _end() {
      return hub().during(this._operation.done.promise, this);
    }

    _destroy(error, callback) {
      this._operation?.free();
      this._socket?.destroy();
      callback(error);
    }
  };

/** What a sandbox gives: a download or an archive. */
export class FileReader extends overOperation(Readable, { readable: true, writable: false }) {
  _read() {
    if (this._socket.listenerCount("data") > 0) return this._socket.resume();
    this._socket.on("data", (chunk) => this.push(chunk) || this._socket.pause());
    this._socket.on("end", () => this._end().then(() => this.push(null), () => {}));
  }
}

/** What a sandbox takes: an upload or an archive. */
export class FileWriter extends overOperation(Writable, { readable: false, writable: true }) {
  _write(chunk, encoding, callback) {
    this._socket.write(chunk, (error) => error || callback());
  }

  _final(callback) {
    this._socket.end();
    this._end().then(() => callback(), callback);
  }
}
