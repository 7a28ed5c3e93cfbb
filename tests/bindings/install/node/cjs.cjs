const { doctor, Sandbox } = require("libsbx");

async function main() {
  const sandbox = await Sandbox.create(["echo", "42"], { stdout: "pipe", blockNetwork: true });
  const pieces = await sandbox.stdout.toArray();
  await sandbox.wait();
  const { findings } = await doctor();
  const own = findings.some(({ detail }) => detail.includes("node_modules/@libsbx/runsc-"));
  console.log(String(Buffer.concat(pieces)).trim(), own ? "runsc of the package" : JSON.stringify(findings));
}

main();
