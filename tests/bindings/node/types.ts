// Compiled, not run: the types hold what the README shows.

import { get } from "node:https";
import { pipeline } from "node:stream/promises";
import { checkPolicy, createVolume, doctor, FileError, importImage, listImages, listVolumes, logTo, pruneImages, pullImage, removeVolume, Sandbox, SbxError, tagImage, type Exit, type Image, type Policy, type Report, type Tunnel, type VolumeInfo } from "../../../examples/node/sbx.js";

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

export async function files({ files }: Sandbox): Promise<number | undefined> {
  await files.writeFile("/tmp/a/b", new Uint8Array(3), { parents: true, flag: "ax", mode: 0o600 });
  const text: string = await files.readFile("/tmp/a/b", "utf8");
  const bytes: Buffer = await files.readFile(Buffer.from("/tmp/a/b"), { offset: text.length });
  for (const { name, kind, mtime, target } of await files.list("/tmp")) console.log(name.trim(), kind, mtime, target);
  for (const { name } of await files.list("/tmp", "buffer")) console.log(name.readUInt8(bytes.length));
  const from = files.createReadStream("/tmp/a/b", { user: "nobody", signal: AbortSignal.timeout(1000) });
  await pipeline(from, files.createWriteStream("/tmp/c"));
  await pipeline(files.copyOut("/tmp/a"), files.copyIn("/tmp/d", { parents: true, keepOwner: true }));
  for await (const { kind, path } of files.watch("/tmp", { recursive: true })) if (kind === "overflow") return path.length;
  return from.totals?.bytes;
}

export async function change(sandbox: Sandbox): Promise<number> {
  const { options, generation }: Policy = await sandbox.policy();
  const next: number = await sandbox.setPolicy({ ...options, outboundCidrDenylist: ["198.51.100.0/24"] });
  const { memoryBytes, uptimeMs } = await sandbox.stats();
  return next - generation + uptimeMs + (memoryBytes ?? 0);
}

export async function network(): Promise<boolean> {
  const sandbox = await Sandbox.create(undefined, {
    encryptedPorts: [8000, 8001],
    bindPorts: { 8000: "0.0.0.0", 8001: { address: "::", port: 8443 } },
    tlsCertificate: { cert: "", key: "" },
    nameservers: ["127.0.0.1:5353"],
    egressLimits: { maxFlows: 100 },
    tags: { owner: "me" },
  });
  (await sandbox.connect(8000)).end(sandbox.tags["owner"]);
  logTo(process.stderr, "debug");
  const { usable, findings }: Report = await doctor();
  const { allowed, reason } = checkPolicy({ blockNetwork: true }, { address: "192.0.2.1", protocol: "udp" });
  return usable && findings.length > 0 && allowed && reason === "notListed";
}

export async function images(signal: AbortSignal): Promise<number> {
  using image: Image = await pullImage("python:3.12", { signal, progress: (done, total) => void (done / total) });
  const sandbox = await Sandbox.create(undefined, { image, imageMounts: { "/mnt": image } });
  const snapshot = await sandbox.snapshot({ tag: "mine" });
  await tagImage(snapshot.id, "other");
  const directory: Image = await sandbox.snapshotDirectory("/data", { tag: "mine" });
  await sandbox.copyImage(directory, "/copy", { signal: AbortSignal.timeout(1000) });
  const kept: Image = await sandbox.exitImage();
  return (await listImages()).length + (await pruneImages()).bytes + (await importImage("root.tar", { format: "tarball" })).size;
}

export async function volumes(): Promise<string[]> {
  const { name, path, inUse }: VolumeInfo = await createVolume("data", { exclusive: true });
  const mounts = { "/a": name, "/b": { name, readOnly: true, subPath: "x" } };
  await Sandbox.create(["true"], { volumes: mounts });
  if (!inUse) await removeVolume(name);
  return [path, ...(await listVolumes()).map((volume) => volume.created.toISOString())];
}

export function explain(error: unknown): string {
  if (error instanceof FileError) return `${error.code} (${error.sbxCode}) ${error.path}`;
  return error instanceof SbxError ? `${error.code} ${error.errno} ${error.osError} ${error.message}` : String(error);
}

// @ts-expect-error: an option that there isn't
void Sandbox.create(["true"], { colour: "red" });
// @ts-expect-error: made by create() alone
void new Sandbox();
// @ts-expect-error: a probe has a port or a command
void Sandbox.create(["true"], { readinessProbe: { intervalMs: 5 } });
// @ts-expect-error: a policy has no ports
export const ports = (sandbox: Sandbox) => sandbox.setPolicy({ encryptedPorts: [80] });
// @ts-expect-error: a volume has a name
void Sandbox.create(["true"], { volumes: { "/v": { create: true } } });
