// Images: root file systems with their settings, in a store that all of the user's programs share.

import { list, onlyKnown, record, whole } from "./arguments.js";
import { invalid } from "./errors.js";
import { addressOf, filled, freeing, native, text } from "./native.js";
import { Operation } from "./operation.js";
import { make, read, write } from "./structs.js";

const COMMON = "tag platform limits progress signal".split(" ");
const PULL = [...COMMON, "username", "password", "caPem", "credentialHelper", "mirrors"];
const IMPORT = [...COMMON, "format", "select"];
const FORMATS = ["auto", "oci", "docker", "tarball", "directory"];
const LIMITS = { bytes: 64, entries: 64, ratio: 64, memoryBytes: 64, depth: 32, layers: 32 };
const BAR = 30;

const lost = new FinalizationRegistry((handle) => native.image_free(handle));
const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function info({ id, tags, source, bytes, createdMs, lastUsedMs }) {
  const names = Object.freeze(tags === "" ? [] : tags.split("\n"));
  return { id, tags: names, source, size: bytes, created: new Date(createdMs), lastUsed: new Date(lastUsedMs) };
}

export class Image {
  #handle;

  /** Of a handle of the library's, which it owns from now on. */
  constructor(handle) {
    this.#handle = handle;
    lost.register(this, handle, this);
    const { config, ...summary } = filled("image_summary", "image_info", handle);
    this.config = Object.freeze(JSON.parse(config));
    Object.freeze(Object.assign(this, info(summary)));
  }

  /** Frees the handle. The image stays in the store. */
  [Symbol.dispose ?? Symbol.for("nodejs.dispose")]() {
    if (this.#handle === 0) return;
    lost.unregister(this);
    native.image_free(this.#handle);
    this.#handle = 0;
  }

  /** What the library knows it by; `what` is for the error of something else. */
  static handleOf(image, what) {
    if (!(image instanceof Image)) throw invalid(`${what} must be an Image, as pullImage() gives it`);
    return image.#handle;
  }

  /** Whether it says what runs in it. */
  get hasProgram() {
    const { Entrypoint, Cmd } = this.config.config ?? {};
    return Boolean(Entrypoint?.length || Cmd?.length);
  }
}

/** An operation on images, whose progress goes to a callback, or to a terminal as a bar. */
export class ImageOperation extends Operation {
  #progress;

  constructor(what, progress, begin, ...values) {
    super(begin, ...values);
    this.#progress = progress ?? (process.stderr.isTTY ? bar(what) : undefined);
  }

  happened(event) {
    if (event.kind !== "progress") return super.happened(event);
    const [done, total] = event.value;
    // What it throws is its own: an uncaught exception, as of any listener.
    queueMicrotask(() => this.#progress?.(done, total));
    return false;
  }

  /** The image, once it is there. */
  async image(signal) {
    try {
      return await this.run(this, (done) => new Image(done.open("image")), signal);
    } finally {
      this.#progress?.end?.();
    }
  }
}

/** Draws a bar on the terminal. */
function bar(what) {
  let drawn = false;
  const draw = (done, total) => {
    const part = total > 0 ? Math.min(done / total, 1) : 0;
    const full = "#".repeat(Math.round(part * BAR)).padEnd(BAR);
    process.stderr.write(`\r${what} [${full}] ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB `);
    drawn = true;
  };
  draw.end = () => drawn && process.stderr.write("\n");
  return draw;
}

/** Options as the library takes them, and the texts that they point to. */
function struct(options) {
  const memory = make("image_options");
  const kept = [];
  const put = (name, value) => {
    if (value === undefined) return;
    kept.push(Buffer.from(`${text(value, name)}\0`));
    write("image_options", memory, snake(name), addressOf(kept.at(-1)));
  };
  for (const name of "tag platform select username password caPem credentialHelper".split(" ")) put(name, options[name]);
  const mirrors = list(options.mirrors, "mirrors");
  if (mirrors.length > 0) put("mirrors", mirrors.map((mirror) => text(mirror, "mirrors")).join("\n"));
  const format = FORMATS.indexOf(options.format ?? "auto");
  if (format < 0) throw invalid(`format must be one of ${FORMATS.join(", ")}`);
  write("image_options", memory, "format", format);
  for (const [name, value] of Object.entries(record(options.limits ?? {}, "limits"))) {
    if (!(name in LIMITS)) throw invalid(`limits has no "${name}", but ${Object.keys(LIMITS).join(", ")}`);
    const most = LIMITS[name] === 32 ? 2 ** 32 - 1 : 2 ** 53 - 1;
    write("image_options", memory, `limit_${snake(name)}`, whole(value, `limits.${name}`, 0, most));
  }
  return Object.assign(memory, { kept });
}

async function madeImage(what, options, known, begin, values) {
  onlyKnown(record(options, "options"), known);
  const { progress, signal } = options;
  if (progress !== undefined && typeof progress !== "function") throw invalid("progress must be a function");
  signal?.throwIfAborted();
  const given = struct(options);
  return new ImageOperation(what, progress, begin, 0, ...values, given).image(signal);
}

export async function pullImage(reference, options = {}) {
  return madeImage(reference, options, PULL, "image_pull_begin", [text(reference, "reference")]);
}

export async function importImage(path, options = {}) {
  return madeImage(path, options, IMPORT, "image_import_begin", [text(path, "path"), -1]);
}

export async function findImage(name) {
  return new ImageOperation(name, undefined, "image_find_begin", 0, text(name, "name")).image();
}

export async function listImages() {
  const operation = new Operation("image_list_begin", 0);
  return operation.run(operation, (done) =>
    freeing("image_list", done.open("images"), (images) =>
      Array.from({ length: native.image_list_count(images) }, (_, index) => {
        const { config, ...summary } = filled("image_summary", "image_list_entry", images, index);
        return Object.freeze(info(summary));
      }),
    ),
  );
}

export async function tagImage(name, tag) {
  const operation = new Operation("image_tag_begin", 0, text(name, "name"), text(tag, "tag"));
  await operation.run(operation);
}

export async function removeImage(name) {
  const operation = new Operation("image_remove_begin", 0, text(name, "name"));
  await operation.run(operation);
}

export async function pruneImages(maxBytes = 0) {
  const operation = new Operation("image_prune_begin", 0, whole(maxBytes, "maxBytes", 0, 2 ** 53 - 1));
  return operation.run(operation, (done) => {
    const totals = make("file_totals");
    done.call("totals", totals);
    return { images: read("file_totals", totals, "entries"), bytes: read("file_totals", totals, "bytes") };
  });
}

/** A new image of what a sandbox has in its root file system, or of a directory. */
export async function snapshotOf(sandbox, handle, options, path) {
  onlyKnown(record(options, "options"), ["tag", "progress", "signal"]);
  const { tag, progress, signal } = options;
  signal?.throwIfAborted();
  const name = tag === undefined ? null : text(tag, "tag");
  const begin = path === undefined ? ["sandbox_snapshot_begin", handle] : ["sandbox_snapshot_directory_begin", handle, path];
  return new ImageOperation(`a snapshot of ${sandbox.id}`, progress, ...begin, name).image(signal);
}

/** Copies an image's files into a directory of a sandbox. */
export async function copyImage(handle, image, path, options) {
  onlyKnown(record(options, "options"), ["signal"]);
  options.signal?.throwIfAborted();
  const operation = new Operation("sandbox_copy_image_begin", handle, Image.handleOf(image, "image"), text(path, "path"));
  await operation.run(image, undefined, options.signal);
}
