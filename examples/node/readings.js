// What a sandbox says of itself: where its ports are reached, what it uses and has done.

import { readAll } from "./structs.js";
import { native } from "./native.js";

/** A map of tunnels, by port inside. */
export function readTunnels(map) {
  const tunnels = {};
  for (let index = 0; index < native.tunnel_map_count(map); index++) {
    const number = native.tunnel_map_container_port(map, index);
    const [host, url, ca, spkiSha256] = ["host", "url", "ca_pem", "spki_sha256"].map((what) =>
      native[`tunnel_map_${what}`](map, number)?.toString(),
    );
    tunnels[number] = Object.freeze({ host, port: native.tunnel_map_port(map, number), url, ca, spkiSha256 });
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
