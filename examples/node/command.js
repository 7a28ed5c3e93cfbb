#!/usr/bin/env node
// What this machine lacks for sandboxes: node examples/node/command.js doctor [--json]. Of the package: npx --no-install libsbx doctor
//
// The exit status is 0 where sandboxes can be created, else 1.

import { parseArgs } from "node:util";
import { doctor } from "./sbx.js";

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: "boolean" } } });
if (positionals.length !== 1 || positionals[0] !== "doctor") {
  console.error("usage: libsbx doctor [--json]");
  process.exit(2);
}
const report = await doctor();
if (values.json) {
  console.log(JSON.stringify(report));
} else {
  for (const { status, name, detail, remedy } of report.findings) {
    console.log(`${status.padEnd(8)} ${name}: ${detail}${remedy && `\n${"".padEnd(8)} -> ${remedy}`}`);
  }
  console.log(`Sandboxes ${report.usable ? "can" : "cannot"} be created here.`);
}
process.exitCode = report.usable ? 0 : 1;
