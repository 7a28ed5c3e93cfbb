// bash-tool's own tools, as an AI SDK agent has them, over a sandbox.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { generateText, stepCountIs } from "ai";
import { MockLanguageModelV3 } from "ai/test";
import { createBashTool } from "bash-tool";
import { Sandbox } from "libsbx";
import { bashSandbox } from "libsbx-agents/bash-tool";

describe("bash-tool", () => {
  let sandbox;
  let kit;
  const execute = (tool, input) => kit.tools[tool].execute(input, { toolCallId: "1", messages: [] });

  before(async () => {
    sandbox = await Sandbox.create(undefined, { blockNetwork: true });
    const files = { "src/a.txt": "alpha\n", "b.txt": "b\n" };
    kit = await createBashTool({ sandbox: bashSandbox(sandbox), files, destination: "/tmp/work" });
  });
  after(() => sandbox?.terminate());

  test("a command runs in the destination, in gVisor", async () => {
    const ran = await execute("bash", { command: "pwd; cat src/a.txt /proc/version; echo err >&2; exit 3" });
    assert.match(ran.stdout, /^\/tmp\/work\nalpha\n.*gvisor/is);
    assert.deepEqual([ran.stderr, ran.exitCode], ["err\n", 3]);
  });

  test("it is bash, with pipes and its own words", async () => {
    const ran = await execute("bash", { command: 'words=(c a b); printf "%s\\n" "${words[@]}" | sort | tail -n 1' });
    assert.equal(ran.stdout, "c\n");
  });

  test("files are written and read", async () => {
    await execute("writeFile", { path: "deep/er/ü.txt", content: "hé\n" });
    assert.deepEqual(await execute("readFile", { path: "deep/er/ü.txt" }), { content: "hé\n" });
    assert.equal((await execute("bash", { command: "cat deep/er/ü.txt" })).stdout, "hé\n");
    await assert.rejects(execute("readFile", { path: "missing" }), { code: "ENOENT" });
  });

  test("much output is bounded, and bytes come whole", async () => {
    const tool = bashSandbox(sandbox, { maxOutputBytes: 1000 });
    const ran = await tool.executeCommand("yes é | head -c 5000000; printf done >&2");
    assert.match(ran.stdout, /^(é\n)+.?\n\[4999000 bytes dropped\]\n$/);
    assert.equal(ran.stderr, "done");
    const whole = await bashSandbox(sandbox).executeCommand("head -c 5000000 /dev/zero | tr '\\0' x");
    assert.equal(whole.stdout.length, 5_000_000);
  });

  test("a command has a time", async () => {
    const begun = performance.now();
    const ran = await bashSandbox(sandbox, { timeoutMs: 1000 }).executeCommand("echo begun; sleep 1000");
    assert.deepEqual([ran.stdout, ran.exitCode], ["begun\n", 124]);
    assert.ok(performance.now() - begun < 15_000);
  });

  test("what a command leaves behind does not hold it up", async () => {
    const begun = performance.now();
    assert.equal((await execute("bash", { command: "sleep 1000 & echo gone" })).stdout, "gone\n");
    assert.ok(performance.now() - begun < 15_000);
  });

  test("it has a user's rights", async () => {
    const tool = bashSandbox(sandbox, { user: "nobody", workdir: "/tmp" });
    assert.equal((await tool.executeCommand("id -un")).stdout, "nobody\n");
    await tool.writeFiles([{ path: "theirs", content: Buffer.from("x") }]);
    assert.equal((await tool.executeCommand("stat -c %U theirs; test -w /etc/hosts || echo no")).stdout, "nobody\nno\n");
    await assert.rejects(tool.writeFiles([{ path: "/etc/theirs", content: "x" }]), { code: "EACCES" });
  });

  test("an agent of the AI SDK works with it", async () => {
    const usage = { inputTokens: { total: 1 }, outputTokens: { total: 1 } };
    const steps = [
      { type: "tool-call", toolCallId: "1", toolName: "bash", input: '{"command":"echo $((40+2)) > answer; cat answer"}' },
      { type: "text", text: "done" },
    ];
    let step = 0;
    const model = new MockLanguageModelV3({
      doGenerate: async () => {
        const part = steps[step++];
        const reason = part.type === "text" ? "stop" : "tool-calls";
        return { content: [part], finishReason: { unified: reason, raw: reason }, usage, warnings: [] };
      },
    });
    const said = await generateText({ model, tools: kit.tools, prompt: "what is it?", stopWhen: stepCountIs(3) });
    assert.equal(said.text, "done");
    assert.equal(said.steps[0].toolResults[0].output.stdout, "42\n");
  });
});
