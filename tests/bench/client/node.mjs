// How much of Node's event loop the library takes: node node.mjs ours|control|load SANDBOXES
//
// `ours` starts the sandboxes and reads what they write. `control` does the same reading, of a process that has
// started the same sandboxes (`load`): equal work for the machine, but nothing of the library in the process.
// Prints the p99 of the event loop's delay in microseconds, the bytes read, and for `ours` the longest library call
// and what the thread itself held of the longest: without the time in which it wanted a processor and had none.

import { spawn } from "node:child_process";
import { closeSync, openSync, readSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { fileURLToPath } from "node:url";

const [mode, count] = [process.argv[2], Number(process.argv[3])];
// Written bit by bit, as programs do.
const PROGRAM = ["sh", "-c", "i=0; while [ $i -lt 100 ]; do head -c 16384 /dev/zero; i=$((i + 1)); done"];

const schedule = openSync("/proc/thread-self/schedstat", "r");
const buffer = Buffer.alloc(128);
/** Nanoseconds for which this thread has waited for a processor. */
function waited() {
  return Number(buffer.toString("latin1", 0, readSync(schedule, buffer, 0, 128, 0)).split(" ")[1]);
}

const longest = { wall: 0, held: 0, name: "" };
function timed(name, call) {
  const before = waited();
  const start = process.hrtime.bigint();
  try {
    return call();
  } finally {
    const wall = Number(process.hrtime.bigint() - start) / 1000;
    const held = Math.max(0, wall - (waited() - before) / 1000);
    longest.wall = Math.max(longest.wall, wall);
    if (held > longest.held) Object.assign(longest, { held, name });
  }
}

async function sandboxes(output) {
  const { native } = await import("../../../examples/node/native.js");
  const { Sandbox } = await import("../../../examples/node/sbx.js");
  for (const [name, call] of Object.entries(native)) {
    native[name] = Object.assign((...parameters) => timed(name, () => call(...parameters)), { async: call.async });
  }
  const one = async () => {
    const sandbox = await Sandbox.create(PROGRAM, { stdout: "pipe", encryptedPorts: [80] });
    for await (const chunk of sandbox.stdout) output(chunk);
    await sandbox.wait();
  };
  await Promise.all(Array.from({ length: count }, one));
}

if (mode === "load") {
  // What a full pipe refuses, Node keeps: the reader decides how fast it goes.
  await sandboxes((chunk) => process.stdout.write(chunk));
} else {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  let bytes = 0;
  const read = (chunk) => (bytes += chunk.length);
  delay.enable();
  if (mode === "ours") {
    await sandboxes(read);
  } else {
    const load = spawn(process.execPath, [fileURLToPath(import.meta.url), "load", String(count)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    for await (const chunk of load.stdout) read(chunk);
  }
  delay.disable();
  closeSync(schedule);
  const rounded = [delay.percentile(99) / 1000, bytes, longest.wall, longest.held].map(Math.round);
  console.log(...rounded, longest.name || "-");
}
