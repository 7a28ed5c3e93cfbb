// What a sandbox may reach: the library's policy as options, and options as its policy.

import { list, onlyKnown, port, record, whole } from "./arguments.js";
import { invalid } from "./errors.js";
import { call, filled, making, native, text } from "./native.js";
import { make, namesOf, readAll } from "./structs.js";

const MODES = [, "open", "allowlist", "blocked"];
const DNS = ["auto", "on", "off", "addresses"];
// Each list's option by the word that its entries begin with in the library's own text.
const LISTS = {
  allow: "outboundCidrAllowlist", domain: "outboundDomainAllowlist", deny: "outboundCidrDenylist",
  local: "outboundLocalCidrs",
};
const SETTERS = { allow: "allow_cidr", domain: "allow_domain", deny: "deny_cidr", local: "allow_local_cidr" };

export const POLICY_OPTIONS = ["blockNetwork", "outboundDns", "outboundTlsPorts", ...Object.values(LISTS)];

const PROTOCOLS = { tcp: 6, udp: 17 };
const REASONS = namesOf("REASON_");

/** The name of a reason why something is denied or allowed. */
export const reasonOf = (number) => REASONS[number] ?? "unknown";

/** Makes the policy that options ask for. Without any it is open; an empty list is a list: it allows nothing. */
export function makePolicy(options, use) {
  const listed = Object.values(LISTS).filter((option) => options[option] !== undefined);
  if (options.blockNetwork && listed.length > 0) throw invalid(`${listed[0]} can't be used when blockNetwork is on`);
  for (const option of listed) list(options[option], option);
  const allowlist = options[LISTS.allow] ?? options[LISTS.domain];
  const dns = DNS.indexOf(options.outboundDns ?? "auto");
  if (dns < 0) throw invalid(`outboundDns must be one of ${DNS.join(", ")}`);
  const mode = MODES.indexOf(options.blockNetwork ? "blocked" : allowlist ? "allowlist" : "open");
  const ports = list(options.outboundTlsPorts, "outboundTlsPorts");
  if (ports.length > 0 && !options[LISTS.domain]) {
    throw invalid("outboundTlsPorts are ports of domains: they take outboundDomainAllowlist");
  }
  const fill = (policy, set) => {
    for (const [kind, option] of Object.entries(LISTS)) {
      for (const entry of options[option] ?? []) set(SETTERS[kind], text(entry, option));
    }
    for (const number of ports) set("add_domain_port", port(number, "outboundTlsPorts"));
    set("set_dns", dns);
    return use(policy);
  };
  return making("policy", fill, mode);
}

/** What the policy of these options says of an address, and why. It takes no sandbox and sends nothing. */
export function checkPolicy(options, destination) {
  onlyKnown(options, POLICY_OPTIONS);
  const { address, port: number = 443, protocol = "tcp" } = record(destination, "destination");
  const found = make("verdict");
  const where = [text(address, "address"), port(number, "port"), whole(PROTOCOLS[protocol] ?? protocol, "protocol", 0, 255)];
  makePolicy(options, (policy) => call("policy_check", policy, ...where, found));
  const { allowed, reason, ...more } = readAll("verdict", found);
  return { allowed: allowed === 1, reason: reasonOf(reason), ...more };
}

/** What a policy says: its mode, its entries in their order, and the options that ask for the same. */
export function readPolicy(policy) {
  const { dns, entryCount, domainPortCount, ...said } = filled("policy_summary", "policy_info", policy);
  const mode = MODES[said.mode];
  const entries = Array.from({ length: entryCount }, (_, index) => String(native.policy_entry(policy, index)));
  const ports = Array.from({ length: domainPortCount }, (_, index) => native.policy_domain_port(policy, index));
  const options = mode === "blocked" ? { blockNetwork: true } : mode === "allowlist" ? { [LISTS.allow]: [] } : {};
  for (const entry of entries) {
    const [kind, value] = entry.split(" ");
    (options[LISTS[kind]] ??= []).push(value);
  }
  if (ports.length > 0 && options[LISTS.domain]) options.outboundTlsPorts = ports;
  return { mode, entries, options: dns > 0 ? { ...options, outboundDns: DNS[dns] } : options };
}
