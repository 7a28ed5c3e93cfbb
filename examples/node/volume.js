// Volumes: named directories that outlive sandboxes, shared by all of the user's programs.

import { onlyKnown, record } from "./arguments.js";
import { invalid } from "./errors.js";
import { filled, freeing, native, text } from "./native.js";
import { Operation } from "./operation.js";
import { NUMBERS } from "./abi.js";

const MOUNT = "name readOnly create subPath createSubPath".split(" ");

async function volumes(begin, ...values) {
  const operation = new Operation(begin, 0, ...values);
  return operation.run(operation, (done) =>
    freeing("volume_list", done.open("volumes"), (found) =>
      Array.from({ length: native.volume_list_count(found) }, (_, index) => {
        const { name, path, createdMs, inUse } = filled("volume_summary", "volume_list_entry", found, index);
        return Object.freeze({ name, path, created: new Date(createdMs), inUse: inUse !== 0 });
      }),
    ),
  );
}

export async function createVolume(name, options = {}) {
  onlyKnown(record(options, "options"), ["exclusive"]);
  const flags = options.exclusive ? NUMBERS.VOLUME_EXCLUSIVE : 0;
  return (await volumes("volume_create_begin", text(name, "name"), flags))[0];
}

export async function findVolume(name) {
  return (await volumes("volume_find_begin", text(name, "name")))[0];
}

export async function listVolumes() {
  return volumes("volume_list_begin");
}

export async function removeVolume(name) {
  const operation = new Operation("volume_remove_begin", 0, text(name, "name"));
  await operation.run(operation);
}

/** What of a volume is mounted, as the library takes it: its name, the sub-path, and flags. */
export function mountedVolume(volume, what) {
  const given = typeof volume === "string" ? { name: volume } : record(volume, what);
  onlyKnown(given, MOUNT);
  if (given.name === undefined) throw invalid(`${what} must be a volume's name, or an object that has it`);
  const { VOLUME_READ_ONLY, VOLUME_CREATE, VOLUME_CREATE_SUB_PATH } = NUMBERS;
  const flags =
    (given.readOnly ? VOLUME_READ_ONLY : 0) + (given.create ? VOLUME_CREATE : 0) + (given.createSubPath ? VOLUME_CREATE_SUB_PATH : 0);
  return [text(given.name, `${what}.name`), text(given.subPath ?? "", `${what}.subPath`), flags];
}
