// A sandbox's life: settings, waiting, ends, errors, events, streams.

import assert from "node:assert/strict";
import { once } from "node:events";
import { get } from "node:https";
import { connect } from "node:net";
import test from "node:test";
import { connect as connectTls } from "node:tls";
import { setTimeout as sleep } from "node:timers/promises";
import { within } from "../../../examples/node/waiting.js";
import { all, bytes, examples, keepWarm, maxStarts, program, refused, Sandbox, setMaxStarts, setSpares, spares, warmStats } from "./support.js";

const sleeper = (options) => Sandbox.create(["sleep", "1000"], options);
const shell = (script, options) => Sandbox.create(["sh", "-c", script], options);

test("sandboxes that are kept warm", async () => {
  const like = { hostname: "warm", maxProcesses: 100 };
  const ready = async (count) => {
    for (const end = Date.now() + 60000; warmStats(like).ready !== count; await sleep(10)) {
      assert.ok(Date.now() < end, JSON.stringify(warmStats()));
    }
    return warmStats(like);
  };
  keepWarm(1, like);
  assert.equal((await ready(1)).wanted, 1);
  const sandbox = await shell("hostname; echo $A", { ...like, env: { A: "b" }, stdout: "pipe" });
  assert.equal((await all(sandbox.stdout)).toString(), "warm\nb\n");
  const { hits, missesEmpty, lastMiss } = await ready(1);
  assert.deepEqual({ hits, missesEmpty, lastMiss }, { hits: 1, missesEmpty: 0, lastMiss: "" });
  await (await Sandbox.create(["true"], { hostname: "other" })).wait();
  assert.match(warmStats().lastMiss, /^different from the template: hostname/);
  assert.equal(warmStats().missesDifferent, 1);
  keepWarm(0, like);
  await ready(0);
  for (const count of [-1, 257, "1"]) assert.throws(() => keepWarm(count), refused("SBX_EINVALID", "count"));
  assert.throws(() => keepWarm(1, { mtu: 1 }), refused("SBX_EINVALID", "mtu"));
  assert.throws(() => keepWarm(1, { nonsense: 1 }), refused("SBX_EINVALID", "nonsense"));
});

test("only so many sandboxes start at once", async () => {
  const byDefault = maxStarts();
  assert.ok(byDefault >= 4);
  setMaxStarts(1);
  assert.equal(maxStarts(), 1);
  const codes = await Promise.all([1, 2, 3].map(async (code) => (await (await shell(`exit ${code}`)).wait()).code));
  assert.deepEqual(codes, [1, 2, 3]);
  setMaxStarts(0);
  assert.equal(maxStarts(), byDefault);
  for (const count of [-1, 257, "1"]) assert.throws(() => setMaxStarts(count), refused("SBX_EINVALID", "count"));
});

test("spares", async () => {
  assert.equal(spares(), 0);
  setSpares(2);
  assert.equal(spares(), 2);
  for (const code of [1, 2, 3]) assert.equal((await (await shell(`exit ${code}`)).wait()).code, code);
  setSpares(0);
  for (const count of [-1, 17, "1"]) assert.throws(() => setSpares(count), refused("SBX_EINVALID", "count"));
});

test("how it ends", async (t) => {
  await t.test("the program's own code", async () => {
    const sandbox = await shell("exit 3");
    assert.deepEqual(await sandbox.wait(), { code: 3, reason: "exited" });
    assert.deepEqual([sandbox.exitCode, sandbox.exitReason], [3, "exited"]);
  });
  await t.test("a signal", async () => {
    const sandbox = await sleeper();
    assert.equal(sandbox.exitCode, null);
    sandbox.kill("SIGTERM");
    assert.deepEqual(await sandbox.wait(), { code: 143, reason: "signalled" });
    assert.throws(() => sandbox.kill("SIGNONE"), refused("SBX_EINVALID", "SIGNONE"));
  });
  await t.test("its lifetime", async () => {
    const sandbox = await sleeper({ timeoutMs: 500 });
    assert.deepEqual(await sandbox.wait(), { code: 124, reason: "timedOut" });
  });
  await t.test("terminated", async () => {
    const sandbox = await sleeper();
    await assert.rejects(sandbox.wait({ timeoutMs: 50 }), refused("SBX_ETIMEDOUT", "50 ms"));
    const [one, two] = await Promise.all([sandbox.terminate(), sandbox.terminate()]);
    assert.deepEqual(one, { code: 137, reason: "terminated" });
    assert.deepEqual(two, one);
    assert.deepEqual(await sandbox.terminate(), one);
  });
  await t.test("disposed of", async () => {
    const sandbox = await sleeper({ encryptedPorts: [1] });
    await sandbox[Symbol.asyncDispose]();
    assert.equal(sandbox.exitCode, 137);
    assert.throws(() => sandbox.tunnels(), refused("SBX_EHANDLE", ""));
    assert.throws(() => sandbox.kill(), refused("SBX_EHANDLE", ""));
    await sandbox[Symbol.asyncDispose]();
    assert.deepEqual(await sandbox.wait(), { code: 137, reason: "terminated" });
  });
  await t.test("a creation that is given up", async () => {
    for (const patience of [0, 10, 50, 100]) {
      await assert.rejects(
        sleeper({ name: "given-up", signal: AbortSignal.timeout(patience) }).then((sandbox) => sandbox.terminate().then(() => {
          throw new DOMException("it was quicker", "TimeoutError");
        })),
        { name: "TimeoutError" },
      );
    }
    for (;;) {
      try {
        await (await sleeper({ name: "given-up" })).terminate();
        break;
      } catch (error) {
        refused("SBX_EEXISTS", "given-up")(error);
        await sleep(20);
      }
    }
  });
});

test("settings", async (t) => {
  await t.test("environment, directory, user, mounts", async () => {
    const sandbox = await shell("echo $A; pwd; id -u; ls /here", {
      env: { A: "é b" },
      workdir: "/tmp",
      user: "1234",
      mounts: { "/here": import.meta.dirname },
      stdout: "pipe",
    });
    const [value, directory, user, ...files] = (await all(sandbox.stdout)).split("\n");
    assert.deepEqual([value, directory, user], ["é b", "/tmp", "1234"]);
    assert.ok(files.includes("sandbox.test.js"));
    assert.deepEqual([sandbox.stdin, sandbox.stderr], [null, null]);
    await sandbox.wait();
  });
  await t.test("names are taken once", async () => {
    const sandbox = await sleeper({ name: "one" });
    assert.equal(sandbox.name, "one");
    await assert.rejects(sleeper({ name: "one" }), refused("SBX_EEXISTS", "one"));
    await sandbox.terminate();
    await (await sleeper({ name: "one" })).terminate();
  });
  await t.test("what is refused", async () => {
    const cases = [
      [{ blockNetwork: true, encryptedPorts: [80] }, "port"],
      [{ blockNetwork: true, outboundCidrAllowlist: [] }, "outboundCidrAllowlist"],
      [{ blockNetwork: true, inboundCidrAllowlist: [] }, "inbound"],
      [{ outboundCidrAllowlist: ["10.0.0.1/8"] }, "10.0.0.1/8"],
      [{ workdir: "relative" }, "relative"],
      [{ timeoutMs: 0 }, "timeoutMs"],
      [{ timeoutMs: 1.5 }, "timeoutMs"],
      [{ encryptedPorts: [0] }, "1 to 65535"],
      [{ encryptedPorts: [2 ** 32 + 80] }, "1 to 65535"],
      [{ encryptedPorts: ["80"] }, "1 to 65535"],
      [{ encryptedPorts: [80], h2Ports: [80] }, "80"],
      [{ env: { "NOT-A-NAME": "x" } }, "NOT-A-NAME"],
      [{ env: { A: "x\0y" } }, "NUL"],
      [{ env: { A: "\ud800" } }, "Unicode"],
      [{ env: { A: 1 } }, "env.A"],
      [{ stdout: "inherit" }, "stdout"],
      [{ stdin: "merged" }, ""],
      [{ colour: "red" }, "colour"],
      [{ env: "A=b" }, "env must be an object, not string"],
      [{ secrets: ["hidden"] }, "secrets must be an object, not an array"],
      [{ secrets: { A: ["hidden"] } }, "secrets.A must be a string, not an array"],
      [{ mounts: ["/usr"] }, "mounts must be an object, not an array"],
      [{ mounts: { "/usr": 1 } }, 'mounts["/usr"] must be a string'],
      [{ readinessProbe: 8080 }, "readinessProbe must be an object, not number"],
      [{ readinessProbe: null }, "readinessProbe must be an object, not null"],
      [{ readinessProbe: { command: "true" } }, "readinessProbe.command must be an array of strings"],
      [null, "options must be an object, not null"],
      ["options", "options must be an object, not string"],
    ];
    // A string is no list of its letters, and null no list at all: it must not come to mean that all is allowed.
    const lists = ["outboundCidrAllowlist", "outboundDomainAllowlist", "outboundCidrDenylist", "inboundCidrAllowlist"];
    for (const option of [...lists, "tlsNames", "encryptedPorts", "h2Ports", "unencryptedPorts"]) {
      for (const wrong of ["localhost", "", 80, {}, null, false]) cases.push([{ [option]: wrong }, `${option} must be an array`]);
    }
    for (const [options, part] of cases) await assert.rejects(sleeper(options), refused("SBX_EINVALID", part));
    await assert.rejects(Sandbox.create("true"), refused("SBX_EINVALID", "command must be an array of strings, not string"));
    await assert.rejects(Sandbox.create(["x".repeat(131072)]), refused("SBX_EINVALID", "131072"));
    assert.throws(() => new Sandbox(), TypeError);
  });
  await t.test("what calls refuse", async () => {
    const sandbox = await Sandbox.create();
    const names = "options must be an object, not null";
    await assert.rejects(sandbox.exec(["true"], null), refused("SBX_EINVALID", names));
    await assert.rejects(sandbox.exec("true"), refused("SBX_EINVALID", "command must be an array of strings"));
    await assert.rejects(sandbox.exec(["true"], { terminal: true }), refused("SBX_EINVALID", "terminal must be an object"));
    await assert.rejects(sandbox.wait(null), refused("SBX_EINVALID", names));
    await assert.rejects(sandbox.waitUntilReady(null), refused("SBX_EINVALID", names));
    await assert.rejects(sandbox.stop(null), refused("SBX_EINVALID", names));
    await assert.rejects(sandbox.stop({ signal: "TERM" }), refused("SBX_EINVALID", "signal must be a name"));
    await assert.rejects(sandbox.setPolicy(null), refused("SBX_EINVALID", names));
    await assert.rejects(sandbox.setPolicy({ outboundDomainAllowlist: "localhost" }), refused("SBX_EINVALID", "must be an array"));
    await assert.rejects(sandbox.files.stat("/", null), refused("SBX_EINVALID", names));
    await assert.rejects(sandbox.files.stat(5), refused("SBX_EINVALID", "path must be a string, not number"));
    assert.throws(() => sandbox.files.createReadStream("/", null), refused("SBX_EINVALID", names));
    for (const signal of ["SIGFOO", "TERM", 65, 0, null, {}]) {
      assert.throws(() => sandbox.kill(signal), refused("SBX_EINVALID", 'signal must be a name such as "SIGTERM"'));
    }
    assert.equal(sandbox.exitCode, null);
    await sandbox.terminate();
  });
  await t.test("a program that is not there", async () => {
    await assert.rejects(Sandbox.create(["no-such-program"]), (error) => {
      assert.deepEqual([error.code, error.errno, error.osError], ["SBX_EEXEC", -1019, 2]);
      return refused("SBX_EEXEC", "no-such-program")(error);
    });
  });
});

test("tunnels", async (t) => {
  const server = `
import http.server, threading
for port in (1003, 1002, 1001):
    listening = http.server.ThreadingHTTPServer(("", port), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=listening.serve_forever).start()
`;
  const sandbox = await Sandbox.create(["python3", "-c", server], {
    encryptedPorts: [1001],
    h2Ports: [1002],
    unencryptedPorts: [1003],
    tlsNames: ["sandbox.test"],
  });
  t.after(() => sandbox.terminate());
  await sandbox.waitUntilReady();
  const tunnels = sandbox.tunnels();
  assert.deepEqual(Object.keys(tunnels), ["1001", "1002", "1003"]);
  assert.equal(tunnels[1001].url, `https://${tunnels[1001].host}:${tunnels[1001].port}`);
  const status = (options) =>
    new Promise((resolve, reject) => {
      const asked = get(tunnels[1001].url, { agent: false, ...options }, (page) => resolve(page.resume().statusCode));
      asked.on("error", reject);
    });
  assert.equal(await status({ ca: tunnels[1001].ca }), 200);
  await assert.rejects(status({}), /certificate/);
  const agreed = await new Promise((resolve, reject) => {
    const { host, port, ca } = tunnels[1002];
    const socket = connectTls({ host, port, ca, servername: "sandbox.test", ALPNProtocols: ["h2"] });
    socket.on("error", reject);
    socket.on("secureConnect", () => (resolve(socket.alpnProtocol), socket.destroy()));
  });
  assert.equal(agreed, "h2");
  assert.equal(tunnels[1003].url, undefined);
  const plain = connect(tunnels[1003].port, tunnels[1003].host);
  plain.end("GET / HTTP/1.0\r\n\r\n");
  assert.match(await all(plain), /^HTTP\/1\.0 200/);
});

test("readiness", async () => {
  const never = await sleeper({ readinessProbe: { port: 9 } });
  await assert.rejects(never.waitUntilReady({ timeoutMs: 200 }), refused("SBX_ETIMEDOUT", "ready"));
  const waiting = assert.rejects(never.waitUntilReady(), refused("SBX_ESTATE", `${never.id} has ended: terminated`));
  await never.terminate();
  await waiting;
  const ready = await sleeper({ readinessProbe: { command: ["true"], intervalMs: 20 } });
  await Promise.all([ready.waitUntilReady(), ready.waitUntilReady()]);
  await ready.waitUntilReady();
  await ready.terminate();
  const nothing = await sleeper({});
  await assert.rejects(nothing.waitUntilReady(), refused("SBX_EINVALID", "no readiness probe and no port"));
  await nothing.terminate();
});

test("how long is waited", async (t) => {
  const sandbox = await sleeper({ readinessProbe: { port: 9 } });
  for (const timeoutMs of [NaN, -1, 1.5, "1", null, 2 ** 53, -Infinity]) {
    await assert.rejects(sandbox.wait({ timeoutMs }), refused("SBX_EINVALID", "timeoutMs"));
    await assert.rejects(sandbox.waitUntilReady({ timeoutMs }), refused("SBX_EINVALID", "timeoutMs"));
  }
  // No timer of Node's lasts as long as these.
  const long = [2 ** 31, 2 ** 53 - 1, Infinity].flatMap((timeoutMs) => [
    sandbox.wait({ timeoutMs }),
    sandbox.waitUntilReady({ timeoutMs }),
  ]);
  await assert.rejects(Promise.race([...long, sandbox.wait({ timeoutMs: 100 })]), refused("SBX_ETIMEDOUT", "100 ms"));
  await sandbox.terminate();
  const ends = (await Promise.allSettled(long)).map(({ value, reason }) => value?.code ?? reason.code);
  assert.deepEqual(ends, [137, "SBX_ESTATE", 137, "SBX_ESTATE", 137, "SBX_ESTATE"]);

  t.mock.timers.enable({ apis: ["setTimeout"] });
  let late = null;
  within(new Promise(() => {}), 2 ** 32, "nothing came").catch((error) => (late = error));
  for (const step of [2 ** 31 - 1, 2 ** 31 - 1, 1, 1]) {
    assert.equal(late, null);
    t.mock.timers.tick(step);
    await new Promise(setImmediate);
  }
  refused("SBX_ETIMEDOUT", `nothing came within ${2 ** 32} ms`)(late);
});

test("streams", async (t) => {
  await t.test("there and back", async () => {
    const sandbox = await shell("echo one; cat; echo err >&2; exit 4", { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    sandbox.stdin.end("two\n");
    const [out, err, exit] = await Promise.all([all(sandbox.stdout), all(sandbox.stderr), sandbox.wait()]);
    assert.deepEqual([out, err, exit.code], ["one\ntwo\n", "err\n", 4]);
  });
  await t.test("merged, and as an async iterator", async () => {
    const sandbox = await shell("echo a; echo b >&2", { stdout: "pipe", stderr: "merged" });
    let text = "";
    for await (const chunk of sandbox.stdout) text += chunk;
    assert.equal(text, "a\nb\n");
  });
  await t.test("megabytes with back-pressure, read late", async () => {
    const sandbox = await shell("head -c 20000000 /dev/zero", { stdout: "pipe" });
    await sleep(200);
    assert.equal(sandbox.exitCode, null);
    assert.equal((await bytes(sandbox.stdout)).length, 20_000_000);
    assert.equal((await sandbox.wait()).code, 0);
  });
  await t.test("ignored output doesn't hold the program up", async () => {
    const sandbox = await shell("head -c 20000000 /dev/zero; exit 5");
    assert.equal((await sandbox.wait()).code, 5);
  });
});

test("executed programs", async (t) => {
  const sandbox = await Sandbox.create(undefined, { env: { A: "sandbox", B: "sandbox" } });
  t.after(() => sandbox[Symbol.asyncDispose]());
  const run = async (script, options) => {
    const process = await sandbox.exec(["sh", "-c", script], { stdout: "pipe", ...options });
    return [await all(process.stdout), (await process.wait()).code];
  };
  await t.test("their streams and codes", async () => {
    const process = await sandbox.exec(["sh", "-c", "cat; echo err >&2; exit 3"], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
    });
    assert.equal(process.exitCode, null);
    process.stdin.end("in\n");
    assert.deepEqual([await all(process.stdout), await all(process.stderr)], ["in\n", "err\n"]);
    assert.deepEqual(await process.wait(), { code: 3, reason: "exited" });
    assert.equal(process.exitCode, 3);
  });
  await t.test("their settings", async () => {
    const options = { env: { C: "own" }, secrets: { B: "secret", C: "secret" }, workdir: "/tmp", user: "99" };
    assert.deepEqual(await run("echo $A $B $C; pwd; id -u", options), ["sandbox secret own\n/tmp\n99\n", 0]);
  });
  await t.test("their ends", async () => {
    assert.deepEqual(await (await sandbox.exec(["sleep", "1000"], { timeoutMs: 300 })).wait(), { code: 124, reason: "timedOut" });
    const killed = await sandbox.exec(["sleep", "1000"]);
    killed.kill("SIGKILL");
    assert.deepEqual(await killed.wait(), { code: 137, reason: "signalled" });
    await assert.rejects(sandbox.exec(["no-such-program"]), refused("SBX_EEXEC", "no-such-program"));
    await assert.rejects(sandbox.exec([]), refused("SBX_EINVALID", ""));
    await assert.rejects(sandbox.exec(["true"], { name: "x" }), refused("SBX_EINVALID", "name"));
    await assert.rejects(sandbox.exec(["true"], { signal: AbortSignal.abort() }), { name: "AbortError" });
  });
  await t.test("a terminal", async () => {
    // What is typed may overtake the new size.
    const program = "read line; until stty size | grep '33 111'; do sleep 0.05; done; echo got $line";
    const process = await sandbox.exec(["sh", "-c", program], { terminal: { rows: 24, columns: 80 } });
    process.resize(33, 111);
    process.terminal.write("typed\n");
    const shown = await all(process.terminal);
    assert.match(shown, /33 111/);
    assert.match(shown, /got typed/);
    assert.equal((await process.wait()).code, 0);
    assert.equal(process.stdout, null);
  });
  await t.test("twenty at once", async () => {
    const numbers = Array.from({ length: 20 }, (_, number) => number);
    const ends = await Promise.all(numbers.map((number) => run(`echo ${number}; exit ${number}`)));
    assert.deepEqual(ends, numbers.map((number) => [`${number}\n`, number]));
  });
  await t.test("with the sandbox", async () => {
    const last = await sandbox.exec(["sleep", "1000"]);
    await sandbox.terminate();
    assert.equal((await last.wait()).code, 137);
    await assert.rejects(sandbox.exec(["true"]), refused("SBX_ESTATE", ""));
  });
});

test("limits", async () => {
  const limited = await shell("ulimit -n", { stdout: "pipe", maxOpenFiles: 123, maxProcesses: 50 });
  assert.equal(await all(limited.stdout), "123\n");
  const idle = await Sandbox.create(undefined, { idleTimeoutMs: 300 });
  assert.deepEqual(await idle.wait(), { code: 124, reason: "idle" });
  const fat = await Sandbox.create(["python3", "-c", "data = []\nwhile True: data.append(bytearray(b'x' * (8 << 20)))"], {
    memoryMiB: 128,
    memoryWatchdog: true,
  });
  assert.equal((await fat.wait()).reason, "outOfMemory");
  // Where this user has no control groups, the error says what there is instead.
  await sleeper({ memoryMiB: 512 }).then(
    (sandbox) => sandbox.terminate(),
    refused("SBX_EHOST", "Or set memoryWatchdog: true"),
  );
  for (const options of [{ memoryMiB: 0 }, { cpu: "1" }, { maxProcesses: 2 ** 32 + 1 }]) {
    await assert.rejects(sleeper(options), refused("SBX_EINVALID", Object.keys(options)[0]));
  }
});

test("a gentle end", async () => {
  const ready = async (script) => {
    const sandbox = await shell(`${script}; echo ready; while :; do sleep 0.1; done`, { stdout: "pipe" });
    await once(sandbox.stdout, "data");
    return sandbox;
  };
  assert.deepEqual(await (await ready("trap 'exit 9' TERM")).stop({ graceMs: 60_000 }), { code: 9, reason: "exited" });
  assert.deepEqual(await (await ready("trap '' TERM")).stop({ graceMs: 100 }), { code: 137, reason: "terminated" });
});

test("events, to the last", async () => {
  const sandbox = await sleeper({ readinessProbe: { command: ["true"] } });
  // What nobody iterates over gathers nothing.
  const unused = sandbox.events();
  assert.equal(sandbox._life.listeners.size, 0);
  const kinds = [];
  const told = (async () => {
    for await (const event of sandbox.events()) {
      kinds.push(event.kind);
      if (event.kind === "ready") sandbox.terminate();
      if (event.kind === "exited") assert.deepEqual([event.code, event.reason], [137, "terminated"]);
    }
  })();
  await told;
  assert.equal(kinds.at(-1), "exited");
  for await (const event of sandbox.events()) assert.fail(event.kind);
  for await (const event of unused) assert.fail(event.kind);
  assert.equal(sandbox._life.listeners.size, 0);
});

test("what is waited for is seen although its event was lost", async () => {
  const done = await program(`
    const { call, native } = await import(${JSON.stringify(`${examples}native.js`)});
    const make = native.queue_new;
    native.queue_new = (_capacity, ...more) => make(1, ...more);
    const readinessProbe = { command: ["test", "-e", "/tmp/up"], intervalMs: 10 };
    const [first, second] = await Promise.all([1, 2].map(() => Sandbox.create(undefined, { readinessProbe })));
    await second.files.makeDirectory("/tmp/watched");
    const watching = second.files.watch("/tmp/watched");
    await watching.next();
    const pending = Promise.all([
      watching.next().then(({ value }) => value.kind),
      ...[first, second].map((sandbox) => sandbox.waitUntilReady({ timeoutMs: 60_000 })),
    ]);
    await Promise.all([first.exec(["touch", "/tmp/up"]), second.exec(["sh", "-c", "sleep 0.5; touch /tmp/watched/a /tmp/up"])]);
    // While nobody takes them, there is room for one of these events.
    const isReady = ({ _life: { handle } }) => {
      try {
        return call("wait_ready", handle, 0) === 0;
      } catch (error) {
        if (error.code !== "SBX_ETIMEDOUT") throw error;
      }
    };
    while (![first, second].every(isReady)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    console.log(...(await pending));
    await Promise.all([first.terminate(), second.terminate()]);
  `);
  assert.deepEqual([done.stdout, done.stderr], ["created undefined undefined\n", ""]);
});

test("twenty at once", async () => {
  const one = async (number) => {
    const sandbox = await shell(`echo ${number}; exit ${number}`, { stdout: "pipe" });
    const [out, exit] = await Promise.all([all(sandbox.stdout), sandbox.wait()]);
    return [out, exit.code];
  };
  const numbers = Array.from({ length: 20 }, (_, number) => number);
  assert.deepEqual(await Promise.all(numbers.map(one)), numbers.map((number) => [`${number}\n`, number]));
});
