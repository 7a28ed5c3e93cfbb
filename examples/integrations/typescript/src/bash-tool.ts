// A Sandbox of bash-tool, which AI SDK agents run commands in.

import { posix } from "node:path";
import type { Sandbox as ToolSandbox } from "bash-tool";
import type { Sandbox } from "libsbx";
import { run, type CommandOptions } from "./command.js";

export interface BashSandboxOptions extends Pick<CommandOptions, "env" | "maxOutputBytes" | "shell" | "user"> {
  /** Where commands start, and what relative paths are relative to: "/" if nothing is said. */
  workdir?: string;
  /** Of a command: half an hour if nothing is said. Then it is killed with what it has started, and its code is 124. */
  timeoutMs?: number;
  /** Of a file that is read: 16 MiB if nothing is said. */
  maxFileBytes?: number;
}

/** What createBashTool({ sandbox }) takes. The sandbox stays the caller's, who ends it. */
export function bashSandbox(sandbox: Sandbox, options: BashSandboxOptions = {}): ToolSandbox {
  const { workdir = "/", timeoutMs = 30 * 60 * 1000, maxFileBytes = 16 << 20, user, ...rest } = options;
  const place = (path: string) => posix.resolve(workdir, path);
  return {
    async executeCommand(command) {
      const { stdout, stderr, exitCode } = await run(sandbox, command, {
        shell: "bash",
        workdir,
        timeoutMs,
        user,
        ...rest,
      });
      return { stdout, stderr, exitCode };
    },
    readFile: (path) => sandbox.files.readFile(place(path), { encoding: "utf8", limit: maxFileBytes, user }),
    async writeFiles(files) {
      for (const { path, content } of files) {
        const limit = Math.max(1, Buffer.byteLength(content));
        await sandbox.files.writeFile(place(path), content, { parents: true, limit, user });
      }
    },
  };
}
