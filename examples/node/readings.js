// What a sandbox says of itself: where its ports are reached, what it uses and has done.

import { readAll } from "./structs.js";
import { filled, native } from "./native.js";

/** A map of tunnels, by port inside. */
export function readTunnels(map) {
  const tunnels = {};
  for (let index = 0; index < native.tunnel_map_count(map); index++) {
    const { containerPort, host, port, url, caPem: ca, spkiSha256 } = filled("tunnel", "tunnel_map_tunnel", map, index);
    tunnels[containerPort] = Object.freeze({ host, port, url, ca, spkiSha256 });
  }
  return Object.freeze(tunnels);
}

// The bits of `known`, by what the fields' names begin with. The other fields are always known.
const KNOWN = { cpu: 1, memoryBytes: 2, memoryPeak: 4, processes: 8, egress: 16, dns: 16 };

/** A struct of statistics; what isn't known is undefined. */
export function readStats(memory) {
  const { known, ...stats } = readAll("stats", memory);
  for (const name of Object.keys(stats)) {
    const start = Object.keys(KNOWN).find((start) => name.startsWith(start));
    if (start && !(known & KNOWN[start])) stats[name] = undefined;
  }
  return stats;
}
