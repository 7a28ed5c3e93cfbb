// Volumes: made, shared, listed, removed.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after } from "node:test";
import { all, createVolume, findVolume, listVolumes, refused, removeVolume, Sandbox } from "./support.js";

const scratch = mkdtempSync(join(tmpdir(), "sbx-node-volumes-"));
after(() => rmSync(scratch, { recursive: true }));
// A store of its own: the library reads this when it is first used.
process.env.XDG_DATA_HOME = scratch;

async function says(script, volumes) {
  const sandbox = await Sandbox.create(["sh", "-c", script], { volumes, stdout: "pipe" });
  const said = await all(sandbox.stdout);
  assert.equal((await sandbox.wait()).code, 0);
  return said;
}

test("a volume outlives sandboxes and is shared", async () => {
  await says("echo hello >/data/file", { "/data": { name: "data-1", create: true } });
  assert.equal(await says("cat /data/file", { "/data": "data-1" }), "hello\n");
  const readOnly = { name: "data-1", readOnly: true };
  assert.equal(await says("(echo x >/data/file) 2>/dev/null || echo refused", { "/data": readOnly }), "refused\n");
  const part = { name: "data-1", subPath: "a/b", createSubPath: true };
  assert.equal(await says("touch /a/new; ls /a /data", { "/a": part, "/data": "data-1" }), "/a:\nnew\n\n/data:\na\nfile\n");
  const { name, path, created, inUse } = await findVolume("data-1");
  assert.deepEqual([name, inUse, readFileSync(join(path, "file"), "utf8")], ["data-1", false, "hello\n"]);
  assert.ok(Math.abs(Date.now() - created.getTime()) < 3600_000);
});

test("volumes are made, listed and removed", async () => {
  assert.equal((await createVolume("made", { exclusive: true })).name, "made");
  await assert.rejects(createVolume("made", { exclusive: true }), refused("SBX_EEXISTS", '"made"'));
  await createVolume("made");
  assert.ok((await listVolumes()).some(({ name }) => name === "made"));
  const sandbox = await Sandbox.create(undefined, { volumes: { "/v": "made" } });
  await assert.rejects(removeVolume("made"), refused("SBX_ESTATE", "mounted"));
  assert.equal((await findVolume("made")).inUse, true);
  await sandbox.terminate();
  await sandbox.wait();
  await removeVolume("made");
  await assert.rejects(removeVolume("made"), refused("SBX_ENOTFOUND", '"made"'));
});

test("wrong ones are errors that say so", async () => {
  for (const [volumes, part] of [
    [{ "/v": "Bad" }, 'volumes["/v"]'],
    [{ "/v": { name: "x", subPath: "../y" } }, ".."],
    [{ "/v": { create: true } }, "a volume's name"],
    [{ "/v": { name: "x", writable: true } }, "writable"],
    [{ "/v": 1 }, 'volumes["/v"]'],
    [["x"], "volumes"],
  ]) {
    await assert.rejects(Sandbox.create(["true"], { volumes }), refused("SBX_EINVALID", part));
  }
  await assert.rejects(Sandbox.create(["true"], { volumes: { "/v": "none" } }), refused("SBX_ENOTFOUND", '"none"'));
  await assert.rejects(createVolume("x", { flags: 1 }), refused("SBX_EINVALID", "flags"));
});
