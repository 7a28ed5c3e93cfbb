// What a sandbox may reach: the library's policy as options, and options as its policy.

import { list } from "./arguments.js";
import { invalid } from "./errors.js";
import { making, native, text } from "./native.js";

const MODES = [, "open", "allowlist", "blocked"];
const DNS = ["auto", "on", "off", "addresses"];
// Each list's option by the word that its entries begin with in the library's own text.
const LISTS = {
  allow: "outboundCidrAllowlist", domain: "outboundDomainAllowlist", deny: "outboundCidrDenylist",
  local: "outboundLocalCidrs",
};
const SETTERS = { allow: "allow_cidr", domain: "allow_domain", deny: "deny_cidr", local: "allow_local_cidr" };

export const POLICY_OPTIONS = ["blockNetwork", "outboundDns", ...Object.values(LISTS)];

/** Makes the policy that options ask for. Without any it is open; an empty list is a list: it allows nothing. */
export function makePolicy(options, use) {
  const listed = Object.values(LISTS).filter((option) => options[option] !== undefined);
  if (options.blockNetwork && listed.length > 0) throw invalid(`${listed[0]} can't be used when blockNetwork is on`);
  for (const option of listed) list(options[option], option);
  const allowlist = options[LISTS.allow] ?? options[LISTS.domain];
  const dns = DNS.indexOf(options.outboundDns ?? "auto");
  if (dns < 0) throw invalid(`outboundDns must be one of ${DNS.join(", ")}`);
  const how = options.blockNetwork ? "new_blocked" : allowlist ? "new_allowlist" : "new_open";
  making("policy", how, (policy, set) => {
    for (const [kind, option] of Object.entries(LISTS)) {
      for (const entry of options[option] ?? []) set(SETTERS[kind], text(entry, option));
    }
    set("set_dns", dns);
    use(policy);
  });
}

/** What a policy says: its mode, its entries in their order, and the options that ask for the same. */
export function readPolicy(policy) {
  const mode = MODES[native.policy_mode(policy)];
  const count = native.policy_entry_count(policy);
  const entries = Array.from({ length: count }, (_, index) => String(native.policy_entry(policy, index)));
  const options = mode === "blocked" ? { blockNetwork: true } : mode === "allowlist" ? { [LISTS.allow]: [] } : {};
  for (const entry of entries) {
    const [kind, value] = entry.split(" ");
    (options[LISTS[kind]] ??= []).push(value);
  }
  const dns = native.policy_dns(policy);
  return { mode, entries, options: dns > 0 ? { ...options, outboundDns: DNS[dns] } : options };
}
