// Files of a sandbox: whole, as streams, as archives; what changes; what fails.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import test, { after } from "node:test";
import { all, bytes, examples, FileError, node, program, refused, Sandbox } from "./support.js";

const sandbox = await Sandbox.create();
const { files } = sandbox;
after(() => sandbox[Symbol.asyncDispose]());

const failed = (code, sbxCode, path) => (error) => {
  assert.ok(error instanceof FileError, error.stack);
  assert.deepEqual([error.code, error.sbxCode, error.path], [code, sbxCode, path], error.message);
  return true;
};

test("whole files, there and back", async (t) => {
  await t.test("text and bytes", async () => {
    await files.writeFile("/tmp/text", "é one");
    assert.equal(await files.readFile("/tmp/text", "utf8"), "é one");
    assert.deepEqual(await files.readFile("/tmp/text"), Buffer.from("é one"));
    assert.equal(await files.readFile("/tmp/text", { encoding: "latin1", offset: 3 }), "one");
    const all256 = Uint8Array.from({ length: 256 }, (_, value) => value);
    await files.writeFile("/tmp/bytes", new DataView(all256.buffer, 10, 200));
    assert.deepEqual(await files.readFile("/tmp/bytes"), Buffer.from(all256.subarray(10, 210)));
    await files.writeFile("/tmp/bytes", "00ff", "hex");
    assert.equal(await files.readFile("/tmp/bytes", "hex"), "00ff");
    await files.writeFile("/tmp/bytes", "");
    assert.equal((await files.readFile("/tmp/bytes")).length, 0);
  });
  await t.test("flags, permissions and users", async () => {
    await files.writeFile("/tmp/a/b/flags", "1", { parents: true, mode: 0o600 });
    await files.writeFile("/tmp/a/b/flags", "2", { flag: "a" });
    assert.equal(await files.readFile("/tmp/a/b/flags", "utf8"), "12");
    await assert.rejects(files.writeFile("/tmp/a/b/flags", "", { flag: "wx" }), failed("EEXIST", "SBX_EEXISTS", "/tmp/a/b/flags"));
    await assert.rejects(files.readFile("/tmp/a/b/flags", { user: "99" }), failed("EACCES", "SBX_ESYSTEM", "/tmp/a/b/flags"));
    const { mode, uid, size, kind, nlink, mtime } = await files.stat("/tmp/a/b/flags");
    assert.deepEqual([mode, uid, size, kind, nlink], [0o600, 0, 2, "file", 1]);
    assert.ok(Math.abs(Date.now() - mtime) < 3_600_000, mtime);
  });
  await t.test("seen by programs", async () => {
    await files.writeFile("/tmp/seen", "by a program");
    const cat = await sandbox.exec(["cat", "/tmp/seen"], { stdout: "pipe" });
    assert.equal(await all(cat.stdout), "by a program");
  });
});

test("directories, names and links", async () => {
  await files.makeDirectory("/tmp/dir/below", { recursive: true });
  await files.makeDirectory("/tmp/dir/below", { recursive: true });
  await assert.rejects(files.makeDirectory("/tmp/dir"), failed("EEXIST", "SBX_EEXISTS", "/tmp/dir"));
  await files.writeFile("/tmp/dir/one", "1");
  const odd = Buffer.from("/tmp/dir/\xff\xfe", "latin1");
  await files.writeFile(odd, "not UTF-8");
  await (await sandbox.exec(["ln", "-s", "one", "/tmp/dir/link"])).wait();
  const byName = (entries) => entries.map(({ name, kind, target }) => [String(name), kind, target?.toString()]).sort();
  const expected = [["below", "directory", undefined], ["link", "symlink", "one"], ["one", "file", undefined]];
  assert.deepEqual(byName(await files.list("/tmp/dir")), [...expected, ["\ufffd\ufffd", "file", undefined]]);
  const names = (await files.list("/tmp/dir", "buffer")).map(({ name }) => name);
  assert.ok(names.some((name) => name.equals(odd.subarray(9))));
  assert.equal(await files.readFile(odd, "utf8"), "not UTF-8");
  assert.deepEqual([(await files.stat("/tmp/dir/link")).kind, (await files.lstat("/tmp/dir/link")).target], ["file", "one"]);
  await files.rename("/tmp/dir/one", "/tmp/dir/two");
  await assert.rejects(files.stat("/tmp/dir/link"), failed("ENOENT", "SBX_ENOTFOUND", "/tmp/dir/link"));
  await assert.rejects(files.rename("/tmp/dir/two", "/tmp/dir/link", { exclusive: true }), failed("EEXIST", "SBX_EEXISTS", "/tmp/dir/two"));
  await assert.rejects(files.remove("/tmp/dir"), failed("ENOTEMPTY", "SBX_ESYSTEM", "/tmp/dir"));
  await files.remove("/tmp/dir", { recursive: true });
  await assert.rejects(files.remove("/tmp/dir"), failed("ENOENT", "SBX_ENOTFOUND", "/tmp/dir"));
  await files.remove("/tmp/dir", { force: true });
});

test("a list of thousands", async () => {
  const make = await sandbox.exec(["sh", "-c", "mkdir /tmp/many; cd /tmp/many; seq 3000 | xargs touch"]);
  assert.equal((await make.wait()).code, 0);
  assert.equal(new Set((await files.list("/tmp/many")).map(({ name }) => name)).size, 3000);
  await assert.rejects(files.list("/tmp/many", { limit: 2999 }), { sbxCode: "SBX_ELIMIT" });
});

// 64 MiB that are no repetition of anything, made piece by piece.
const PIECE = 1 << 20;
const PIECES = 64;
function* pieces(hash) {
  for (let number = 0; number < PIECES; number++) {
    const piece = Buffer.alloc(PIECE, createHash("sha256").update(String(number)).digest());
    hash.update(piece);
    yield piece;
  }
}

test("streams of any size", async (t) => {
  await t.test("64 MiB there and back", async () => {
    const sent = createHash("sha256");
    const up = files.createWriteStream("/tmp/big/file", { parents: true });
    await pipeline(Readable.from(pieces(sent)), up);
    assert.deepEqual(up.totals, { bytes: PIECES * PIECE, entries: 1, skipped: 0 });
    const digest = sent.digest("hex");
    const sum = await sandbox.exec(["sha256sum", "/tmp/big/file"], { stdout: "pipe" });
    assert.equal((await all(sum.stdout)).split(" ")[0], digest);
    const received = createHash("sha256");
    const down = files.createReadStream("/tmp/big/file");
    for await (const chunk of down) received.update(chunk);
    assert.equal(received.digest("hex"), digest);
    assert.equal(down.totals.bytes, PIECES * PIECE);
  });
  await t.test("with back-pressure", async () => {
    const down = files.createReadStream("/tmp/big/file");
    await once(down, "readable");
    await sandbox.exec(["true"]).then((process) => process.wait());
    assert.ok(down.readableLength < PIECE, `${down.readableLength}`);
    const size = await new Promise((resolve, reject) => {
      let total = 0;
      const slow = new Writable({ highWaterMark: 1, write: (chunk, _, done) => setImmediate(done, void (total += chunk.length)) });
      down.pipe(slow).on("finish", () => resolve(total)).on("error", reject);
    });
    assert.equal(size, PIECES * PIECE);
  });
  await t.test("a part", async () => {
    assert.equal((await bytes(files.createReadStream("/tmp/big/file", { offset: PIECES * PIECE - 5 }))).length, 5);
  });
  await t.test("given up in the middle", async () => {
    const down = files.createReadStream("/tmp/big/file");
    for await (const _ of down) break;
    assert.ok(down.destroyed);
    const abort = new AbortController();
    const up = files.createWriteStream("/tmp/half", { signal: abort.signal });
    up.write("half");
    await files.stat("/");
    abort.abort();
    await assert.rejects(once(up, "finish"), { name: "AbortError" });
    const more = files.createReadStream("/tmp/big/file", { signal: AbortSignal.abort() });
    await assert.rejects(bytes(more), { name: "AbortError" });
  });
  await t.test("that fail", async () => {
    await assert.rejects(bytes(files.createReadStream("/nowhere")), failed("ENOENT", "SBX_ENOTFOUND", "/nowhere"));
    await assert.rejects(bytes(files.createReadStream("/tmp")), { path: "/tmp" });
    await assert.rejects(bytes(files.createReadStream("/tmp/big/file", { limit: 10 })), { sbxCode: "SBX_ELIMIT" });
    const up = (path) => pipeline(Readable.from(pieces(createHash("md5"))), files.createWriteStream(path));
    await assert.rejects(up("/nowhere/file"), failed("ENOENT", "SBX_ENOTFOUND", "/nowhere/file"));
    const small = await Sandbox.create(undefined, { diskMiB: 8 });
    const full = pipeline(Readable.from(pieces(createHash("md5"))), small.files.createWriteStream("/tmp/full"));
    await assert.rejects(full, failed("ENOSPC", "SBX_ESYSTEM", "/tmp/full"));
    await small.terminate();
  });
});

test("trees, both ways", async (t) => {
  const host = mkdtempSync(join(tmpdir(), "sbx-"));
  t.after(() => rmSync(host, { recursive: true }));
  const tar = (...words) => spawn("tar", words, { stdio: ["pipe", "pipe", "inherit"] });
  mkdirSync(join(host, "from", "below"), { recursive: true });
  writeFileSync(join(host, "from", "below", "file"), "content");
  symlinkSync("below/file", join(host, "from", "link"));
  const into = files.copyIn("/tmp/tree", { parents: true });
  await pipeline(tar("-C", join(host, "from"), "-c", ".").stdout, into);
  assert.equal(into.totals.bytes, 7);
  assert.equal(await files.readFile("/tmp/tree/link", "utf8"), "content");
  assert.equal((await sandbox.exec(["python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('/tmp/tree/s')"]).then((process) => process.wait())).code, 0);
  mkdirSync(join(host, "to"));
  const unpack = tar("-C", join(host, "to"), "-x");
  const out = files.copyOut("/tmp/tree");
  await Promise.all([pipeline(out, unpack.stdin), once(unpack, "close")]);
  assert.equal(readFileSync(join(host, "to", "below", "file"), "utf8"), "content");
  assert.equal(readlinkSync(join(host, "to", "link")), "below/file");
  assert.deepEqual([out.totals.bytes, out.totals.skipped], [7, 1]);
  const garbage = pipeline(Readable.from([Buffer.alloc(1024, "x")]), files.copyIn("/tmp/garbage", { parents: true }));
  await assert.rejects(garbage, { sbxCode: "SBX_EINVALID" });
});

test("watching", async (t) => {
  await files.makeDirectory("/tmp/watched/below", { recursive: true });
  await t.test("what changes, until the directory is gone", async () => {
    const seen = [];
    for await (const { kind, path } of files.watch("/tmp/watched", { recursive: true })) {
      seen.push(`${kind} ${path}`);
      if (kind === "ready") await files.writeFile("/tmp/watched/below/new", "1");
      if (kind === "created") await files.rename("/tmp/watched/below/new", "/tmp/watched/moved");
      if (kind === "movedTo") await files.remove("/tmp/watched", { recursive: true });
    }
    assert.equal(seen[0], "ready ");
    for (const change of ["created below/new", "movedFrom below/new", "movedTo moved", "removed moved"]) {
      assert.ok(seen.includes(change), `${change}: ${seen}`);
    }
  });
  await t.test("until it is given up", async () => {
    const abort = new AbortController();
    const watching = (async () => {
      for await (const { kind } of files.watch("/tmp", { signal: abort.signal })) if (kind === "ready") setImmediate(() => abort.abort());
    })();
    await assert.rejects(watching, { name: "AbortError" });
    for await (const { kind, path } of files.watch("/tmp", "buffer")) {
      assert.deepEqual([kind, path], ["ready", Buffer.alloc(0)]);
      break;
    }
  });
  await t.test("a busy directory leaves others their turn, and the signal its say", async () => {
    await files.makeDirectory("/tmp/busy");
    const changes = async (taken) => {
      const abort = new AbortController();
      const watching = files.watch("/tmp/busy", { signal: abort.signal });
      await watching.next();
      const busy = await sandbox.exec(["sh", "-c", "cd /tmp/busy; for i in $(seq 1000); do echo > $i; done"]);
      await busy.wait();
      let count = 0;
      const read = async () => {
        for await (const _ of watching) taken(++count, abort);
      };
      await assert.rejects(read(), { name: "AbortError" });
      return count;
    };
    // A turn of the loop comes before these are read, and nothing is read after the signal.
    assert.ok((await changes((count, abort) => count === 1 && setImmediate(() => abort.abort()))) <= 128);
    assert.equal(await changes((count, abort) => count === 5 && abort.abort()), 5);
  });
  await t.test("what isn't there", async () => {
    const next = files.watch("/nowhere").next();
    await assert.rejects(next, failed("ENOENT", "SBX_ENOTFOUND", "/nowhere"));
  });
  await t.test("until the sandbox ends", async () => {
    const short = await Sandbox.create();
    const kinds = [];
    for await (const { kind } of short.files.watch("/tmp")) {
      kinds.push(kind);
      short.terminate();
    }
    assert.deepEqual(kinds, ["ready"]);
  });
});

test("what is refused, and what is given up", async () => {
  const cases = [
    [() => files.readFile("relative"), "relative"],
    [() => files.readFile("/a\0b"), "NUL"],
    [() => files.readFile(Buffer.from("/a\0b")), "NUL"],
    [() => files.readFile(7), "path"],
    [() => files.readFile("/tmp", "klingon"), "klingon"],
    [() => files.readFile("/tmp", { offset: -1 }), "offset"],
    [() => files.readFile("/tmp", { limit: 2 ** 31 }), ""],
    [() => files.readFile("/tmp", { mode: 0o600 }), "mode"],
    [() => files.readFile("/tmp", { timeoutMs: 0 }), "timeoutMs"],
    [() => files.writeFile("/tmp/x", 7), "data"],
    [() => files.writeFile("/tmp/x", "", { flag: "r" }), "flag"],
    [() => files.writeFile("/tmp/x", "", { mode: 0o10000 }), "mode"],
    [() => files.remove("/tmp/x", { recursive: "no" }), "recursive"],
    [() => files.rename("/tmp/x", "y"), "y"],
    [() => files.stat("/tmp", { colour: "red" }), "colour"],
    [() => files.watch("/tmp", { timeoutMs: 5 }).next(), ""],
    [() => bytes(files.createReadStream("/tmp", { colour: "red" })), "colour"],
    [() => pipeline(Readable.from(["x"]), files.createWriteStream("relative")), "relative"],
  ];
  for (const [use, part] of cases) await assert.rejects(use, refused("SBX_EINVALID", part), String(use));
  await assert.rejects(files.stat("/", { signal: AbortSignal.abort() }), { name: "AbortError" });
  const abort = new AbortController();
  const given = assert.rejects(files.list("/tmp", { signal: abort.signal }), { name: "AbortError" });
  abort.abort();
  await given;
});

test("a sandbox that ends takes its operations along", async () => {
  const short = await Sandbox.create();
  const up = short.files.createWriteStream("/tmp/x");
  up.write("x");
  await short.files.stat("/");
  const cut = assert.rejects(once(up, "finish"), { sbxCode: "SBX_ESTATE" });
  await short.terminate();
  await cut;
  await assert.rejects(short.files.readFile("/tmp/x"), refused("SBX_ESTATE", ""));
  await assert.rejects(bytes(short.files.createReadStream("/tmp/x")), refused("SBX_ESTATE", ""));
  await short[Symbol.asyncDispose]();
  await assert.rejects(short.files.readFile("/tmp/x"), refused("SBX_EHANDLE", ""));
});

test("what is pending keeps the process alive and the sandbox from being garbage", async () => {
  const lines = `
    import { Sandbox } from ${JSON.stringify(`${examples}sbx.js`)};
    const files = () => Sandbox.create().then(({ files }) => files);
    setInterval(gc, 1).unref();
    (await files()).writeFile("/tmp/x", "kept").then(() => console.log("written"));
    (await files()).createReadStream("/usr/bin/python3").on("data", () => {}).on("end", () => console.log("read"));
    (await files()).createWriteStream("/tmp/x").on("finish", () => console.log("sent")).end("x");
    const watch = async () => {
      const abort = new AbortController();
      for await (const { kind } of (await files()).watch("/tmp", { signal: abort.signal })) {
        console.log(kind);
        setTimeout(() => abort.abort(), 300).unref();
      }
    };
    watch().catch((error) => console.log(error.name));
  `;
  const done = await node(["--expose-gc", "--input-type=module", "--eval", lines]);
  assert.equal(done.stdout.split("\n").sort().join(" "), " AbortError read ready sent written", done.stderr);
});

test("a stream that is given up at its very end doesn't keep the process alive", async () => {
  const done = await program(`
    const { files } = await Sandbox.create();
    const up = files.createWriteStream("/tmp/x");
    up.write("x", () => {
      up.end();
      setImmediate(() => up.destroy());
    });
  `);
  assert.deepEqual([done.code, done.signal, done.stderr], [0, null, ""]);
});
