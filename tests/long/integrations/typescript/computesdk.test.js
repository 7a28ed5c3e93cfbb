// The provider, by ComputeSDK's own calls.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createCompute } from "@computesdk/provider";
import { libsbx } from "libsbx-agents/computesdk";

const PORT = 8000;

for (const [name, config] of [
  ["the host's programs", {}],
  ["an image whose user isn't root", { imagePath: process.env.INTEGRATION_ROOT, user: "daemon", workdir: "/tmp" }],
]) {
  describe(name, () => {
    const compute = createCompute({ defaultProvider: libsbx({ ...config, ports: [PORT] }) });
    let sandbox;

    before(async () => {
      sandbox = await compute.sandbox.create({ envs: { GIVEN: "é" }, metadata: { owner: "test" }, timeout: 120_000 });
    });
    after(() => sandbox?.destroy());

    test("it is told of, listed and found by its id", async () => {
      const info = await sandbox.getInfo();
      assert.deepEqual([info.id, info.provider, info.status], [sandbox.sandboxId, "libsbx", "running"]);
      assert.deepEqual([info.timeout, info.metadata], [120_000, { owner: "test" }]);
      assert.ok(Math.abs(info.createdAt - Date.now()) < 120_000);
      assert.ok((await compute.sandbox.list()).some((each) => each.sandboxId === sandbox.sandboxId));
      const found = await compute.sandbox.getById(sandbox.sandboxId);
      assert.equal((await found.runCommand("echo found")).stdout, "found\n");
      assert.equal(await compute.sandbox.getById("none"), null);
    });

    test("commands", async () => {
      const ran = await sandbox.runCommand('echo "$GIVEN $MORE"; echo err >&2; pwd; exit 5', { env: { MORE: "x" }, cwd: "/usr" });
      assert.deepEqual([ran.stdout, ran.stderr, ran.exitCode], ["é x\n/usr\n", "err\n", 5]);
      assert.ok(ran.durationMs >= 0);
      assert.match((await sandbox.runCommand("cat /proc/version")).stdout, /gvisor/i);
      assert.equal((await sandbox.runCommand("no-such-program")).exitCode, 127);
      const late = await sandbox.runCommand("echo begun; sleep 1000", { timeout: 1000 });
      assert.deepEqual([late.stdout, late.exitCode], ["begun\n", 124]);
    });

    test("commands in the background", async () => {
      assert.equal((await sandbox.runCommand("sleep 1; echo kept > /tmp/kept", { background: true })).exitCode, 0);
      const seen = await sandbox.runCommand("until test -s /tmp/kept; do sleep 0.1; done; cat /tmp/kept", { timeout: 30_000 });
      assert.equal(seen.stdout, "kept\n");
    });

    test("output is told of while a command runs", async () => {
      const said = [];
      const onStdout = (text) => said.push(text);
      const running = sandbox.runCommand("echo é; until test -e /tmp/go; do sleep 0.1; done; echo two; echo err >&2", {
        onStdout,
        onStderr: (text) => said.push(`! ${text}`),
        timeout: 60_000,
      });
      while (!said.length) await new Promise((done) => setTimeout(done, 20));
      assert.deepEqual(said, ["é\n"]);
      await sandbox.filesystem.writeFile("/tmp/go", "");
      assert.equal((await running).stdout, "é\ntwo\n");
      assert.deepEqual(said.slice(1).sort(), ["! err\n", "two\n"]);
    });

    test("a listener that throws ends its command", async () => {
      const onStdout = () => {
        throw new Error("enough");
      };
      await assert.rejects(sandbox.runCommand("yes marked-program", { onStdout }), { message: "enough" });
      const gone = "until ! grep -qs [m]arked-program /proc/[0-9]*/cmdline; do sleep 0.1; done";
      assert.equal((await sandbox.runCommand(gone, { timeout: 15_000 })).exitCode, 0);
    });

    test("files", async () => {
      const files = sandbox.filesystem;
      await files.mkdir("/tmp/made/deep");
      await files.writeFile("/tmp/made/a.txt", "é\n");
      await files.writeFile("/tmp/made/empty", "");
      assert.equal(await files.readFile("/tmp/made/a.txt"), "é\n");
      assert.equal(await files.readFile("/tmp/made/empty"), "");
      const found = (await files.readdir("/tmp/made")).sort((a, b) => (a.name < b.name ? -1 : 1));
      assert.deepEqual(
        found.map(({ name, type }) => [name, type]),
        [["a.txt", "file"], ["deep", "directory"], ["empty", "file"]],
      );
      assert.deepEqual([found[0].size, found[0].modified instanceof Date], [3, true]);
      assert.equal(await files.exists("/tmp/made/a.txt"), true);
      assert.equal(await files.exists("/tmp/made/a.txt/b"), false);
      await files.remove("/tmp/made");
      assert.equal(await files.exists("/tmp/made"), false);
      await assert.rejects(files.readFile("/tmp/made/a.txt"), { code: "ENOENT" });
    });

    test("a server is reached by its URL", async () => {
      await sandbox.runCommand(`cd /tmp && echo served > page && exec python3 -m http.server ${PORT}`, { background: true });
      const url = await sandbox.getUrl({ port: PORT });
      let page;
      for (let tries = 0; page === undefined && tries < 100; tries++) {
        page = await fetch(`${url}/page`).then((answer) => answer.text(), () => undefined);
        if (page === undefined) await new Promise((done) => setTimeout(done, 200));
      }
      assert.equal(page, "served\n");
      await assert.rejects(sandbox.getUrl({ port: PORT + 1 }), /ports/);
    });

    test("nothing is reached", async () => {
      const program = "import socket; socket.create_connection(('8.8.8.8', 53), timeout=3)";
      assert.notEqual((await sandbox.runCommand(`python3 -c "${program}"`)).exitCode, 0);
    });

    test("one whose time is over is listed no more", async () => {
      const other = await compute.sandbox.create({ timeout: 1000 });
      const listed = async () => (await compute.sandbox.list()).some((each) => each.sandboxId === other.sandboxId);
      for (let tries = 0; tries < 150 && (await listed()); tries++) await new Promise((done) => setTimeout(done, 100));
      assert.equal(await listed(), false);
      assert.equal((await other.getInfo()).status, "stopped");
    });

    test("destroyed it is gone, also a second time", async () => {
      const other = await compute.sandbox.create();
      await other.destroy();
      await other.destroy();
      assert.equal(await compute.sandbox.getById(other.sandboxId), null);
      assert.equal((await other.getInfo()).status, "stopped");
      await compute.sandbox.destroy("none");
    });
  });
}

test("an option that is undefined opens no network", async () => {
  const sandbox = await libsbx({ options: { blockNetwork: undefined } }).sandbox.create();
  assert.equal((await sandbox.getInstance().policy()).mode, "blocked");
  await sandbox.destroy();
});

test("a snapshot is listed, started from, and deleted", async () => {
  const provider = libsbx({ imagePath: process.env.INTEGRATION_ROOT });
  const sandbox = await provider.sandbox.create();
  await sandbox.filesystem.writeFile("/opt/kept", "kept\n");
  const snapshot = await provider.snapshot.create(sandbox.sandboxId, { name: "first" });
  await sandbox.destroy();
  assert.ok((await provider.snapshot.list()).some(({ id }) => id === snapshot.id));
  const again = await provider.sandbox.create({ snapshotId: snapshot.id });
  assert.equal(await again.filesystem.readFile("/opt/kept"), "kept\n");
  await again.destroy();
  await provider.snapshot.delete(snapshot.id);
  assert.ok(!(await provider.snapshot.list()).some(({ id }) => id === snapshot.id));
});
