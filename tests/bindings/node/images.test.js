// Images: imported, named, run, given up.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, cpSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test, { after } from "node:test";
import { all, buildImage, findImage, importImage, listImages, pruneImages, pullImage, refused, removeImage, Sandbox, tagImage } from "./support.js";

const scratch = mkdtempSync(join(tmpdir(), "sbx-node-images-"));
after(() => rmSync(scratch, { recursive: true }));
// A store of its own: the library reads this when it is first used.
process.env.XDG_CACHE_HOME = join(scratch, "cache");
mkdirSync(process.env.XDG_CACHE_HOME, { mode: 0o700 });

/** A root file system with a shell, the libraries that it names, and a user. */
function rootTarball() {
  const root = join(scratch, "root");
  const named = execFileSync("ldd", ["/bin/sh"], { encoding: "utf8" }).split(/\s+/).filter((word) => word.startsWith("/"));
  for (const path of ["/bin/sh", ...named]) {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    cpSync(path, join(root, path), { dereference: true });
  }
  mkdirSync(join(root, "etc"));
  writeFileSync(join(root, "etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:7:8::/home:/bin/sh\n");
  writeFileSync(join(root, "etc/secret"), "of the image's root\n", { mode: 0o600 });
  execFileSync("tar", ["--owner=0", "--group=0", "--numeric-owner", "-C", root, "-cf", join(scratch, "root.tar"), "."]);
  return join(scratch, "root.tar");
}

const tarball = rootTarball();

test("an image is imported, named, listed, run and removed", async () => {
  const seen = [];
  const image = await importImage(tarball, { tag: "node/test:one", progress: (done, total) => seen.push(done <= total) });
  assert.ok(seen.every(Boolean));
  assert.match(image.id, /^sha256:[0-9a-f]{64}$/);
  assert.ok(image.size > 0 && image.tags.length === 1 && image.created <= new Date());
  assert.equal((await findImage(image.id.slice(0, "sha256:".length + 12))).id, image.id);

  const script = "read line </etc/passwd; echo $line; exit 7";
  const options = { image, user: "app", imageMounts: { "/mnt/again": image }, stdout: "pipe" };
  const sandbox = await Sandbox.create(["/bin/sh", "-c", script], options);
  assert.equal(await all(sandbox.stdout), "root:x:0:0::/root:/bin/sh\n");
  assert.deepEqual(await sandbox.wait(), { code: 7, reason: "exited" });
  // It says of no program: the sandbox waits for exec(), whose users are the image's.
  const idle = await Sandbox.create(undefined, { image });
  assert.notEqual((await (await idle.exec(["/bin/sh", "-c", "read line </etc/secret"], { user: "app" })).wait()).code, 0);
  assert.equal((await (await idle.exec(["/bin/sh", "-c", "read line </etc/secret"])).wait()).code, 0);
  await idle.terminate();
  const entered = await Sandbox.create(["exit 4"], { image, entrypoint: ["/bin/sh", "-c"] });
  assert.equal((await entered.wait()).code, 4);

  await tagImage("node/test:one", "node/test:two");
  const mine = (await listImages()).filter(({ id }) => id === image.id);
  assert.equal(mine.length, 1);
  assert.equal(mine[0].tags.length, 2);
  await removeImage("node/test:one");
  await assert.rejects(findImage("node/test:one"), refused("SBX_ENOTFOUND", "node/test:one"));
  const { images, bytes } = await pruneImages();
  assert.ok(images >= 1 && bytes >= image.size);
  // The handle keeps what is removed, until it is disposed of.
  const kept = await Sandbox.create(["/bin/sh", "-c", "exit 3"], { image });
  assert.equal((await kept.wait()).code, 3);
  image[Symbol.dispose ?? Symbol.for("nodejs.dispose")]();
  await assert.rejects(Sandbox.create(["/bin/sh"], { image }), refused("SBX_EHANDLE", ""));
});

test("a snapshot is an image", async () => {
  const sandbox = await Sandbox.create(undefined, { image: await importImage(tarball) });
  await (await sandbox.exec(["/bin/sh", "-c", "echo kept >/etc/kept"])).wait();
  const snapshot = await sandbox.snapshot({ tag: "node/snapshot" });
  await sandbox.terminate();
  const again = await Sandbox.create(["/bin/sh", "-c", "read line </etc/kept; echo $line"], { image: snapshot, stdout: "pipe" });
  assert.equal(await all(again.stdout), "kept\n");
  const none = await Sandbox.create();
  await assert.rejects(none.snapshot(), refused("SBX_EUNSUPPORTED", "image"));
  await none.terminate();
});

test("a directory is an image, and an image is copied", async () => {
  const sandbox = await Sandbox.create(undefined, { image: await importImage(tarball) });
  await (await sandbox.exec(["/bin/sh", "-c", "echo kept >/tmp/kept"])).wait();
  const directory = await sandbox.snapshotDirectory("/tmp", { tag: "node/directory" });
  assert.deepEqual([...directory.tags], ["docker.io/node/directory:latest"]);
  await sandbox.copyImage(directory, "/data/copy");
  assert.equal(await sandbox.files.readFile("/data/copy/kept", "utf8"), "kept\n");
  await assert.rejects(sandbox.snapshotDirectory("/none"), refused("SBX_ENOTFOUND", "/none"));
  await assert.rejects(sandbox.copyImage(directory, "/"), refused("SBX_EINVALID", "below the root"));
  await assert.rejects(sandbox.copyImage("python:3.12", "/data"), refused("SBX_EINVALID", "image must be an Image"));
  await sandbox.terminate();
});

test("an exit snapshot is what a sandbox had at its end", async () => {
  const image = await importImage(tarball);
  const options = { image, exitSnapshot: "node/exit" };
  const sandbox = await Sandbox.create(["/bin/sh", "-c", "echo ended >/etc/ended"], options);
  const kept = await sandbox.exitImage();
  assert.deepEqual([...kept.tags], ["docker.io/node/exit:latest"]);
  const again = await Sandbox.create(["/bin/sh", "-c", "read line </etc/ended; echo $line"], { image: kept, stdout: "pipe" });
  assert.equal(await all(again.stdout), "ended\n");
  const given = await Sandbox.create(undefined, { image, exitSnapshot: true });
  given.terminate();
  await given.terminate();
  await assert.rejects(given.exitImage(), refused("SBX_ESTATE", "terminated again"));
  await assert.rejects(Sandbox.create(undefined, { exitSnapshot: true }), refused("SBX_EINVALID", "on an image"));
});

test("bad images are clear errors", async () => {
  const garbage = join(scratch, "garbage");
  writeFileSync(garbage, "garbage".repeat(1000));
  for (const [begin, code, part] of [
    [() => importImage(join(scratch, "none")), "SBX_ENOTFOUND", "none"],
    [() => importImage(garbage), "SBX_EIMAGE", "garbage"],
    [() => importImage(garbage, { format: "zip" }), "SBX_EINVALID", "format must be one of"],
    [() => importImage(garbage, { username: "somebody" }), "SBX_EINVALID", "username"],
    [() => importImage(garbage, { limits: { colour: 1 } }), "SBX_EINVALID", "colour"],
    [() => pullImage("Not A Reference"), "SBX_EINVALID", "Not A Reference"],
    [() => Sandbox.create(undefined, { image: "python:3.12" }), "SBX_EINVALID", "image must be an Image"],
    [() => Sandbox.create(undefined, { imageMounts: { "/mnt": {} } }), "SBX_EINVALID", "imageMounts"],
  ]) {
    await assert.rejects(begin, refused(code, part));
  }
});

test("a pull that is given up ends", async () => {
  // A registry that never answers.
  const registry = createServer().listen(0, "127.0.0.1");
  await once(registry, "listening");
  const giveUp = new AbortController();
  const pulling = pullImage(`127.0.0.1:${registry.address().port}/team/app:1`, { signal: giveUp.signal });
  const [connection] = await once(registry, "connection");
  connection.on("error", () => {}).resume();
  giveUp.abort(new Error("enough"));
  await assert.rejects(pulling, /enough/);
  await once(connection, "close");
  registry.close();
});

test("an image is built, and what was done is not done again", async () => {
  await importImage(tarball, { tag: "node/base" });
  const context = join(scratch, "context");
  mkdirSync(context);
  writeFileSync(join(context, "copied"), "from the context\n");
  const dockerfile = `FROM node/base
ARG WHO
COPY copied /copied
RUN --mount=type=secret,id=key read key </run/secrets/key; echo $WHO \${#key} >/made && echo said
CMD ["/bin/sh", "-c", "read a </copied; read b </made; echo $a, $b"]
`;
  const build = async (more) => {
    const fd = openSync(join(scratch, "output"), "w");
    try {
      const image = await buildImage(dockerfile, { context, args: { WHO: "me" }, secrets: { key: "12345" }, output: { fd }, ...more });
      return [image, readFileSync(join(scratch, "output"), "utf8")];
    } finally {
      closeSync(fd);
    }
  };
  const seen = [];
  const [image, output] = await build({ tag: "node/built", timeoutMs: 600_000, progress: (done, total) => seen.push([done, total]) });
  assert.ok(output.startsWith("[1/4] FROM node/base\n[2/4] COPY copied /copied\n") && output.includes("\nsaid\n"), output);
  assert.ok(seen.every(([done, total]) => done <= total) && seen.at(-1)[1] === 4, JSON.stringify(seen));
  assert.deepEqual(image.tags, ["docker.io/node/built:latest"]);
  const sandbox = await Sandbox.create(undefined, { image, stdout: "pipe" });
  assert.equal(await all(sandbox.stdout), "from the context, me 5\n");
  const [again, cached] = await build({ maxAgeMs: 3_600_000, maxBytes: 2 ** 30, sandbox: { blockNetwork: true } });
  assert.equal(again.id, image.id);
  assert.equal(cached.split("CACHED").length, 3, cached);
  assert.equal((await build({ noCache: true }))[1].includes("CACHED"), false);
  writeFileSync(join(context, ".dockerignore"), "copied\n");
  const without = (ignore) => buildImage("FROM node/base\nCOPY copied /copied\n", { context, ignore });
  await without([]);
  await assert.rejects(without(undefined), refused("SBX_ENOTFOUND", "by .dockerignore"));
  await assert.rejects(without(["*", "!x"]), refused("SBX_ENOTFOUND", "ignore patterns"));
  await assert.rejects(without(["a["]), refused("SBX_EINVALID", '"a["'));
  await assert.rejects(without("copied"), refused("SBX_EINVALID", "ignore"));
  await assert.rejects(buildImage("FROM node/base\nRUN echo the reason; exit 3\n"), refused("SBX_EIMAGE", "the reason"));
  await assert.rejects(buildImage("FROM a\nONBUILD RUN b\n"), refused("SBX_EUNSUPPORTED", "ONBUILD"));
  await assert.rejects(buildImage("FROM a\n", { sandbox: { name: "it" } }), refused("SBX_EINVALID", "must not be set for a build"));
  await assert.rejects(buildImage("FROM a\n", { nothing: 1 }), refused("SBX_EINVALID", "nothing"));
  await assert.rejects(buildImage("FROM a\n", { output: "here" }), refused("SBX_EINVALID", "output"));
});
