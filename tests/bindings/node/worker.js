// What the tests run in worker threads: one sandbox to its end, then one that is left behind. With `more`, says when
// it has loaded the module, and creates further ones until it is stopped.

import { parentPort, workerData } from "node:worker_threads";
import { Sandbox } from "../../../examples/node/sbx.js";

if (workerData?.more) parentPort.postMessage("loaded");
const sandbox = await Sandbox.create(["sh", "-c", "exit 5"]);
parentPort.postMessage((await sandbox.wait()).code);
await Sandbox.create(["sleep", "1000"]);
while (workerData?.more) (await Sandbox.create(["true"])).ref();
