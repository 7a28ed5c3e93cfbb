// A command of a shell, to its end.

import type { Socket } from "node:net";
import { StringDecoder } from "node:string_decoder";
import type { ExecOptions, Sandbox } from "libsbx";

/** How long a shell's outputs may be silent after its end, when what it left behind still holds them. */
const SILENCE_MS = 250;
const TIMED_OUT = 124;

export interface CommandOptions extends Pick<ExecOptions, "env" | "timeoutMs" | "user" | "workdir"> {
  /** "sh" if nothing is said. */
  shell?: string;
  /** Of each output so many bytes are kept, 16 MiB if nothing is said. */
  maxOutputBytes?: number;
  onStdout?: (text: string) => void;
  onStderr?: (text: string) => void;
}

export interface Ended {
  stdout: string;
  stderr: string;
  /** 124 if its time ran out. */
  exitCode: number;
  durationMs: number;
}

class Output {
  readonly #kept: Buffer[] = [];
  readonly #decoder = new StringDecoder("utf8");
  #size = 0;
  #dropped = 0;
  #heard = performance.now();

  constructor(
    readonly stream: Socket,
    readonly most: number,
    readonly listener?: (text: string) => void,
  ) {}

  async read(): Promise<void> {
    for await (const piece of this.stream as AsyncIterable<Buffer>) {
      this.#heard = performance.now();
      const room = Math.min(piece.length, this.most - this.#size);
      // A copy of a part: the part itself would keep the whole piece.
      if (room > 0) this.#kept.push(room < piece.length ? Buffer.from(piece.subarray(0, room)) : piece);
      this.#size += room;
      this.#dropped += piece.length - room;
      const text = this.listener && this.#decoder.write(piece);
      if (text) this.listener?.(text);
    }
    const rest = this.listener && this.#decoder.end();
    if (rest) this.listener?.(rest);
  }

  silentFor(): number {
    return performance.now() - this.#heard;
  }

  text(): string {
    const kept = Buffer.concat(this.#kept).toString("utf8");
    return this.#dropped ? `${kept}\n[${this.#dropped} bytes dropped]\n` : kept;
  }
}

export async function run(sandbox: Sandbox, command: string, options: CommandOptions = {}): Promise<Ended> {
  const { shell = "sh", maxOutputBytes = 16 << 20, onStdout, onStderr, ...rest } = options;
  const begun = performance.now();
  const program = await sandbox.exec([shell, "-c", command], { ...rest, stdout: "pipe", stderr: "pipe" });
  const outputs = [
    new Output(program.stdout as Socket, maxOutputBytes, onStdout),
    new Output(program.stderr as Socket, maxOutputBytes, onStderr),
  ] as const;
  let over = false;
  const reading = Promise.all(outputs.map((output) => output.read())).finally(() => (over = true));
  try {
    // A listener that throws ends this, too.
    const exit = await Promise.race([program.wait(), reading.then(() => program.wait())]);
    let silent: number;
    while (!over && (silent = Math.min(...outputs.map((output) => output.silentFor()))) < SILENCE_MS) {
      await Promise.race([reading, new Promise((done) => setTimeout(done, SILENCE_MS - silent))]);
    }
    if (over) await reading;
    const timedOut = exit.reason === "timedOut";
    const [stdout, stderr] = outputs.map((output) => output.text());
    return {
      stdout,
      stderr: timedOut ? `${stderr}\nThe command ran out of time and was killed.\n` : stderr,
      exitCode: timedOut ? TIMED_OUT : exit.code,
      durationMs: Math.round(performance.now() - begun),
    };
  } catch (error) {
    if (program.exitCode === null) program.kill("SIGKILL");
    throw error;
  } finally {
    reading.catch(() => {}); // told above, or not wanted any more
    for (const output of outputs) output.stream.destroy();
  }
}
