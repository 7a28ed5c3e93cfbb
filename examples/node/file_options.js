// Options of operations on files, as the library takes them.

import { make, write } from "./structs.js";
import { milliseconds, onlyKnown, record, whole } from "./arguments.js";
import { invalid } from "./errors.js";
import { addressOf, text } from "./native.js";

// What an option that is on stands for. A directory is made with those above it where Node says "recursive".
const FLAGS = { recursive: 1, parents: 2, exclusive: 4, keepOwner: 32, force: 64 };
const WRITING = { w: 0, wx: 4, a: 8, ax: 12 };
export const NO_FOLLOW = 16;

// The options of each operation, beside user and signal, and timeoutMs of those that end by themselves.
const OPTIONS = {
  read: ["encoding", "offset", "limit"],
  write: ["encoding", "mode", "flag", "parents", "limit"],
  list: ["encoding", "limit"],
  stat: [],
  make_directory: ["mode", "recursive"],
  remove: ["recursive", "force"],
  rename: ["exclusive"],
  download: ["offset", "limit"],
  upload: ["mode", "flag", "parents"],
  copy_out: ["limit"],
  copy_in: ["limit", "parents", "keepOwner"],
  watch: ["encoding", "recursive"],
};

/** The flags that options ask for. */
function flags(what, options) {
  let all = WRITING[options.flag ?? "w"];
  if (all === undefined) throw invalid(`flag must be one of ${Object.keys(WRITING).join(", ")}`);
  for (const [option, flag] of Object.entries(FLAGS)) {
    if (![undefined, true, false].includes(options[option])) throw invalid(`${option} must be true or false`);
    if (options[option]) all |= option === "recursive" && what === "make_directory" ? FLAGS.parents : flag;
  }
  return all;
}

/** Options as C takes them. Their memory lasts as long as the user's name does, which comes along. */
export function describe(what, options, more) {
  onlyKnown(options, [...OPTIONS[what], "user", "signal", ...(what === "watch" ? [] : ["timeoutMs"])]);
  const memory = make("file_options");
  const set = (name, value) => write("file_options", memory, name, value);
  set("flags", flags(what, options) | more);
  if (options.mode !== undefined) set("mode", whole(options.mode, "mode", 1, 0o7777));
  if (options.offset !== undefined) set("offset", whole(options.offset, "offset", 0, 2 ** 53 - 1));
  if (options.limit !== undefined) set("limit", whole(options.limit, "limit", 1, 2 ** 53 - 1));
  if (options.timeoutMs !== undefined) set("time_limit_ms", milliseconds(options.timeoutMs, "timeoutMs"));
  if (options.user === undefined) return memory;
  const user = Buffer.from(`${text(options.user, "user")}\0`);
  set("user", addressOf(user));
  return Object.assign(memory, { user });
}

/** Options, for which an encoding alone can stand, and what decodes bytes: without an encoding they stay bytes. */
export function withEncoding(options, usual) {
  const described = typeof options === "string" ? { encoding: options } : { ...record(options ?? {}, "options") };
  const encoding = described.encoding ?? usual;
  const isText = encoding !== null && encoding !== "buffer";
  if (isText && !Buffer.isEncoding(encoding)) throw invalid(`encoding "${encoding}" is unknown`);
  return [described, (bytes) => (isText ? bytes.toString(encoding) : bytes)];
}

