// What the tests of the Node package share. It is found in examples/node, the library where the system looks.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { buffer, text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { SbxError } from "../../../examples/node/sbx.js";

export * from "../../../examples/node/sbx.js";

export const examples = fileURLToPath(new URL("../../../examples/node/", import.meta.url));

/** Runs another program; an empty variable is unset. */
export async function run([command, ...parameters], environment = {}) {
  const env = { ...process.env, ...environment };
  for (const [name, value] of Object.entries(env)) if (value === "") delete env[name];
  const child = spawn(command, parameters, { env, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal })));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { ...(await ended), stdout, stderr };
}

/** Runs another Node. */
export const node = (parameters, environment) => run([process.execPath, ...parameters], environment);

/** Runs a module of these lines, which has imported Sandbox. */
export function program(lines, environment) {
  const start = `import { Sandbox, SbxError } from ${JSON.stringify(`${examples}sbx.js`)};\n`;
  return node(["--input-type=module", "--eval", start + lines], environment);
}

/** All that a stream gives. */
export const all = (stream) => text(stream);
export const bytes = (stream) => buffer(stream);

/** For assert.rejects: an error of the library with that code, and that in its text. */
export const refused = (code, part) => (error) => {
  assert.ok(error instanceof SbxError, error.stack);
  assert.equal(error.code, code);
  assert.ok(error.message.includes(part), error.message);
  return true;
};
