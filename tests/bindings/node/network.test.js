// A sandbox's network beyond its policy: where tunnels listen and by what certificate, name servers, budgets; what a
// policy says of an address; the doctor and the library's log.

import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { get } from "node:https";
import { createServer } from "node:net";
import test from "node:test";
import { all, checkPolicy, doctor, logTo, node, program, refused, Sandbox } from "./support.js";

const EXAMPLES = new URL("../../../examples/node/sbx.js", import.meta.url).pathname;
const pem = readFileSync(new URL("../certificate.pem", import.meta.url), "utf8");
const [cert, key] = [pem.slice(0, pem.indexOf("-----BEGIN PRIVATE")), pem.slice(pem.indexOf("-----BEGIN PRIVATE"))];

/** A sandbox with a web server on port 8000, ready. */
async function serve(options) {
  const sandbox = await Sandbox.create(["python3", "-m", "http.server", "8000"], options);
  await sandbox.waitUntilReady();
  return sandbox;
}

/** What a program in Python prints in a sandbox of these options. */
async function run(lines, options) {
  const sandbox = await Sandbox.create(["python3", "-c", lines], { ...options, stdout: "pipe", stderr: "merged" });
  const said = await all(sandbox.stdout);
  await sandbox.terminate();
  return said;
}

async function page(url, ca) {
  const [response] = await once(get(url, { ca, agent: false }), "response");
  return all(response);
}

async function listening(server, address = "127.0.0.1") {
  await once(server.listen(0, address), "listening");
  return server.address().port;
}

test("where tunnels listen", async () => {
  const probe = createServer();
  const port = await listening(probe, "127.0.0.2");
  await new Promise((resolve) => probe.close(resolve));
  const bindPorts = { 8000: { address: "127.0.0.2", port }, 8001: "127.0.0.3" };
  const sandbox = await serve({ encryptedPorts: [8000], unencryptedPorts: [8001], bindPorts, tlsNames: ["127.0.0.2"] });
  const { 8000: tunnel, 8001: plain } = sandbox.tunnels();
  assert.deepEqual([tunnel.host, tunnel.port, plain.host], ["127.0.0.2", port, "127.0.0.3"]);
  assert.match(await page(tunnel.url, tunnel.ca), /Directory listing/);
  await sandbox.terminate();
});

test("a certificate of one's own, and a connection without a tunnel", async () => {
  const sandbox = await serve({ encryptedPorts: [8000], tlsCertificate: { cert, key } });
  assert.match(await page(sandbox.tunnels()[8000].url, cert), /Directory listing/);
  const connection = await sandbox.connect(8000);
  connection.end("GET / HTTP/1.0\r\n\r\n");
  assert.match(await all(connection), /^HTTP\/1.0 200/);
  await assert.rejects(sandbox.connect(1), refused("SBX_EREFUSED", ""));
  await assert.rejects(sandbox.connect(0), refused("SBX_EINVALID", "port"));
  await sandbox.terminate();
});

test("host name, tags and MTU", async () => {
  const lines = `
import fcntl, socket, struct
found = fcntl.ioctl(socket.socket(), 0x8921, struct.pack("16sI12x", b"eth0", 0))
print(socket.gethostname(), struct.unpack("16sI12x", found)[1])`;
  assert.equal(await run(lines, { hostname: "crate-7", mtu: 1400 }), "crate-7 1400\n");
  const tags = { owner: "tests" };
  const sandbox = await Sandbox.create(undefined, { tags, blockNetwork: true });
  tags.owner = "other";
  assert.deepEqual(sandbox.tags, { owner: "tests" });
  await sandbox.terminate();
});

/** A server that has one address for every name. */
async function nameServer() {
  const server = createSocket("udp4");
  server.on("message", (question, { port, address }) => {
    const end = question.indexOf(0, 12) + 5;
    const isA = question.readUInt16BE(end - 4) === 1;
    const head = Buffer.from([...question.subarray(0, 2), 0x81, 0x80, 0, 1, 0, isA ? 1 : 0, 0, 0, 0, 0]);
    const record = isA ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 93, 184, 216, 34]) : Buffer.alloc(0);
    server.send(Buffer.concat([head, question.subarray(12, end), record]), port, address);
  });
  server.bind(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

test("name servers, and ports of domains", async () => {
  const server = await nameServer();
  const lines = `
import socket
print(socket.gethostbyname("example.com"))
for port in (8443, 9443):
    try:
        with socket.create_connection(("93.184.216.34", port), 30) as connection:
            connection.sendall(b"no handshake\\n")
            connection.recv(1)
    except OSError:
        pass`;
  const sandbox = await Sandbox.create(["python3", "-c", `input()\n${lines}`], {
    nameservers: [`127.0.0.1:${server.address().port}`],
    outboundDomainAllowlist: ["example.com"],
    outboundTlsPorts: [8443],
    stdin: "pipe",
    stdout: "pipe",
  });
  const seen = {};
  const events = (async () => {
    for await (const { kind, port, reason } of sandbox.events()) if (kind === "denied") seen[port] = reason;
  })();
  sandbox.stdin.end("\n");
  assert.equal(await all(sandbox.stdout), "93.184.216.34\n");
  await events;
  assert.deepEqual(seen, { 8443: "notTls", 9443: "notListed" });
  server.close();
});

test("budgets of what leaves", async () => {
  const server = createServer((socket) => socket.on("error", () => {}).write("hello"));
  const services = { 8080: `127.0.0.1:${await listening(server)}` };
  const lines = `
import socket
first = socket.create_connection(("192.0.0.1", 8080), 30)
print(first.recv(5).decode())
try:
    print(socket.create_connection(("192.0.0.1", 8080), 30).recv(5))
except OSError as error:
    print(type(error).__name__)`;
  const said = await run(lines, { hostServices: services, egressLimits: { maxFlows: 1 } });
  assert.match(said, /^hello\nConnection(Reset|Refused)Error\n$/);
  server.close();
});

test("what is refused", async () => {
  for (const [options, part] of [
    [{ bindPorts: [8000] }, "bindPorts must be an object"],
    [{ bindPorts: { 8000: 80 } }, "bindPorts[8000] must be an object"],
    [{ bindPorts: { 8000: { port: 80 } } }, "bindPorts[8000].address must be a string"],
    [{ bindPorts: { 8000: { address: "127.0.0.1", port: 70000 } } }, "bindPorts[8000].port must be an integer"],
    [{ bindPorts: { 8000: { host: "127.0.0.1", address: "" } } }, 'no "host"'],
    [{ bindPorts: { 8000: "localhost" }, encryptedPorts: [8000] }, "bindPorts[8000]: "],
    [{ bindPorts: { 8000: "127.0.0.1" } }, "bindPorts[8000]: port 8000: is not listed"],
    [{ tlsCertificate: cert }, "tlsCertificate must be an object"],
    [{ tlsCertificate: { cert } }, "tlsCertificate.key must be a string"],
    [{ tlsCertificate: { cert, key: "hunter2" } }, "tlsCertificate: "],
    [{ nameservers: "127.0.0.1" }, "nameservers must be an array"],
    [{ nameservers: ["dns.example"] }, "nameservers: "],
    [{ egressLimits: 5 }, "egressLimits must be an object"],
    [{ egressLimits: { maxFlows: -1 } }, "egressLimits.maxFlows must be an integer"],
    [{ egressLimits: { flows: 1 } }, 'egressLimits has no "flows"'],
    [{ hostname: "-" }, "hostname: "],
    [{ tags: { "": "x" } }, "tags.: "],
    [{ tags: { owner: 7 } }, "tags.owner must be a string"],
    [{ tunnelRate: -2 }, "tunnelRate must be an integer from -1 to 1000000"],
    [{ tunnelRate: 1_000_001 }, "tunnelRate must be an integer"],
    [{ mtu: 100 }, "mtu must be an integer from 1280 to 9000"],
    [{ outboundTlsPorts: [8443] }, "outboundTlsPorts"],
    [{ outboundTlsPorts: [0], outboundDomainAllowlist: ["example.com"] }, "outboundTlsPorts"],
  ]) {
    await assert.rejects(Sandbox.create(["true"], options), (error) => {
      assert.ok(!error.message.includes("hunter2"));
      return refused("SBX_EINVALID", part)(error);
    });
  }
});

test("what a policy says of an address", () => {
  for (const [address, options, allowed, reason, entry] of [
    ["93.184.216.34", {}, true, "open", -1],
    ["10.0.0.1", {}, false, "protected", -1],
    ["169.254.169.254", {}, false, "metadata", -1],
    ["93.184.216.34", { blockNetwork: true }, false, "blocked", -1],
    ["93.184.216.34", { outboundCidrDenylist: ["8.8.8.0/24", "93.184.216.0/24"] }, false, "denied", 1],
    ["93.184.216.34", { outboundCidrAllowlist: ["93.184.216.0/24"] }, true, "listed", 0],
    ["8.8.8.8", { outboundCidrAllowlist: ["93.184.216.0/24"] }, false, "notListed", -1],
  ]) {
    const { detail, ...verdict } = checkPolicy(options, { address });
    assert.deepEqual(verdict, { allowed, reason, entry });
    assert.match(detail, allowed ? /allowed/ : /denied/);
  }
  assert.equal(checkPolicy({}, { address: "8.8.8.8", port: 53, protocol: "udp" }).reason, "open");
  assert.equal(checkPolicy({}, { address: "8.8.8.8", protocol: 1 }).reason, "protocol");
  for (const [options, destination, part] of [
    [{}, { address: "example.com" }, "example.com"],
    [{}, {}, "address must be a string"],
    [{}, { address: "8.8.8.8", port: 0 }, "port must be an integer"],
    [{}, { address: "8.8.8.8", protocol: "quic" }, "protocol must be an integer"],
    [{ outboundCidrAllowlist: ["10.0.0.1/8"] }, { address: "8.8.8.8" }, "10.0.0.1/8"],
    [{ encryptedPorts: [80] }, { address: "8.8.8.8" }, "encryptedPorts"],
  ]) {
    assert.throws(() => checkPolicy(options, destination), refused("SBX_EINVALID", part));
  }
});

test("the doctor", async () => {
  const { usable, findings } = await doctor();
  assert.ok(usable, JSON.stringify(findings));
  assert.ok(findings.some(({ name }) => name === "runsc"));
  for (const { status, detail } of findings) assert.ok(["ok", "limited"].includes(status) && detail.length > 0);
  const lines = `console.log(JSON.stringify(await (await import(process.env.EXAMPLES)).doctor()));`;
  const { stdout, stderr } = await program(lines, { SBX_RUNSC: "/nonexistent/runsc", EXAMPLES });
  const missing = JSON.parse(stdout || stderr);
  assert.equal(missing.usable, false);
  const runsc = missing.findings.find(({ name }) => name === "runsc");
  assert.equal(runsc.status, "missing");
  assert.match(runsc.detail + runsc.remedy, /\/nonexistent\/runsc/);
  assert.match(missing.version, /^\d+\.\d+/);
  const command = await node([new URL("command.js", `file://${EXAMPLES}`).pathname, "doctor", "--json"]);
  assert.equal(JSON.parse(command.stdout).findings.length, findings.length);
});

test("the library's log", async () => {
  const lines = (target, level) => `
    const { logTo } = await import(process.env.EXAMPLES);
    logTo(${target}, "${level}");
    await (await Sandbox.create(["true"])).wait();
    logTo(null);`;
  assert.match((await program(lines("process.stdout", "info"), { EXAMPLES })).stdout, /sbx::/);
  assert.match((await program(lines("1", "debug"), { EXAMPLES })).stdout, /sbx::/);
  assert.equal((await program(lines("1", "off"), { EXAMPLES })).stdout, "");
  assert.throws(() => logTo(1, "loud"), refused("SBX_EINVALID", "level must be one of off, error"));
  assert.throws(() => logTo("stdout"), refused("SBX_EINVALID", "target must be a descriptor"));
  assert.throws(() => logTo(99999), (error) => error.message.startsWith("target: "));
});
