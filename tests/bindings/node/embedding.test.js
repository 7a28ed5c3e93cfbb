// The embedding contract under Node: what keeps the process alive, workers, children, sudden ends, bad handles,
// missing parts. What is left over is looked for by whoever runs this.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { call, native, open } from "../../../examples/node/native.js";
import { examples, node, program, Sandbox } from "./support.js";

const START = 'const sandbox = await Sandbox.create(["sleep", "1000"], { encryptedPorts: [1] }); sandbox.tunnels();\n';
const ok = (done) => assert.deepEqual([done.code, done.signal, done.stderr], [0, null, ""]);

test("an idle sandbox doesn't keep the process alive", async () => {
  ok(await program(START));
  ok(await program(`${START} sandbox.ref(); sandbox.unref();`));
  ok(await program(`${START} sandbox.events();`));
});

test("one that is waited for does", async () => {
  const short = 'const sandbox = await Sandbox.create(["sleep", "1"]);\n';
  for (const how of ["sandbox.wait()", "sandbox.ref().wait()", "(async () => { for await (const _ of sandbox.events()); })()"]) {
    const done = await program(`${short} ${how}.then(() => console.log(sandbox.exitCode));`);
    ok(done);
    assert.equal(done.stdout, "0\n");
  }
  const done = await program(`${short} sandbox.ref(); process.on("exit", () => console.log(sandbox.exitCode));`);
  ok(done);
  assert.equal(done.stdout, "0\n");
});

test("sudden ends", async () => {
  for (const [end, code, signal] of [
    ["process.exit(3)", 3, null],
    ["process.kill(process.pid, 'SIGKILL')", null, "SIGKILL"],
    ["process.abort()", null, "SIGABRT"],
    ["setImmediate(() => { throw new Error('on purpose'); })", 1, null],
    ["sandbox.wait(); process.exit(4)", 4, null],
    ["Sandbox.create(['true']); process.exit(5)", 5, null],
    ["for (let i = 0; i < 4; i++) Sandbox.create(['true']); setTimeout(() => process.exit(6), 30)", 6, null],
  ]) {
    const done = await program(START + end);
    assert.deepEqual([done.code, done.signal], [code, signal], `${end}: ${done.code} ${done.signal} ${done.stderr}`);
  }
  const done = await program("Sandbox.create(['true']).finally(() => {}); process.exit(7)");
  assert.deepEqual([done.code, done.signal], [7, null], done.stderr);
});

const overFfiNapi = process.env.SBX_FFI === "@2060.io/ffi-napi"; // which is not for workers
const testWorkers = overFfiNapi ? () => {} : test;
const WORKERS = `
  import { Worker } from "node:worker_threads";
  const start = (options) => new Worker(new URL(${JSON.stringify(new URL("worker.js", import.meta.url))}), { execArgv: [], ...options });
  const message = (worker) => new Promise((resolve, reject) => worker.once("message", resolve).on("error", reject));
  const exit = (worker) => new Promise((resolve) => worker.on("exit", resolve));
`;

testWorkers("workers have their own", async () => {
  const done = await program(`${WORKERS}
    const sandbox = await Sandbox.create(["sleep", "1000"]);
    const run = async (worker) => Promise.all([message(worker), exit(worker)]);
    console.log(JSON.stringify(await Promise.all([start(), start(), start()].map(run))), sandbox.exitCode);
    // One that is stopped in the middle of everything.
    const stopped = start({ workerData: { more: true } });
    await message(stopped);
    await message(stopped);
    await new Promise((resolve) => setTimeout(resolve, 300));
    await stopped.terminate();
    console.log((await sandbox.terminate()).code);
  `);
  assert.equal(done.stdout, "[[5,0],[5,0],[5,0]] null\n137\n", `${done.code} ${done.signal} ${done.stderr}`);
  assert.equal(done.code, 0, done.stderr);
});

// While Node loads an add-on, koffi among them, a worker that is stopped aborts the process: the README says so.
testWorkers("workers that have loaded it can be stopped at any moment", async () => {
  const done = await program(`${WORKERS}
    for (let moment = 0; moment < 16; moment++) {
      const worker = start({ workerData: { more: true } });
      await message(worker);
      await new Promise((resolve) => setTimeout(resolve, 20 * moment));
      await worker.terminate();
    }
    const sandbox = await Sandbox.create(["sleep", "1000"]);
    console.log((await sandbox.terminate()).code);
  `);
  assert.deepEqual([done.code, done.signal, done.stdout], [0, null, "137\n"], `${done.code} ${done.signal} ${done.stderr}`);
});

if (overFfiNapi) test("ffi-napi is refused in a worker, and harms nobody", async () => {
  const done = await program(`${WORKERS}
    const sandbox = await Sandbox.create(["sleep", "1000"]);
    const error = await new Promise((resolve) => start().on("error", resolve));
    console.log(error.message);
    for (let moment = 0; moment < 16; moment++) {
      const worker = start().on("error", () => {});
      await new Promise((resolve) => setTimeout(resolve, 5 * moment));
      await worker.terminate();
    }
    // The main thread's choice need not be the worker's.
    console.log(await message(start({ env: { ...process.env, SBX_FFI: "" } })), (await sandbox.stats()).uptimeMs >= 0);
    console.log((await sandbox.terminate()).code);
  `);
  assert.deepEqual([done.code, done.signal, done.stderr], [0, null, ""], `${done.code} ${done.signal} ${done.stderr}`);
  assert.match(done.stdout, /^@2060\.io\/ffi-napi would abort the whole process .* npm install koffi, .* SBX_FFI unset\n5 true\n137\n$/);
});

testWorkers("what a worker leaves behind ends with it", async () => {
  const done = await program(`${WORKERS}
    const { readdirSync } = await import("node:fs");
    const children = () => readdirSync("/proc/self/task").flatMap((thread) =>
      readFileSync("/proc/self/task/" + thread + "/children", "utf8").split(" ").filter(Boolean)).length;
    const { readFileSync } = await import("node:fs");
    const before = children();
    const worker = start();
    await exit(worker);
    const deadline = Date.now() + 60000;
    while (children() > before && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
    console.log(children() - before);
  `);
  assert.equal(done.stdout, "0\n", done.stderr);
});

test("garbage is ended", async () => {
  const done = await node(["--expose-gc", "--input-type=module", "--eval", `
    import { readdirSync, readFileSync } from "node:fs";
    import { Sandbox } from ${JSON.stringify(`${examples}sbx.js`)};
    const names = (pid, id) => {
      try {
        return readFileSync("/proc/" + pid + "/cmdline", "utf8").includes(id);
      } catch {
        return false;
      }
    };
    let sandbox = await Sandbox.create(["sleep", "1000"], { stdin: "pipe" });
    sandbox.stdin.end();
    const { id } = sandbox;
    const alive = () => readdirSync("/proc").some((pid) => names(pid, id));
    console.log(alive());
    sandbox = undefined;
    const deadline = Date.now() + 60000;
    while (alive() && Date.now() < deadline) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    console.log(alive());
  `]);
  assert.equal(done.stdout, "true\nfalse\n", done.stderr);
});

test("what somebody waits for, has a program of or a stream of is not garbage", async () => {
  const done = await node(["--expose-gc", "--input-type=module", "--eval", `
    import { text } from "node:stream/consumers";
    import { Sandbox } from ${JSON.stringify(`${examples}sbx.js`)};
    const shell = (script, options) => Sandbox.create(["sh", "-c", script], options);
    const exec = async (script, options) => (await Sandbox.create()).exec(["sh", "-c", script], options);
    const kinds = async (events) => {
      for await (const { kind, code } of events) if (kind === "exited") return code;
    };
    const late = "sleep 0.5; touch /tmp/up; echo written; sleep 0.5; exit 3";
    const readinessProbe = { command: ["test", "-e", "/tmp/up"], intervalMs: 20 };
    setInterval(gc, 1).unref();
    const program = exec("read line; exit 4", { stdin: "pipe" });
    console.log(...(await Promise.all([
      shell(late).then((sandbox) => sandbox.wait()).then(({ code }) => code),
      shell(late).then((sandbox) => kinds(sandbox.events())),
      shell(late, { readinessProbe }).then((sandbox) => sandbox.waitUntilReady()).then(() => "ready"),
      shell(late, { stdout: "pipe" }).then((sandbox) => text(sandbox.stdout)),
      exec(late).then((process) => process.wait()).then(({ code }) => code),
      exec(late, { stdout: "pipe" }).then((process) => text(process.stdout)),
    ])).map(String).map((result) => result.trim()));
    (await program).stdin.end("\\n");
    console.log((await (await program).wait()).code);
  `]);
  assert.deepEqual([done.stdout, done.stderr], ["3 3 ready written 3 written\n4\n", ""]);
});

test("an end is seen by what only writes, which is garbage then", async () => {
  const done = await node(["--expose-gc", "--input-type=module", "--eval", `
    import { once } from "node:events";
    import { Sandbox } from ${JSON.stringify(`${examples}sbx.js`)};
    const end = async () => {
      const sandbox = await Sandbox.create(["true"], { stdin: "pipe" });
      await Promise.all([once(sandbox.stdin, "close"), sandbox.wait()]);
      return new WeakRef(sandbox);
    };
    const sandbox = await end();
    while (sandbox.deref()) {
      await new Promise(setImmediate);
      gc();
    }
    console.log("garbage");
  `]);
  assert.deepEqual([done.stdout, done.stderr], ["garbage\n", ""]);
});

test("a host with children, without SIGCHLD, and with handlers of its own", async () => {
  const sandbox = await Sandbox.create(["sleep", "1000"]);
  for (let i = 0; i < 5; i++) assert.equal(spawnSync("sh", ["-c", "exit 4"]).status, 4);
  assert.equal(sandbox.exitCode, null);
  await sandbox.terminate();
  const ignoring = await node([
    "--eval",
    `require("child_process").spawn("python3", ["-c", ${JSON.stringify(
      "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])",
    )}, process.execPath, "--input-type=module", "--eval", ${JSON.stringify(
      `import { Sandbox } from ${JSON.stringify(`${examples}sbx.js`)};
       const sandbox = await Sandbox.create(["sh", "-c", "exit 6"]); console.log((await sandbox.wait()).code);`,
    )}], { stdio: "inherit" });`,
  ]);
  assert.equal(ignoring.stdout, "6\n", ignoring.stderr);
});

test("freed, wrong and null handles are errors", async () => {
  const queue = open("queue_new", 1);
  for (const handle of [0, queue, 12345]) {
    for (const [name, ...more] of [["terminate"], ["signal", 9], ["sandbox_open_fd", 1]]) {
      assert.throws(() => call(name, handle, ...more), { code: "SBX_EHANDLE" });
    }
  }
  for (const free of ["sandbox_free", "config_free", "queue_free", "queue_free"]) native[free](queue);
  assert.throws(() => call("queue_open_fd", queue), { code: "SBX_EHANDLE" });
  assert.throws(() => call("config_check", 2 ** 52), { code: "SBX_EHANDLE" });
});

function loadedFrom() {
  const line = readFileSync("/proc/self/maps", "utf8").split("\n").find((line) => line.includes("libsbx.so"));
  return line.slice(line.indexOf("/"));
}

testWorkers("two copies of the library, in two workers", async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "sbx-"));
  t.after(() => rmSync(directory, { recursive: true }));
  copyFileSync(loadedFrom(), join(directory, "other.so"));
  const other = JSON.stringify(join(directory, "other.so"));
  const done = await program(`${WORKERS}
    const { readFileSync } = await import("node:fs");
    const sandbox = await Sandbox.create(["sleep", "1000"]);
    const worker = start({ env: { ...process.env, SBX_LIBRARY: ${other} }, workerData: { more: true } });
    await message(worker);
    console.log(await message(worker), readFileSync("/proc/self/maps", "utf8").includes(${other}), sandbox.exitCode);
    await worker.terminate();
    console.log((await sandbox.terminate()).code);
  `);
  assert.equal(done.stdout, "5 true null\n137\n", done.stderr);
});

test("what is missing is named", async () => {
  const library = await program("", { SBX_LIBRARY: "/nonexistent/libsbx.so" });
  assert.match(library.stderr, /libsbx was not found\. Build it \(cargo build --release\)/);
  assert.match(library.stderr, /SBX_LIBRARY\. Tried: \/nonexistent\/libsbx\.so: /);
  const package_ = await program("", { SBX_FFI: "no-such-package" });
  assert.match(package_.stderr, /no FFI package: npm install koffi/);
  const lines = `
    for (let i = 0; i < 2; i++) await Sandbox.create(["true"]).catch((error) => console.log(error.code, error.message));
  `;
  const runsc = await program(lines, { SBX_RUNSC: "/nonexistent/runsc" });
  assert.match(runsc.stdout, /^(SBX_ERUNSC_\w+ .*\/nonexistent\/runsc.*\n){2}$/);
});
