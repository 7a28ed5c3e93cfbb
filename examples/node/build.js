// Images that are built by a Dockerfile.

import { kindOf, milliseconds, onlyKnown, record, whole } from "./arguments.js";
import { configure } from "./config.js";
import { invalid } from "./errors.js";
import { ImageOperation } from "./image.js";
import { call, making, text, texts } from "./native.js";

const OPTIONS = "context ignore contexts args secrets sandbox noCache maxAgeMs timeoutMs maxBytes tag output progress signal".split(" ");

/** Writes options into a build of the library's, which keeps what is wrong with one until it begins. */
function describe(set, dockerfile, options) {
  const bytes = Buffer.from(text(dockerfile, "dockerfile"));
  set("set_dockerfile", bytes, bytes.length);
  for (const name of ["context", "tag"]) if (options[name] !== undefined) set(`set_${name}`, text(options[name], name));
  if (options.ignore !== undefined) set("set_ignore", texts(options.ignore, "ignore"), options.ignore.length);
  for (const [option, how] of [["contexts", "add_context"], ["args", "add_arg"]]) {
    for (const [name, value] of Object.entries(record(options[option] ?? {}, option))) {
      set(how, text(name, option), text(value, `${option}.${name}`));
    }
  }
  for (const [id, value] of Object.entries(record(options.secrets ?? {}, "secrets"))) {
    const secret = value instanceof Uint8Array ? Buffer.from(value) : Buffer.from(text(value, `secrets.${id}`));
    set("add_secret", text(id, "secrets"), secret, secret.length);
    secret.fill(0);
  }
  if (options.noCache) set("set_no_cache");
  if (options.maxAgeMs !== undefined) set("set_max_age_ms", milliseconds(options.maxAgeMs, "maxAgeMs"));
  if (options.timeoutMs !== undefined) set("set_timeout_ms", milliseconds(options.timeoutMs, "timeoutMs"));
  if (options.maxBytes !== undefined) set("set_max_bytes", whole(options.maxBytes, "maxBytes", 1, 2 ** 53 - 1));
  if (options.output === undefined) return;
  const fd = options.output?.fd ?? options.output;
  if (!Number.isInteger(fd)) throw invalid(`output must be a descriptor, or a stream that has one, not ${kindOf(options.output)}`);
  set("set_output_fd", fd);
}

export async function buildImage(dockerfile, options = {}) {
  onlyKnown(record(options, "options"), OPTIONS);
  const { sandbox, progress, signal } = options;
  if (progress !== undefined && typeof progress !== "function") throw invalid("progress must be a function");
  signal?.throwIfAborted();
  const operation = making("build", (build, set) => {
    describe(set, dockerfile, options);
    if (sandbox !== undefined) {
      making("config", (config, put) => {
        configure(config, put, undefined, record(sandbox, "sandbox"));
        call("config_check", config);
        set("set_config", config);
      });
    }
    return new ImageOperation("a build", progress ?? (() => {}), "image_build_begin", 0, build);
  });
  return operation.image(signal);
}
