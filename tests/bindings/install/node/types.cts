import { Sandbox, type Exit } from "libsbx";

export async function run(): Promise<Exit> {
  const sandbox: Sandbox = await Sandbox.create(["true"], { blockNetwork: true });
  return sandbox.wait();
}
