// Sandboxes that are kept warm: started before anybody asks for them.

import { whole } from "./arguments.js";
import { configure } from "./config.js";
import { call, making } from "./native.js";
import { make, readAll } from "./structs.js";

const configured = (options, use) =>
  making("config", (config, set) => {
    configure(config, set, undefined, options);
    return use(config);
  });

export function keepWarm(count, options = {}) {
  const number = whole(count, "count", 0, 256);
  configured({ ...options, stdin: "ignore", stdout: "ignore", stderr: "ignore" }, (config) =>
    call("runtime_keep_warm", 0, config, number),
  );
}

export function warmStats(options) {
  const read = (config) => {
    const stats = make("warm_stats");
    call("runtime_warm_stats", 0, config, stats);
    return readAll("warm_stats", stats);
  };
  return options === undefined ? read(0) : configured(options, read);
}

export const setMaxStarts = (count) => void call("runtime_set_max_starts", 0, whole(count, "count", 0, 256));

export const maxStarts = () => call("runtime_max_starts", 0);

export const setSpares = (count) => void call("runtime_set_spares", 0, whole(count, "count", 0, 16));

export const spares = () => call("runtime_spares", 0);
