// The examples, as programs of their own.

import assert from "node:assert/strict";
import test from "node:test";
import { examples, node } from "./support.js";

test("the seed program", async () => {
  const { code, stdout, stderr } = await node([`${examples}http_server.js`]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^https:\/\/127\.0\.0\.1:\d+\n/);
  assert.match(stdout, /Directory listing for \//);
  assert.match(stdout, /\nended with 137\n$/);
});
