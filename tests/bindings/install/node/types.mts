import { Sandbox, type Exit } from "libsbx";

const sandbox: Sandbox = await Sandbox.create(["true"], { blockNetwork: true });
export const exit: Exit = await sandbox.wait();
