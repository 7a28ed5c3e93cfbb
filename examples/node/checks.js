// What this machine lacks for sandboxes, and what the library says of its work.

import { kindOf } from "./arguments.js";
import { invalid, SbxError } from "./errors.js";
import { hub } from "./hub.js";
import { call, filled, freeing, native } from "./native.js";
import { make, namesOf } from "./structs.js";
import { deferred } from "./waiting.js";

const STATUS = namesOf("FINDING_");
const LEVELS = ["off", "error", "warning", "info", "debug", "trace"];

export async function doctor() {
  const checked = deferred();
  const place = Buffer.alloc(8);
  const happened = ({ code, detail }) => {
    code < 0 ? checked.reject(new SbxError(detail, code)) : checked.resolve();
    return true;
  };
  hub().begin({ happened }, (cookie) => call("runtime_check_begin", make("runtime_config"), hub().queue, cookie, place));
  const report = Number(place.readBigUInt64LE());
  try {
    await hub().during(checked.promise);
    const findings = Array.from({ length: native.report_count(report) }, (_, index) => {
      const { status, ...texts } = filled("finding", "report_finding", report, index);
      return { status: STATUS[status] ?? "unknown", ...texts };
    });
    return { usable: native.report_usable(report) === 1, findings };
  } finally {
    freeing("report", report, () => {});
  }
}

export function logTo(target, level = "warning") {
  const number = LEVELS.indexOf(level);
  if (number < 0) throw invalid(`level must be one of ${LEVELS.join(", ")}`);
  const fd = target === null ? -1 : (target?.fd ?? target);
  if (!Number.isInteger(fd)) throw invalid(`target must be a descriptor, a stream that has one, or null, not ${kindOf(target)}`);
  const result = native.log_set_fd(fd, number);
  if (result >= 0) return;
  const error = new SbxError(`target: descriptor ${fd} can't be logged to`, result);
  if (["SBX_EINVALID", "SBX_ESYSTEM"].includes(error.code)) throw error;
  throw new SbxError("the log can't be set: this is a forked child, or the program has a logger of its own", result);
}
