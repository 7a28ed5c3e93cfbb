// A provider of ComputeSDK: its sandboxes are gVisor sandboxes of this process.

import { posix } from "node:path";
import { defineProvider, type CreateSandboxOptions } from "@computesdk/provider";
import {
  type FileOptions,
  findImage,
  type Image,
  importImage,
  listImages,
  type Options,
  pullImage,
  removeImage,
  Sandbox,
} from "libsbx";
import { run } from "./command.js";

const NAME = "libsbx";
const SNAPSHOTS = "computesdk";
const DEFAULT_TIMEOUT_MS = 300_000;

export interface LibsbxConfig {
  /** Reference of a registry, for sandboxes that name no `image`. Without any image they show the host's programs. */
  image?: string;
  /** The same by the path of an archive of `docker save`, an OCI layout or a root file system. */
  imagePath?: string;
  /** Ports that getUrl() knows; a sandbox can have others by `ports` of create(). */
  ports?: readonly number[];
  /** In place of the image's. */
  user?: string;
  /** What relative paths are relative to, and where commands start: the image's directory, or "/". */
  workdir?: string;
  /** Whatever else Sandbox.create() takes: limits, what may be reached (nothing, unless this says otherwise), mounts. */
  options?: Options;
}

export interface Snapshot {
  id: string;
  provider: string;
  createdAt: Date;
  metadata?: Record<string, string>;
}

interface Known {
  readonly createdAt: Date;
  readonly timeout: number;
  readonly workdir: string;
  readonly user: string | undefined;
  readonly metadata: Record<string, unknown> | undefined;
}

// Sandboxes are this process's: there are no others to be listed.
const created = new Map<string, Sandbox>();
const known = new WeakMap<Sandbox, Known>();
const imported = new Map<string, Promise<Image>>();

/** Those that run. To wait for them instead would keep the process alive. */
function live(): Map<string, Sandbox> {
  for (const [id, sandbox] of created) {
    if (sandbox.exitCode !== null) created.delete(id);
  }
  return created;
}

function about(sandbox: Sandbox): Known {
  const found = known.get(sandbox);
  if (!found) throw new Error(`${sandbox.id} is no sandbox of this provider`);
  return found;
}

const place = (sandbox: Sandbox, path: string) => posix.resolve(about(sandbox).workdir, path);
const rights = (sandbox: Sandbox): FileOptions => ({ user: about(sandbox).user });

async function imageFor(config: LibsbxConfig, options: CreateSandboxOptions): Promise<Image | undefined> {
  const { snapshotId, templateId, image = config.image } = options;
  if (snapshotId ?? templateId) return await findImage((snapshotId ?? templateId) as string);
  if (image) return await pullImage(image, { signal: options.signal, progress: () => {} });
  if (!config.imagePath) return undefined;
  const path = config.imagePath;
  const found = imported.get(path) ?? importImage(path, { progress: () => {} });
  imported.set(path, found);
  found.catch(() => imported.delete(path));
  return await found;
}

function network(config: LibsbxConfig, ports: readonly number[]): Options {
  const { blockNetwork, outboundCidrAllowlist, outboundDomainAllowlist } = config.options ?? {};
  if (blockNetwork !== undefined || outboundCidrAllowlist || outboundDomainAllowlist) return {};
  return ports.length ? { outboundCidrAllowlist: [] } : { blockNetwork: true };
}

async function create(config: LibsbxConfig, options: CreateSandboxOptions = {}) {
  const image = await imageFor(config, options);
  const said = (image?.config.config ?? {}) as { User?: string; WorkingDir?: string; Cmd?: unknown; Entrypoint?: unknown };
  const ports: readonly number[] = options.ports ?? config.ports ?? [];
  const timeout = options.timeout ?? config.options?.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const workdir = options.directory ?? config.workdir ?? (said.WorkingDir || "/");
  const user = config.user ?? (said.User || undefined);
  const sandbox = await Sandbox.create(undefined, {
    ...config.options,
    // After the options, which may have `blockNetwork: undefined`.
    ...network(config, ports),
    image,
    // In place of the image's own program; without one the sandbox waits for commands by itself.
    ...(image?.hasProgram ? { entrypoint: ["sleep", "infinity"] } : {}),
    env: { ...config.options?.env, ...options.envs },
    timeoutMs: timeout,
    unencryptedPorts: ports,
    ...(user === undefined ? {} : { user }),
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.cpu === undefined ? {} : { cpu: options.cpu }),
    ...(options.memoryMiB === undefined ? {} : { memoryMiB: options.memoryMiB }),
    ...(options.diskMiB === undefined ? {} : { diskMiB: options.diskMiB }),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const metadata = options.metadata as Record<string, unknown> | undefined;
  known.set(sandbox, { createdAt: new Date(), timeout, workdir, user, metadata });
  live().set(sandbox.id, sandbox);
  return { sandbox, sandboxId: sandbox.id };
}

/** `libsbx({ image: "python:3.12" })` is a provider for createCompute(), or to be used by itself. */
export const libsbx = defineProvider<Sandbox, LibsbxConfig, never, Snapshot>({
  name: NAME,
  methods: {
    sandbox: {
      create,
      async getById(_config, sandboxId) {
        const sandbox = live().get(sandboxId);
        return sandbox ? { sandbox, sandboxId } : null;
      },
      list: async () => [...live()].map(([sandboxId, sandbox]) => ({ sandbox, sandboxId })),
      async destroy(_config, sandboxId) {
        await live().get(sandboxId)?.[Symbol.asyncDispose]();
      },
      runCommand,
      streamCommand: runCommand,
      async getInfo(sandbox) {
        const { createdAt, timeout, metadata = {} } = about(sandbox);
        const status = sandbox.exitCode === null ? "running" : "stopped";
        return { id: sandbox.id, provider: NAME, status, createdAt, timeout, metadata };
      },
      async getUrl(sandbox, { port, protocol = "http" }) {
        const tunnel = sandbox.tunnels()[port];
        if (!tunnel) throw new Error(`port ${port} has no tunnel: list it in \`ports\``);
        return `${protocol}://${tunnel.host}:${tunnel.port}`;
      },
      filesystem: {
        readFile: (sandbox, path) => sandbox.files.readFile(place(sandbox, path), { encoding: "utf8", ...rights(sandbox) }),
        async writeFile(sandbox, path, content) {
          const limit = Math.max(1, Buffer.byteLength(content));
          await sandbox.files.writeFile(place(sandbox, path), content, { parents: true, limit, ...rights(sandbox) });
        },
        mkdir: (sandbox, path) =>
          sandbox.files.makeDirectory(place(sandbox, path), { recursive: true, ...rights(sandbox) }),
        async readdir(sandbox, path) {
          const found = await sandbox.files.list(place(sandbox, path), rights(sandbox));
          return found.map(({ name, kind, size, mtime }) => {
            return { name, type: kind === "directory" ? "directory" : "file", size, modified: mtime };
          });
        },
        async exists(sandbox, path) {
          try {
            await sandbox.files.stat(place(sandbox, path), rights(sandbox));
            return true;
          } catch (error) {
            if (["ENOENT", "ENOTDIR"].includes((error as { code?: string }).code ?? "")) return false;
            throw error;
          }
        },
        remove: (sandbox, path) => sandbox.files.remove(place(sandbox, path), { recursive: true, ...rights(sandbox) }),
      },
    },
    snapshot: {
      async create(_config, sandboxId, options = {}) {
        const sandbox = live().get(sandboxId);
        if (!sandbox) throw new Error(`there is no sandbox ${sandboxId}`);
        const tag = `${SNAPSHOTS}/${options.name ?? sandboxId}`;
        return described(await sandbox.snapshot({ tag: tag.toLowerCase(), progress: () => {} }));
      },
      async list(_config, { limit = Infinity } = {}) {
        const found = await listImages();
        return found.filter(isSnapshot).slice(0, limit).map(described);
      },
      async delete(_config, snapshotId) {
        await removeImage(snapshotId);
      },
    },
  },
});

const isSnapshot = ({ tags }: { tags: readonly string[] }) => tags.some((tag) => tag.includes(`${SNAPSHOTS}/`));

function described({ id, tags, created }: { id: string; tags: readonly string[]; created: Date }): Snapshot {
  return { id, provider: NAME, createdAt: created, metadata: { tags: tags.join(" ") } };
}

async function runCommand(
  sandbox: Sandbox,
  command: string,
  options: Parameters<NonNullable<Parameters<typeof defineProvider>[0]["methods"]["sandbox"]["runCommand"]>>[2] = {},
) {
  const { workdir, user } = about(sandbox);
  const { cwd, env, timeout, background, onStdout, onStderr } = options;
  const how = { env, workdir: cwd ? place(sandbox, cwd) : workdir, user, timeoutMs: timeout };
  if (background) {
    await sandbox.exec(["sh", "-c", command], how);
    return { stdout: "", stderr: "", exitCode: 0, durationMs: 0 };
  }
  return await run(sandbox, command, { ...how, onStdout, onStderr });
}
