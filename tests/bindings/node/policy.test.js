// Policies that change while a sandbox runs, and what it says of itself.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import test from "node:test";
import { all, examples, refused, run, Sandbox } from "./support.js";

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
    outboundTlsPorts: [8443, 9443],
  };
  assert.equal(await sandbox.setPolicy(listed), 1);
  const { generation, mode, entries, options } = await sandbox.policy();
  assert.deepEqual([generation, mode, options], [1, "allowlist", listed]);
  assert.deepEqual(entries, ["allow 192.0.2.0/24", "domain *.example.com", "deny 192.0.2.7/32"]);
  assert.deepEqual(await Promise.all([sandbox.setPolicy(first.options), sandbox.setPolicy({ blockNetwork: true })]), [2, 3]);
  assert.deepEqual(await sandbox.policy(), { generation: 3, mode: "blocked", entries: [], options: { blockNetwork: true } });
  await sandbox.setPolicy({ outboundCidrAllowlist: [] });
  assert.deepEqual((await sandbox.policy()).options, { outboundCidrAllowlist: [] });
  const local = { outboundLocalCidrs: ["93.184.216.0/24"], outboundDns: "addresses" };
  assert.equal(await sandbox.setPolicy(local), 5);
  const opened = await sandbox.policy();
  assert.deepEqual([opened.mode, opened.entries, opened.options], ["open", ["local 93.184.216.0/24"], local]);
  for (const [options, part] of [
    [{ ...local, outboundCidrAllowlist: [] }, "93.184.216.0/24"],
    [{ ...local, blockNetwork: true }, "outboundLocalCidrs"],
    [{ outboundDns: "on", blockNetwork: true }, "DNS"],
    [{ outboundCidrAllowlist: ["10.0.0.1/8"] }, "10.0.0.1/8"],
    [{ outboundCidrDenylist: [7] }, "outboundCidrDenylist"],
    [{ outboundDns: "none" }, "outboundDns"],
    [{ blockNetwork: true, outboundCidrAllowlist: [] }, "outboundCidrAllowlist"],
    [{ encryptedPorts: [80] }, "encryptedPorts"],
  ]) {
    await assert.rejects(sandbox.setPolicy(options), refused("SBX_EINVALID", part));
  }
  assert.equal((await sandbox.policy()).generation, 5);
  await sandbox.terminate();
  await assert.rejects(sandbox.setPolicy({}), refused("SBX_ESTATE", ""));
  await assert.rejects(sandbox.policy(), refused("SBX_ESTATE", ""));
});

test("a service of the host is reached whatever the policy", async () => {
  const server = createServer((socket) => socket.end("from the host")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = `
import socket
print(socket.create_connection(("192.0.0.1", 8080), 30).recv(100).decode())
try:
    socket.create_connection(("192.0.0.1", 8081), 30).recv(1)
except OSError:
    print("nothing else")`;
  const sandbox = await Sandbox.create(["python3", "-c", client], {
    hostServices: { 8080: `127.0.0.1:${server.address().port}` },
    outboundCidrAllowlist: [],
    stdout: "pipe",
  });
  assert.equal(await all(sandbox.stdout), "from the host\nnothing else\n");
  await sandbox.terminate();
  server.close();
  for (const [hostServices, part] of [
    [["127.0.0.1:80"], "hostServices must be an object"],
    [{ eighty: "127.0.0.1:80" }, "a port of hostServices must be an integer"],
    [{ 80: 80 }, "hostServices[80] must be a string"],
    [{ 80: "localhost" }, "localhost"],
  ]) {
    await assert.rejects(Sandbox.create(["true"], { hostServices }), refused("SBX_EINVALID", part));
  }
});

test("a sandbox without a network can't be given one", async () => {
  const sandbox = await Sandbox.create(undefined, { blockNetwork: true });
  await assert.rejects(sandbox.setPolicy({}), refused("SBX_EUNSUPPORTED", ""));
  const { mode, entries } = await sandbox.policy();
  assert.deepEqual([mode, entries], ["blocked", []]);
  await sandbox.terminate();
});

// In a network namespace of its own, where this address is the machine's and there is nothing else.
const ADDRESS = "203.0.113.9";

test("a connection that is cut", async () => {
  const lines = `
    import { once } from "node:events";
    import { createServer } from "node:net";
    import { Sandbox } from ${JSON.stringify(`${examples}sbx.js`)};
    const server = createServer((socket) => socket.on("error", () => {}).write("hello\\n")).listen(0, "${ADDRESS}");
    await once(server, "listening");
    const sandbox = await Sandbox.create(["python3", "-c", ${JSON.stringify(CLIENT)}, String(server.address().port)], {
      outboundCidrAllowlist: ["${ADDRESS}/32"],
      stdout: "pipe",
    });
    for await (const chunk of sandbox.stdout) {
      process.stdout.write(chunk);
      if (String(chunk) === "hello\\n") await sandbox.setPolicy({ outboundCidrAllowlist: [] });
    }
    await sandbox.wait();
    console.log((await sandbox.stats()).egressFlowsTotal);
    server.close();
  `;
  const inside = `ip link set lo up && ip address add ${ADDRESS}/32 dev lo && exec "$@"`;
  const alone = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", inside, "sh"];
  const done = await run([...alone, process.execPath, "--input-type=module", "--eval", lines]);
  assert.deepEqual([done.code, done.stdout, done.stderr], [0, "hello\nreset\n1\n", ""]);
});

const CLIENT = `
import socket, sys
with socket.create_connection(("${ADDRESS}", int(sys.argv[1]))) as s:
    print(s.recv(100).decode(), end="", flush=True)
    try:
        print("end", s.recv(100))
    except ConnectionResetError:
        print("reset")
`;

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
