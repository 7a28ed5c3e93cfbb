// The files of a sandbox, in the manner of node:fs/promises.

import { setImmediate as turn } from "node:timers/promises";
import { make, readAll } from "./structs.js";
import { record } from "./arguments.js";
import { ESTATE, invalid } from "./errors.js";
import { describe, NO_FOLLOW, withEncoding } from "./file_options.js";
import { FileReader, FileWriter } from "./file_streams.js";
import { hub } from "./hub.js";
import { bytesAt, native, path as pathBytes, textAt } from "./native.js";
import { FileOperation } from "./operation.js";
import { unlessAborted } from "./waiting.js";

const KINDS = [, "file", "directory", "symlink", "fifo", "socket", "device", "other"];
const AT_ONCE = 64; // entries of a list or changes, before others have their turn

/** What one of an operation's entries is, and its name. */
function entry(operation, index, decode) {
  const memory = make("file_entry");
  operation.call("entry", index, memory);
  const { kind, mode, user: uid, group: gid, links: nlink, bytes: size, modifiedNs, ...texts } = readAll("file_entry", memory);
  const mtimeMs = modifiedNs / 1e6;
  const target = textAt(texts.target);
  const info = { kind: KINDS[kind] ?? "other", mode, uid, gid, nlink, size, mtimeMs, mtime: new Date(mtimeMs) };
  return [decode(textAt(texts.name)), target ? { ...info, target: decode(target) } : info];
}

export class Files {
  #sandbox;

  constructor(sandbox) {
    this.#sandbox = sandbox;
  }

  async readFile(path, options) {
    const [described, decode] = withEncoding(options, null);
    return this.#run("read", path, described, [], ({ handle }) => {
      const length = Buffer.alloc(8);
      const address = native.operation_bytes(handle, length);
      return decode(bytesAt(Number(address), Number(length.readBigUInt64LE())));
    });
  }

  async writeFile(path, data, options) {
    const [described] = withEncoding(options, "utf8");
    const isView = ArrayBuffer.isView(data);
    if (!isView && typeof data !== "string") throw invalid("data must be a string or a view of bytes");
    const bytes = isView
      ? Buffer.from(data.buffer, data.byteOffset, data.byteLength)
      : Buffer.from(data, described.encoding ?? "utf8");
    await this.#run("write", path, described, [bytes, bytes.length]);
  }

  async list(path, options) {
    const [described, decode] = withEncoding(options, "utf8");
    return this.#run("list", path, described, [], async (operation) => {
      const entries = [];
      for (let index = 0; index < native.operation_count(operation.handle); index++) {
        if (index % AT_ONCE === AT_ONCE - 1) await turn();
        const [name, info] = entry(operation, index, decode);
        entries.push({ name, ...info });
      }
      return entries;
    });
  }

  async stat(path, options = {}) {
    return this.#run("stat", path, options, [], (operation) => entry(operation, 0, String)[1]);
  }

  async lstat(path, options = {}) {
    return this.#run("stat", path, options, [], (operation) => entry(operation, 0, String)[1], NO_FOLLOW);
  }

  async makeDirectory(path, options = {}) {
    await this.#run("make_directory", path, options);
  }

  async remove(path, options = {}) {
    await this.#run("remove", path, options);
  }

  async rename(from, to, options = {}) {
    await this.#run("rename", from, options, [pathBytes(to, "to")]);
  }

  createReadStream(path, options = {}) {
    return new FileReader(() => this.#begin("download", path, options), record(options, "options").signal);
  }

  createWriteStream(path, options = {}) {
    return new FileWriter(() => this.#begin("upload", path, options), record(options, "options").signal);
  }

  copyOut(path, options = {}) {
    return new FileReader(() => this.#begin("copy_out", path, options), record(options, "options").signal);
  }

  copyIn(path, options = {}) {
    return new FileWriter(() => this.#begin("copy_in", path, options), record(options, "options").signal);
  }

  async *watch(path, options) {
    const [described, decode] = withEncoding(options, "utf8");
    described.signal?.throwIfAborted();
    const operation = this.#begin("watch", path, described);
    try {
      for (let round = 1; ; round++) {
        // A busy directory has always another change, and its reader need not wait for anything else.
        if (round % AT_ONCE === 0) await turn();
        described.signal?.throwIfAborted();
        const change = operation.change();
        if (change) yield { kind: change.kind, path: decode(change.path) };
        else await hub().during(unlessAborted(operation.told.promise, described.signal), this.#sandbox);
      }
    } catch (error) {
      if (error.errno !== ESTATE) throw error; // else the directory is gone, or the sandbox
    } finally {
      operation.free();
    }
  }

  #begin(what, path, options, values = [], flags = 0) {
    const described = describe(what, options, flags);
    return new FileOperation(this.#sandbox._life.handle, what, path, [pathBytes(path, "path"), ...values], described);
  }

  /** Runs an operation to its end, and gives what `take` makes of it. */
  async #run(what, path, options, values, take, flags) {
    record(options, "options").signal?.throwIfAborted();
    return this.#begin(what, path, options, values, flags).run(this.#sandbox, take, options.signal);
  }
}
