// Policies that change while a sandbox runs, and what it says of itself.

import assert from "node:assert/strict";
import { once } from "node:events";
import { networkInterfaces } from "node:os";
import { createServer } from "node:net";
import test from "node:test";
import { refused, Sandbox } from "./support.js";

test("a policy that is changed and read back", async () => {
  const sandbox = await Sandbox.create(undefined, { outboundCidrDenylist: ["198.51.100.0/24"] });
  const first = await sandbox.policy();
  assert.deepEqual(first, {
    generation: 0,
    mode: "open",
    entries: ["deny 198.51.100.0/24"],
    options: { outboundCidrDenylist: ["198.51.100.0/24"] },
  });
  const listed = {
    outboundCidrAllowlist: ["192.0.2.0/24"],
    outboundDomainAllowlist: ["*.example.com"],
    outboundCidrDenylist: ["192.0.2.7/32"],
  };
  assert.equal(await sandbox.setPolicy(listed), 1);
  const { generation, mode, entries, options } = await sandbox.policy();
  assert.deepEqual([generation, mode, options], [1, "allowlist", listed]);
  assert.deepEqual(entries, ["allow 192.0.2.0/24", "domain *.example.com", "deny 192.0.2.7/32"]);
  assert.deepEqual(await Promise.all([sandbox.setPolicy(first.options), sandbox.setPolicy({ blockNetwork: true })]), [2, 3]);
  assert.deepEqual(await sandbox.policy(), { generation: 3, mode: "blocked", entries: [], options: { blockNetwork: true } });
  await sandbox.setPolicy({ outboundCidrAllowlist: [] });
  assert.deepEqual((await sandbox.policy()).options, { outboundCidrAllowlist: [] });
  for (const [options, part] of [
    [{ outboundCidrAllowlist: ["10.0.0.1/8"] }, "10.0.0.1/8"],
    [{ outboundCidrDenylist: [7] }, "outboundCidrDenylist"],
    [{ blockNetwork: true, outboundCidrAllowlist: [] }, "outboundCidrAllowlist"],
    [{ encryptedPorts: [80] }, "encryptedPorts"],
  ]) {
    await assert.rejects(sandbox.setPolicy(options), refused("SBX_EINVALID", part));
  }
  assert.equal((await sandbox.policy()).generation, 4);
  await sandbox.terminate();
  await assert.rejects(sandbox.setPolicy({}), refused("SBX_ESTATE", ""));
  await assert.rejects(sandbox.policy(), refused("SBX_ESTATE", ""));
});

test("a sandbox without a network can't be given one", async () => {
  const sandbox = await Sandbox.create(undefined, { blockNetwork: true });
  await assert.rejects(sandbox.setPolicy({}), refused("SBX_EUNSUPPORTED", ""));
  await assert.rejects(sandbox.policy(), refused("SBX_EUNSUPPORTED", ""));
  await sandbox.terminate();
});

/** An address of this machine that isn't loopback, if it has one. */
const address = Object.values(networkInterfaces()).flat().find(({ family, internal }) => family === "IPv4" && !internal)?.address;

test("a connection that is cut", { skip: address ? false : "only loopback here, which nothing can reach" }, async (t) => {
  const server = createServer((socket) => socket.on("error", () => {}).write("hello\n")).listen(0, address);
  await once(server, "listening");
  t.after(() => server.close());
  const program = `
import socket
with socket.create_connection(("${address}", ${server.address().port})) as s:
    print(s.recv(100).decode(), end="", flush=True)
    try:
        print("end", s.recv(100))
    except ConnectionResetError:
        print("reset")
`;
  const sandbox = await Sandbox.create(["python3", "-c", program], {
    outboundCidrAllowlist: [`${address}/32`],
    stdout: "pipe",
  });
  let text = "";
  for await (const chunk of sandbox.stdout) {
    text += chunk;
    if (text === "hello\n") await sandbox.setPolicy({ outboundCidrAllowlist: [] });
  }
  assert.equal(text, "hello\nreset\n");
  assert.equal((await sandbox.stats()).egressFlowsTotal, 1);
});

test("statistics", async () => {
  const sandbox = await Sandbox.create(["sleep", "1000"]);
  const { uptimeMs, tunnelConnections, tunnelBytesIn, ...more } = await sandbox.stats();
  assert.ok(uptimeMs >= 0);
  assert.deepEqual([tunnelConnections, tunnelBytesIn, more.egressFlows, more.dnsQueries], [0, 0, 0, 0]);
  for (const known of [more.cpuUs, more.memoryBytes]) assert.ok(known === undefined || known > 0, `${known}`);
  await sandbox.terminate();
  assert.ok((await sandbox.stats()).uptimeMs >= uptimeMs);
  await sandbox[Symbol.asyncDispose]();
  await assert.rejects(sandbox.stats(), refused("SBX_EHANDLE", ""));
});
