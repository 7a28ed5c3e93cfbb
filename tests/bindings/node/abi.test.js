// The package against the header: structs, functions, codes, and its size.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";
import { FUNCTIONS, layout, STRUCTS } from "../../../examples/node/abi.js";
import { CODES } from "../../../examples/node/errors.js";
import { examples } from "./support.js";

const file = (path) => readFileSync(new URL(`../../../${path}`, import.meta.url), "utf8");
const header = file("include/sbx.h").replace(/\/\*[^]*?\*\/|\/\/.*/g, "");
const plain = (words) => words.trim().split(/\s+/).join(" ");

function kind(parameter) {
  if (parameter === "" || parameter === "void") return "";
  if (/^(struct )?sbx_error \*/.test(parameter)) return "e";
  if (/^const char \*(?!const)\w/.test(parameter)) return "s";
  if (/^(const )?(struct )?sbx_(exit|event|verdict|stats|file_options|file_info|runtime_config) \*/.test(parameter)) return "&";
  if (parameter.split("*").length === 2 && parameter.includes("sbx_")) return "h";
  if (parameter.includes("*")) return "&";
  const kinds = { int: "i", int32_t: "i", uint32_t: "u", int64_t: "q", uint64_t: "Q", size_t: "z" };
  return kinds[parameter.replace(/ \w+$/, "")];
}

function result(declared) {
  if (declared === "const char *") return ">s";
  if (declared === "const uint8_t *") return ">b";
  return { int: "", uint32_t: ">u", void: ">v" }[declared] ?? ">h";
}

test("the structs are the header's", () => {
  const kinds = { uint32_t: "u", int32_t: "i", uint64_t: "Q", int64_t: "q", "const char *": "s" };
  for (const struct of Object.keys(STRUCTS)) {
    const body = header.match(new RegExp(`typedef struct sbx_${struct} \\{([^}]*)\\}`))[1];
    const members = [...body.matchAll(/(\w+|const char \*) ?(\w+)(?:\[(\d+)\])?;/g)];
    assert.equal(STRUCTS[struct], members.map(([, type, name, length]) => `${length ?? kinds[type]} ${name}`).join(", "));
    const { fields, size } = layout(struct);
    for (const { offset, bytes, kind } of Object.values(fields)) {
      assert.equal(offset % (kind in { u: 0, i: 0, q: 0, Q: 0, s: 0 } ? bytes : 1), 0, "there is no padding");
    }
    assert.equal(size % 8, 0);
  }
});

test("the functions are the header's", () => {
  const declared = new Map();
  for (const [, returned, name, parameters] of header.matchAll(/\n([a-z][\w ]*?[ *]+)sbx_(\w+)\(([^)]*)\);/g)) {
    declared.set(name, parameters.split(",").map(plain).map(kind).join("") + result(plain(returned)));
  }
  assert.ok(declared.size > 60);
  for (const [kinds, names] of Object.entries(FUNCTIONS)) {
    for (const name of names.split(" ")) assert.equal(declared.get(name), kinds, name);
  }
});

test("the codes are the header's", () => {
  for (const [index, name] of CODES.entries()) assert.match(header, new RegExp(`#define ${name} ${-1001 - index}\n`));
  assert.equal(CODES.length, header.match(/#define SBX_E[A-Z_]+ -\d+\n/g).length);
});

test("the package has less than 1,100 lines of code", () => {
  const modules = readdirSync(examples).filter((name) => name.endsWith(".js") && name !== "http_server.js");
  const isCode = (line) => !/^\s*($|\/\/|\/\*\*|\*)/.test(line);
  const lines = modules.map((name) => file(`examples/node/${name}`).split("\n").filter(isCode).length);
  assert.ok(lines.reduce((sum, more) => sum + more) < 1100, `${lines}`);
});
