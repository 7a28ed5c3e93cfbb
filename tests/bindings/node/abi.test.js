// The package against the header: structs, functions, codes, and its size.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";
import { NUMBERS, STRUCTS } from "../../../examples/node/abi.js";
import { CODES, SbxError } from "../../../examples/node/errors.js";
import { layout, namesOf } from "../../../examples/node/structs.js";
import { examples } from "./support.js";

const file = (path) => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");

test("the structs lie as the header's", () => {
  const lines = file("tests/abi/layout.txt").split("\n");
  for (const struct of Object.keys(STRUCTS)) {
    const { fields, size } = layout(struct);
    assert.ok(lines.includes(`sbx_${struct} ${size}`), struct);
    for (const [name, { offset, bytes }] of Object.entries(fields)) {
      assert.ok(lines.includes(`sbx_${struct}.${name} ${offset} ${bytes}`), `${struct}.${name}`);
    }
  }
});

test("numbers have the header's names", () => {
  assert.ok(CODES.length > 15);
  assert.equal(new SbxError("", NUMBERS.EFORKED).code, "SBX_EFORKED");
  assert.equal(new SbxError("", -9999).code, "SBX_EINTERNAL");
  const { 1: started, 5: processExited } = namesOf("EVENT_");
  const declared = file("examples/node/sbx.d.ts");
  for (const reason of Object.values(namesOf("REASON_"))) assert.ok(declared.includes(`  | "${reason}"`), reason);
  assert.deepEqual([started, processExited, namesOf("EXIT_")[3]], ["started", "processExited", "timedOut"]);
});

test("the package has less than 1,500 lines of code", () => {
  const modules = readdirSync(examples).filter((name) => name.endsWith(".js") && !["http_server.js", "command.js", "abi.js"].includes(name));
  const isCode = (line) => !/^\s*($|\/\/|\/\*\*|\*)/.test(line);
  const lines = modules.map((name) => file(`examples/node/${name}`).split("\n").filter(isCode).length);
  assert.ok(lines.reduce((sum, more) => sum + more) < 1500, `${lines}`);
});
