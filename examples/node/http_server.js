// A web server in a gVisor sandbox, reached over TLS: node examples/node/http_server.js

import { get } from "node:https";
import { text } from "node:stream/consumers";
import { Sandbox } from "./sbx.js";

const sandbox = await Sandbox.create(["python3", "-m", "http.server", "12345"], { encryptedPorts: [12345] });
const tunnel = sandbox.tunnels()[12345];
console.log(tunnel.url);

// A tunnel is there at once; the server behind it takes a moment.
await sandbox.waitUntilReady();
const page = await new Promise((resolve, reject) => get(tunnel.url, { ca: tunnel.ca }, resolve).on("error", reject));
console.log(await text(page));

const { code } = await sandbox.terminate();
console.log("ended with", code);
