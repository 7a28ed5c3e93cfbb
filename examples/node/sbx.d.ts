// gVisor sandboxes inside your own process. In worker threads it takes koffi: importing it there throws where SBX_FFI
// names ffi-napi, or nothing else is installed.

import type { Socket } from "node:net";
import type { Readable, Writable } from "node:stream";

export interface ProgramOptions {
  env?: Record<string, string>;
  /** The same for values that the library overwrites when it no longer needs them. `env` wins. */
  secrets?: Record<string, string>;
  /** The directory that the program starts in. */
  workdir?: string;
  /** "name", "uid", "uid:gid" or "name:group". If nothing is said, root; of an executed program, the sandbox's user. */
  user?: string;
  /** How long it may run: a sandbox 300 000 if nothing is said. Then it ends with 124. */
  timeoutMs?: number;
  /** What becomes of the streams: "ignore" if nothing is said. A program whose pipe nobody reads waits, as any child. */
  stdin?: "ignore" | "pipe";
  stdout?: "ignore" | "pipe";
  stderr?: "ignore" | "pipe" | "merged";
  /** Gives it up while it is being started. */
  signal?: AbortSignal;
}

export interface ExecOptions extends ProgramOptions {
  /** A terminal of that size in the place of the streams. */
  terminal?: { rows: number; columns: number };
}

/** What a sandbox may reach. Without any of these, every public address that is not on one of the host's own links. */
export interface PolicyOptions {
  /** No network at all. Not with ports or lists. */
  blockNetwork?: boolean;
  /** What alone may be reached, with outboundDomainAllowlist; [] allows nothing. */
  outboundCidrAllowlist?: readonly string[];
  /** Names that may be reached over TLS, "*." in front for all below one. */
  outboundDomainAllowlist?: readonly string[];
  /** What may not be reached, whatever is allowed. */
  outboundCidrDenylist?: readonly string[];
  /** Where neighbours on the host's own links may be reached at public addresses, which are denied otherwise. Not with lists. */
  outboundLocalCidrs?: readonly string[];
  /**
   * Which names are answered: "auto" for every name, or with lists those of outboundDomainAllowlist; "addresses" for the
   * addresses of those and nothing else of them; every name or none.
   */
  outboundDns?: "auto" | "on" | "off" | "addresses";
  /** On which ports the names may be reached, beside 443. It takes outboundDomainAllowlist, and isn't read back. */
  outboundTlsPorts?: readonly number[];
}

/** Why something is allowed or denied: SBX_REASON_… of sbx.h, which says more of each. */
export type PolicyReason =
  | "open"
  | "listed"
  | "domain"
  | "blocked"
  | "denied"
  | "notListed"
  | "protected"
  | "metadata"
  | "host"
  | "reserved"
  | "protocol"
  | "dnsName"
  | "rebinding"
  | "notTls"
  | "noServerName"
  | "serverName"
  | "notResolved"
  | "tlsTimeout"
  | "gateway"
  | "onLink"
  | "unknown";

export interface Verdict {
  readonly allowed: boolean;
  readonly reason: PolicyReason;
  /** The place among the policy's entries of the one that decided, or -1. */
  readonly entry: number;
  /** The same for people. */
  readonly detail: string;
}

/**
 * What the policy of these options says of an address, and why. It takes no sandbox and sends nothing. What is reached
 * as a domain's only is not allowed here: that depends on the names that the sandbox asks for.
 */
export function checkPolicy(
  options: PolicyOptions,
  destination: { address: string; port?: number; protocol?: "tcp" | "udp" | number },
): Verdict;

export interface Finding {
  /** "limited" works, but less well; without what is "missing", sandboxes can't be created. */
  readonly status: "ok" | "limited" | "missing" | "unknown";
  readonly name: string;
  readonly detail: string;
  /** What to do about it, or empty. */
  readonly remedy: string;
}

export interface Report {
  /** Whether sandboxes can be created here. */
  readonly usable: boolean;
  readonly findings: readonly Finding[];
  /** What JSON.stringify writes: "version" (the library's), "usable" and "findings". */
  toJSON(): { readonly version: string; readonly usable: boolean; readonly findings: readonly Finding[] };
}

/** Checks everything that sandboxes need of this machine. What is missing is in the report, and no error. */
export function doctor(): Promise<Report>;

export type LogLevel = "off" | "error" | "warning" | "info" | "debug" | "trace";

/**
 * Sends the library's log lines to a descriptor, or a stream that has one, which stays yours; null ends that. It is one
 * setting for the process ("warning" if nothing is said); no secret is logged at any level.
 */
export function logTo(target: number | { readonly fd: number } | null, level?: LogLevel): void;

/** What is known of a volume: a named directory that outlives sandboxes. */
export interface VolumeInfo {
  readonly name: string;
  /** Its directory on this machine. What sandboxes wrote there is theirs: follow no links in it, and trust no content. */
  readonly path: string;
  readonly created: Date;
  /** Whether a sandbox of any of the user's programs has it mounted. */
  readonly inUse: boolean;
}

/** How a volume is mounted. */
export interface VolumeMount {
  /** 1 to 64 of a-z 0-9 . _ -, and no dot first. */
  name: string;
  /** The sandbox can't write to it. */
  readOnly?: boolean;
  /** Make the volume if there is none of that name. */
  create?: boolean;
  /** Mount only this directory of it: a relative path, on which no symbolic link is followed. */
  subPath?: string;
  /** Make the directories of subPath that are missing. */
  createSubPath?: boolean;
}

/** Makes a volume. One that exists is left as it is, or with `exclusive` an error. */
export function createVolume(name: string, options?: { exclusive?: boolean }): Promise<VolumeInfo>;
export function findVolume(name: string): Promise<VolumeInfo>;
/** The volumes, by name. */
export function listVolumes(): Promise<VolumeInfo[]>;
/** Removes a volume with everything in it. Refused while a sandbox of any of the user's programs has it mounted. */
export function removeVolume(name: string): Promise<void>;

/** What is known of an image in the store. */
export interface ImageInfo {
  /** "sha256:" and 64 hexadecimal digits. */
  readonly id: string;
  readonly tags: readonly string[];
  /** Where it came from, for people. */
  readonly source: string;
  /** Bytes in the store. */
  readonly size: number;
  readonly created: Date;
  readonly lastUsed: Date;
}

/**
 * A root file system with its settings: Options.image. It doesn't change, and stays usable when it is removed from the
 * store, until it is disposed of or garbage.
 */
export class Image implements ImageInfo, Disposable {
  private constructor();
  readonly id: string;
  readonly tags: readonly string[];
  readonly source: string;
  readonly size: number;
  readonly created: Date;
  readonly lastUsed: Date;
  /** Its settings, as the OCI image specification has them. */
  readonly config: { readonly config?: Readonly<Record<string, unknown>>; readonly [name: string]: unknown };
  /** Whether its settings say what runs in it. */
  readonly hasProgram: boolean;
  [Symbol.dispose](): void;
}

/** What an image may need; more is SBX_ELIMIT. What is not said is the library's own. */
export interface ImageLimits {
  /** Of its files: 16 GiB. */
  bytes?: number;
  /** Files, directories, links: 1,000,000. */
  entries?: number;
  /** Of a layer to its compressed size, beyond 16 MiB: 200. */
  ratio?: number;
  /** For names and the like: 512 MiB. */
  memoryBytes?: number;
  /** Of directories: 64. */
  depth?: number;
  /** 127. */
  layers?: number;
}

export interface ProgressOptions {
  /** Gets the bytes done and in all, at most ten times a second. If nothing is said, a terminal at stderr shows a bar. */
  progress?: (done: number, total: number) => void;
  /** Gives it up; nothing of it stays. */
  signal?: AbortSignal;
}

interface ImageOptions extends ProgressOptions {
  /** The name that it is stored under: if nothing is said the reference; of an import, none. */
  tag?: string;
  /** "os/architecture" or "os/architecture/variant"; this machine's if nothing is said. */
  platform?: string;
  limits?: ImageLimits;
}

export interface PullOptions extends ImageOptions {
  /** Of the registry; if nothing is said, as ~/.docker/config.json has it. */
  username?: string;
  password?: string;
  /** Authorities, in PEM, beside the system's. */
  caPem?: string;
  /** The absolute path of a docker credential helper. */
  credentialHelper?: string;
  /** "registry=host", asked first, in this order. */
  mirrors?: readonly string[];
}

export interface ImportOptions extends ImageOptions {
  /** What it is; found out if nothing is said. */
  format?: "auto" | "oci" | "docker" | "tarball" | "directory";
  /** Which image, where there are several: one of its names. */
  select?: string;
}

/** Pulls an image from a registry, named as docker does. What the store has already is not downloaded again. */
export function pullImage(reference: string, options?: PullOptions): Promise<Image>;
/**
 * Stores an image that is in files: an OCI layout, an archive of `docker save`, a tar archive of a root file system (each
 * also compressed), or a directory that is one.
 */
export function importImage(path: string, options?: ImportOptions): Promise<Image>;

export interface BuildOptions {
  /** The directory that COPY and ADD take files from. */
  context?: string;
  /** Patterns in the place of its .dockerignore: an empty list leaves nothing out; without it the file applies. */
  ignore?: readonly string[];
  /** Further ones by name, for COPY --from=NAME. */
  contexts?: Readonly<Record<string, string>>;
  /** The values of ARGs. */
  args?: Readonly<Record<string, string>>;
  /** For RUN --mount=type=secret,id=ID: files in memory that are in no image. */
  secrets?: Readonly<Record<string, string | Uint8Array>>;
  /** Policy, limits and host services of the sandboxes in which RUN steps run. If nothing is said, they reach nothing. */
  sandbox?: Options;
  /** Does every step again. */
  noCache?: boolean;
  /** Does the steps again that were done longer ago. */
  maxAgeMs?: number;
  /** For all of it: an hour if nothing is said. */
  timeoutMs?: number;
  /** Bytes that its steps add, together: 64 GiB if nothing is said. */
  maxBytes?: number;
  /** The name that the image is stored under. */
  tag?: string;
  /** Where it says what it does, with what the steps' programs say: a descriptor, or a stream that has one. */
  output?: number | { readonly fd: number };
  /** Gets the steps that are done, and all, at most ten times a second. */
  progress?: (done: number, total: number) => void;
  /** Gives it up. */
  signal?: AbortSignal;
}

/**
 * Builds an image by the text of a Dockerfile, and stores it. The results of steps are stored, too, and used again by
 * builds with the same steps on the same image and files.
 */
export function buildImage(dockerfile: string, options?: BuildOptions): Promise<Image>;
/** An image of the store: by one of its names, its id, or at least 12 digits of it. */
export function findImage(name: string): Promise<Image>;
/** The images of the store, the one that was used last first. */
export function listImages(): Promise<ImageInfo[]>;
/** Gives an image one more name. Another image that has that name loses it. */
export function tagImage(name: string, tag: string): Promise<void>;
/** Removes an image: by one of its names, which is all that goes if it has others; by its id with all of its names. */
export function removeImage(name: string): Promise<void>;
/**
 * Removes images until the store has at most so many bytes (0 if nothing is said), those that builds have left without a
 * name first, then those that were not used for longest.
 */
export function pruneImages(maxBytes?: number): Promise<{ images: number; bytes: number }>;

/** Budgets of what leaves a sandbox; 0, or nothing said, is the library's own or none. */
export interface EgressLimits {
  /** One flow more at once is reset: 16,384 if nothing is said. */
  maxFlows?: number;
  /** One more within a second is reset: 200 if nothing is said, and 2,000 at once after a quiet while. */
  newFlowsPerSecond?: number;
  /** Of both directions together: senders are slowed down. */
  bytesPerSecond?: number;
  /** When so many have passed, every flow is reset. */
  totalBytes?: number;
}

/** A policy as it is in force. */
export interface Policy {
  /** 0 for the one that the sandbox was created with, then counted. */
  readonly generation: number;
  readonly mode: "open" | "allowlist" | "blocked";
  /** "allow 192.0.2.0/24", "domain *.example.com", "deny 2001:db8::/32" …: the `entry` of an event is a place in it. */
  readonly entries: readonly string[];
  /** What asks for the same. */
  readonly options: PolicyOptions;
}

export interface Options extends ProgramOptions, PolicyOptions {
  /** Unique among the live sandboxes of this process. */
  name?: string;
  /** The host name inside. */
  hostname?: string;
  /** For your own use: Sandbox.tags. */
  tags?: Record<string, string>;
  /**
   * How long it may be idle: nothing executed, no file moved, nothing through tunnels or into its standard input. Then
   * it ends with 124.
   */
  idleTimeoutMs?: number;
  /** Limits. Those of processors and memory take a cgroup; memoryWatchdog holds memory where there is none. */
  cpu?: number;
  memoryMiB?: number;
  memoryWatchdog?: boolean;
  diskMiB?: number;
  maxProcesses?: number;
  maxOpenFiles?: number;
  /** A directory of the host as root file system; without it, the host's programs without its data. */
  rootfs?: string;
  /** An image as root file system, with its command, environment, directory and user where nothing else is said here. */
  image?: Image;
  /** Images whose files are shown inside, read-only: place inside to image. */
  imageMounts?: Record<string, Image>;
  /**
   * Volumes: place inside to a volume's name, or to how it is mounted. Sandboxes that share one see each other's changes
   * at once, and trust each other with it.
   */
  volumes?: Record<string, string | VolumeMount>;
  /** What it has on an image at its end is a new one, with that name if it is one: exitImage(). */
  exitSnapshot?: boolean | string;
  /** In place of the image's; the command is its arguments. */
  entrypoint?: readonly string[];
  /** Files and directories of the host to show inside, read-only: place inside to path on the host. */
  mounts?: Record<string, string>;
  /** The same, writable: what the sandbox writes there is on the host. */
  writableMounts?: Record<string, string>;
  /** Ports of 192.0.0.1 inside that lead to addresses of the host: { 8080: "127.0.0.1:8080" }, whatever the policy. */
  hostServices?: Readonly<Record<number, string>>;
  /** Ports inside that get a tunnel on which TLS ends. */
  encryptedPorts?: readonly number[];
  /** The same, which also offer HTTP/2. */
  h2Ports?: readonly number[];
  /** Ports inside that get a tunnel of raw TCP. */
  unencryptedPorts?: readonly number[];
  /** Where tunnels listen instead of at 127.0.0.1: an address, or one and a port. Any but a loopback one lets other machines in. */
  bindPorts?: Readonly<Record<number, string | { address: string; port?: number }>>;
  /** The certificate of encrypted tunnels, in the place of the library's: a chain and its key, in PEM. */
  tlsCertificate?: { cert: string; key: string };
  /** Further names that the certificate is valid for. */
  tlsNames?: readonly string[];
  /**
   * How many new connections a second the tunnels take while another sandbox is served, up to 1,000,000; 0 is the default,
   * 250 for each processor, and -1 no limit.
   */
  tunnelRate?: number;
  /** Which servers its resolver asks instead of the host's: "192.0.2.53", "127.0.0.1:5353" … */
  nameservers?: readonly string[];
  egressLimits?: EgressLimits;
  /** The MTU of its interface, from 1280 to 9000. */
  mtu?: number;
  /** Who may connect to the tunnels; [] lets nobody in. */
  inboundCidrAllowlist?: readonly string[];
  /** How waitUntilReady() finds out; without it, by connecting to the first port. */
  readinessProbe?: { port: number; intervalMs?: number } | { command: readonly string[]; intervalMs?: number };
}

export type ExitReason =
  | "exited"
  | "signalled"
  | "timedOut"
  | "idle"
  | "terminated"
  | "outOfMemory"
  | "engineLost";

export interface Exit {
  /** The program's own; 128 + n for signal n; 124 when time ran out; 137 when terminated. */
  readonly code: number;
  readonly reason: ExitReason;
}

export interface Tunnel {
  readonly host: string;
  readonly port: number;
  /** https://… of an encrypted tunnel. */
  readonly url?: string;
  /** The certificate to trust, in PEM: `ca` of node:https, node:tls and undici. */
  readonly ca?: string;
  /** The pin of the tunnel's own key. */
  readonly spkiSha256?: string;
}

export interface SandboxEvent {
  /** "unknown" is what a later library tells and this package has no name for. */
  readonly kind: "ready" | "exited" | "denied" | "limit" | "unreachable" | "unknown";
  /** Milliseconds of the monotonic clock. */
  readonly time: number;
  /** How many events were lost just after this one. */
  readonly lost: number;
  /** The exit code of "exited", the errno of "unreachable". */
  readonly code: number;
  /** Why it "exited"; why it was "denied"; else 0. */
  readonly reason: ExitReason | PolicyReason | number;
  /** The place among the policy's entries of the one that "denied", or -1. */
  readonly entry: number;
  /** 6 is TCP, 17 UDP. */
  readonly protocol: number;
  readonly port: number;
  /** How often it happened, where events are gathered. */
  readonly count: number;
  /** An address or a name. */
  readonly address: string;
  /** The same for people. */
  readonly detail: string;
}

/** What a sandbox uses and has done; undefined is what the kernel doesn't tell. */
export interface Stats {
  readonly uptimeMs: number;
  /** Processor time of all its processes on the host, gVisor's own included, in microseconds. */
  readonly cpuUs?: number;
  readonly memoryBytes?: number;
  readonly memoryPeakBytes?: number;
  readonly processes?: number;
  readonly tunnelConnections: number;
  readonly tunnelConnectionsTotal: number;
  readonly tunnelBytesIn: number;
  readonly tunnelBytesOut: number;
  readonly egressFlows?: number;
  readonly egressFlowsTotal?: number;
  readonly egressBytesIn?: number;
  readonly egressBytesOut?: number;
  readonly egressDenied?: number;
  readonly dnsQueries?: number;
  readonly dnsRefused?: number;
  /** What the library's threads have spent on it. */
  readonly libraryUs: number;
}

/** A path in a sandbox: absolute, and not always UTF-8. */
export type Path = string | Uint8Array;

export interface FileOptions {
  /** Whose rights it has: "name", "uid", "uid:gid" or "name:group", as the sandbox knows them. Root by default. */
  user?: string;
  timeoutMs?: number;
  /** Gives it up; what was done so far stays done. */
  signal?: AbortSignal;
}

export interface ReadOptions extends FileOptions {
  /** Where reading begins. */
  offset?: number;
  /** The most bytes; more is an error. readFile: 16 MiB if nothing is said, up to 1 GiB. */
  limit?: number;
}

export interface ListOptions extends FileOptions {
  /** The most entries; more is an error. */
  limit?: number;
}

export interface WriteOptions extends FileOptions {
  /** The permissions of the file; 0o644 for a new one if nothing is said. */
  mode?: number;
  /** As node:fs has it: "x" fails if there is something, "a" is at the end of what is there. "w" if nothing is said. */
  flag?: "w" | "wx" | "a" | "ax";
  /** Makes the directories above that aren't there. */
  parents?: boolean;
}

export interface FileInfo {
  readonly kind: "file" | "directory" | "symlink" | "fifo" | "socket" | "device" | "other";
  /** Permissions, from 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly nlink: number;
  readonly size: number;
  readonly mtime: Date;
  readonly mtimeMs: number;
}

export interface Entry<Name = string> extends FileInfo {
  readonly name: Name;
  /** Where a symbolic link leads. */
  readonly target?: Name;
}

export interface Change<Name = string> {
  /** First "ready": what changes from now on is told. "overflow": some changes were lost, look for yourself. */
  readonly kind:
    | "ready"
    | "created"
    | "modified"
    | "removed"
    | "movedFrom"
    | "movedTo"
    | "attributes"
    | "overflow"
    | "unknown";
  /** Relative to the directory. */
  readonly path: Name;
}

export interface Totals {
  readonly bytes: number;
  readonly entries: number;
  /** Entries that were left out: sockets and devices are not copied. */
  readonly skipped: number;
}

/** Ends once the sandbox has said that this was all; else it is destroyed with the error. */
export interface FileReader extends Readable {
  /** null until it has ended. */
  readonly totals: Totals | null;
}

/** Finishes once the sandbox has said that all was written; else it is destroyed with the error. */
export interface FileWriter extends Writable {
  /** null until it has finished. */
  readonly totals: Totals | null;
}

/** The files of a sandbox, in the manner of node:fs/promises. Links in it lead to nothing of the host's. */
export interface Files {
  readFile(path: Path, options: BufferEncoding | (ReadOptions & { encoding: BufferEncoding })): Promise<string>;
  readFile(path: Path, options?: ReadOptions & { encoding?: "buffer" | null }): Promise<Buffer>;
  /** In place of what is there. Up to 16 MiB, or `limit`, of up to 1 GiB. */
  writeFile(
    path: Path,
    data: string | NodeJS.ArrayBufferView,
    options?: BufferEncoding | (WriteOptions & { encoding?: BufferEncoding; limit?: number }),
  ): Promise<void>;
  /** In no order. Up to 100 000 entries, or `limit`, of up to a million. With "buffer", names are bytes. */
  list(path: Path, options: "buffer" | (ListOptions & { encoding: "buffer" })): Promise<Entry<Buffer>[]>;
  list(path: Path, options?: BufferEncoding | (ListOptions & { encoding?: BufferEncoding })): Promise<Entry[]>;
  stat(path: Path, options?: FileOptions): Promise<FileInfo>;
  /** Of a symbolic link itself, with its `target`. */
  lstat(path: Path, options?: FileOptions): Promise<FileInfo & { readonly target?: string }>;
  /** `recursive` makes those above, too, and what is there is no error then. */
  makeDirectory(path: Path, options?: FileOptions & { mode?: number; recursive?: boolean }): Promise<void>;
  /** A file, link or empty directory; `recursive` also all below. With `force` nothing there is no error. */
  remove(path: Path, options?: FileOptions & { recursive?: boolean; force?: boolean }): Promise<void>;
  /** Over what is there, unless `exclusive`. */
  rename(from: Path, to: Path, options?: FileOptions & { exclusive?: boolean }): Promise<void>;

  /** Files of any size. */
  createReadStream(path: Path, options?: ReadOptions): FileReader;
  createWriteStream(path: Path, options?: WriteOptions): FileWriter;
  /** A file or tree as a tar archive. It is the sandbox's word: unpack it as you would a stranger's. */
  copyOut(path: Path, options?: FileOptions & { limit?: number }): FileReader;
  /** Unpacks a tar archive into a directory. */
  copyIn(path: Path, options?: FileOptions & { limit?: number; parents?: boolean; keepOwner?: boolean }): FileWriter;

  /** What changes in a directory, and with `recursive` below; ends when the directory is gone, or the sandbox. */
  watch(path: Path, options: "buffer" | (WatchOptions & { encoding: "buffer" })): AsyncIterableIterator<Change<Buffer>>;
  watch(
    path: Path,
    options?: BufferEncoding | (WatchOptions & { encoding?: BufferEncoding }),
  ): AsyncIterableIterator<Change>;
}

export interface WatchOptions {
  recursive?: boolean;
  user?: string;
  signal?: AbortSignal;
}

declare abstract class Program {
  /** null while it runs. */
  readonly exitCode: number | null;
  readonly exitReason: ExitReason | null;

  /** The streams that were asked for as "pipe"; else null. Reading one keeps the process alive, and open ones this. */
  readonly stdin: Socket | null;
  readonly stdout: Socket | null;
  readonly stderr: Socket | null;

  /** Resolves once it has ended, and of a sandbox nothing is left. As long as it takes if nothing is said. */
  wait(options?: { timeoutMs?: number }): Promise<Exit>;

  /** Sends the program a signal, an executed one's group: SIGTERM if nothing is said. */
  kill(signal?: NodeJS.Signals | number): void;
}

/** A program executed in a sandbox, which isn't garbage as long as this isn't. It runs on if nobody refers to this. */
export class Process extends Program {
  private constructor();

  /** Its terminal, if it was asked for: what is written is typed, what is read is shown. */
  readonly terminal: Socket | null;
  resize(rows: number, columns: number): void;
}

/** A sandbox. It ends with terminate(), with its time-out, when it is garbage, and with this process. */
export class Sandbox extends Program implements AsyncDisposable {
  private constructor();

  /** Creates a sandbox; resolves once its program was started. Without a command it waits for exec(). */
  static create(command?: readonly string[], options?: Options): Promise<Sandbox>;

  readonly id: string;
  readonly name: string | undefined;
  readonly tags: Readonly<Record<string, string>>;
  readonly files: Files;

  /** Executes a program; resolves once it was started. */
  exec(command: readonly string[], options?: ExecOptions): Promise<Process>;

  /** A connection to a port inside, which need not be listed, without any port on this machine. */
  connect(port: number): Promise<Socket>;

  /** Where the ports are reached, by port inside. That a tunnel exists doesn't mean that the server inside answers. */
  tunnels(): Readonly<Record<number, Tunnel>>;

  /**
   * Replaces the sandbox's policy; resolves to its generation. What it denies has been cut by
   * then, what both allow was not disturbed.
   */
  setPolicy(options: PolicyOptions): Promise<number>;

  /** The policy in force, read back from the kernel. */
  policy(): Promise<Policy>;

  /** What it uses and has done; of an ended one, what it had in all. */
  stats(): Promise<Stats>;

  /**
   * Stores what it has in its root file system as a new image. It must have been created from an image. Programs are
   * paused for a moment; /tmp, /dev/shm and mounts are not in it.
   */
  snapshot(options?: ProgressOptions & { tag?: string }): Promise<Image>;

  /**
   * Stores a directory as a new image whose root it is: on any root file system, also in /tmp and in mounts. Programs go
   * on meanwhile. Sockets, devices and what is mounted in it are left out.
   */
  snapshotDirectory(path: string, options?: ProgressOptions & { tag?: string }): Promise<Image>;

  /**
   * Copies an image's files into a directory, which is made if it is missing. It counts as what the sandbox has written;
   * an image that is known before is better in `imageMounts`. What is there stays, but for files of the image's
   * names.
   */
  copyImage(image: Image, path: string, options?: { signal?: AbortSignal }): Promise<void>;

  /** The image of `exitSnapshot`, once the sandbox has ended, which it waits for. */
  exitImage(): Promise<Image>;

  /** Resolves once the server inside answers. 300 000 ms if nothing is said, Infinity for as long as it takes. */
  waitUntilReady(options?: { timeoutMs?: number }): Promise<void>;

  /** Ends the sandbox at once; resolves once nothing of it is left. */
  terminate(): Promise<Exit>;

  /** Ends it gently: the image's signal, or SIGTERM, if nothing is said; what is left after the time (10 000 ms) is killed. */
  stop(options?: { signal?: NodeJS.Signals | number; graceMs?: number }): Promise<Exit>;

  /** The events from the moment when the first is asked for; ends after the last. */
  events(): AsyncIterableIterator<SandboxEvent>;

  /** Keeps the process alive until the sandbox has ended. Without it, a sandbox that nobody waits for doesn't. */
  ref(): this;
  unref(): this;

  /** Terminates it and frees it. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What the sandboxes that are kept warm are and have done. The last two are texts for people, empty if there was none. */
export interface WarmStats {
  readonly wanted: number;
  readonly ready: number;
  readonly filling: number;
  readonly hits: number;
  readonly missesEmpty: number;
  readonly missesDifferent: number;
  readonly missesChanged: number;
  readonly discarded: number;
  readonly failures: number;
  readonly lastMiss: string;
  readonly lastFailure: string;
}

/**
 * Keeps so many sandboxes warm for Sandbox.create() with these options, which takes one by itself; 0 ends them. What has
 * to be the same is image or rootfs, mounts, the limits, mtu, hostname, the number of hostServices, and blockNetwork; all
 * else is each sandbox's own. They are started in the background, one at a time, while no sandbox is being created.
 */
export function keepWarm(count: number, options?: Options): void;

/** What the warm sandboxes for such options are and have done; of all of them without any. */
export function warmStats(options?: Options): WarmStats;

/**
 * Has at most so many sandboxes start at once, up to 256; 0 is the default. Sandbox.create() beyond that waits for its turn,
 * in the order of the calls, unless it takes a sandbox that was kept warm.
 */
export function setMaxStarts(count: number): void;

/** How many sandboxes start at once at most. */
export function maxStarts(): number;

/**
 * Keeps `count` spares, up to 16; none by default. A spare is a sandbox that has started as far as gVisor's own program, for
 * sandboxes like the last two that were created, if those were alike. It costs about 3 MB and saves a part of a start.
 */
export function setSpares(count: number): void;

/** How many spares are kept. */
export function spares(): number;

/** An error of the library. */
export class SbxError extends Error {
  /** "SBX_EINVALID", "SBX_EEXISTS" … : the names of sbx.h. */
  readonly code: string;
  readonly sbxCode: string;
  /** The same as a number. */
  readonly errno: number;
  /** The errno of the system call that failed, or 0. */
  readonly osError: number;
}

/** An operation on files that failed. */
export class FileError extends SbxError {
  /** "ENOENT", "EACCES", "ENOSPC" …, as the sandbox says; where it says nothing, the name in sbx.h, as `sbxCode`. */
  readonly code: string;
  readonly path: Path;
}
