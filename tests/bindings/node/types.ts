// Compiled, not run: the types hold what the README shows.

import { get } from "node:https";
import { Sandbox, SbxError, type Exit, type Tunnel } from "../../../examples/node/sbx.js";

export async function example(): Promise<number> {
  await using sandbox = await Sandbox.create(["python3", "-m", "http.server", "12345"], {
    encryptedPorts: [12345],
    readinessProbe: { port: 12345 },
    stdout: "pipe",
  });
  const tunnel: Tunnel | undefined = sandbox.tunnels()[12345];
  if (tunnel?.url) get(tunnel.url, { ca: tunnel.ca });
  for await (const chunk of sandbox.stdout!) process.stdout.write(chunk as Buffer);
  for await (const event of sandbox.events()) if (event.kind === "denied") console.log(event.address, event.detail);
  const process_ = await sandbox.exec(["sh"], { terminal: { rows: 24, columns: 80 } });
  process_.resize(30, 100);
  process_.terminal?.write("exit\n");
  const exit: Exit = await sandbox.wait({ timeoutMs: 1000 });
  return exit.code;
}

export function explain(error: unknown): string {
  return error instanceof SbxError ? `${error.code} ${error.errno} ${error.osError} ${error.message}` : String(error);
}

// @ts-expect-error: an option that there isn't
void Sandbox.create(["true"], { colour: "red" });
// @ts-expect-error: made by create() alone
void new Sandbox();
// @ts-expect-error: a probe has a port or a command
void Sandbox.create(["true"], { readinessProbe: { intervalMs: 5 } });
