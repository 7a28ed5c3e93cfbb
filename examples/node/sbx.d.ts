// gVisor sandboxes inside your own process.

import type { Socket } from "node:net";

export interface ProgramOptions {
  env?: Record<string, string>;
  /** The same for values that the library overwrites when it no longer needs them. `env` wins. */
  secrets?: Record<string, string>;
  /** The directory that the program starts in. */
  workdir?: string;
  /** "name", "uid", "uid:gid" or "name:group". The sandbox's root if nothing is said. */
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

export interface Options extends ProgramOptions {
  /** Unique among the live sandboxes of this process. */
  name?: string;
  /** How long it may be idle: nothing executed, nothing on the tunnels. Then it ends with 124. */
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
  /** Files and directories of the host to show inside, read-only: place inside to path on the host. */
  mounts?: Record<string, string>;
  /** The same, writable: what the sandbox writes there is on the host. */
  writableMounts?: Record<string, string>;
  /** Ports inside that get a tunnel on which TLS ends. */
  encryptedPorts?: readonly number[];
  /** The same, which also offer HTTP/2. */
  h2Ports?: readonly number[];
  /** Ports inside that get a tunnel of raw TCP. */
  unencryptedPorts?: readonly number[];
  /** Further names that the certificate is valid for. */
  tlsNames?: readonly string[];
  /** Who may connect to the tunnels; [] lets nobody in. */
  inboundCidrAllowlist?: readonly string[];
  /** No network at all. Not with ports or lists. */
  blockNetwork?: boolean;
  /** What alone may be reached, with outboundDomainAllowlist; [] allows nothing. */
  outboundCidrAllowlist?: readonly string[];
  /** Names that may be reached over TLS, "*." in front for all below one. */
  outboundDomainAllowlist?: readonly string[];
  /** What may not be reached, whatever is allowed. */
  outboundCidrDenylist?: readonly string[];
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
  readonly kind:
    | "started"
    | "failed"
    | "ready"
    | "exited"
    | "processStarted"
    | "processExited"
    | "denied"
    | "policyApplied"
    | "limit"
    | "portListening"
    | "fileDone"
    | "fileChanged"
    | "unknown";
  /** Milliseconds of the monotonic clock. */
  readonly time: number;
  /** How many events were lost just before this one. */
  readonly lost: number;
  readonly code: number;
  readonly reason: ExitReason | number;
  readonly rule: number;
  readonly protocol: number;
  readonly port: number;
  readonly count: number;
  readonly address: string;
  readonly detail: string;
}

declare abstract class Program {
  /** null while it runs. */
  readonly exitCode: number | null;
  readonly exitReason: ExitReason | null;

  /** The streams that were asked for as "pipe"; else null. Reading one keeps the process alive. */
  readonly stdin: Socket | null;
  readonly stdout: Socket | null;
  readonly stderr: Socket | null;

  /** Resolves once it has ended, and of a sandbox nothing is left. */
  wait(options?: { timeoutMs?: number }): Promise<Exit>;

  /** Sends the program a signal, an executed one's group: SIGTERM if nothing is said. */
  kill(signal?: NodeJS.Signals | number): void;
}

/** A program executed in a sandbox. It runs on if nobody refers to this. */
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

  /** Executes a program; resolves once it was started. */
  exec(command: readonly string[], options?: ExecOptions): Promise<Process>;

  /** Where the ports are reached, by port inside. That a tunnel exists doesn't mean that the server inside answers. */
  tunnels(): Readonly<Record<number, Tunnel>>;

  /** Resolves once the server inside answers. 300 000 ms if nothing is said. */
  waitUntilReady(options?: { timeoutMs?: number }): Promise<void>;

  /** Ends the sandbox at once; resolves once nothing of it is left. */
  terminate(): Promise<Exit>;

  /** Ends it gently: SIGTERM if nothing is said; what is left after the time (10 000 ms) is killed. */
  stop(options?: { signal?: NodeJS.Signals | number; graceMs?: number }): Promise<Exit>;

  /** The events from now on; ends after the last. */
  events(): AsyncIterableIterator<SandboxEvent>;

  /** Keeps the process alive until the sandbox has ended. Without it, a sandbox that nobody waits for doesn't. */
  ref(): this;
  unref(): this;

  /** Terminates it and frees it. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** An error of the library. */
export class SbxError extends Error {
  /** "SBX_EINVALID", "SBX_EEXISTS" … : the names of sbx.h. */
  readonly code: string;
  /** The same as a number. */
  readonly errno: number;
  /** The errno of the system call that failed, or 0. */
  readonly osError: number;
}
