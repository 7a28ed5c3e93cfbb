// What this machine lacks for sandboxes, and what the library says of its work.

import { kindOf } from "./arguments.js";
import { invalid, SbxError } from "./errors.js";
import { filled, freeing, native } from "./native.js";
import { Operation } from "./operation.js";
import { make, namesOf } from "./structs.js";

const STATUS = namesOf("FINDING_");
const LEVELS = ["off", "error", "warning", "info", "debug", "trace"];

export async function doctor() {
  const check = new Operation("runtime_check_begin", make("runtime_config"));
  const report = await check.run(check, (done) => done.open("report"));
  try {
    const findings = Array.from({ length: native.report_count(report) }, (_, index) => {
      const { status, ...texts } = filled("finding", "report_finding", report, index);
      return { status: STATUS[status] ?? "unknown", ...texts };
    });
    const all = { usable: native.report_usable(report) === 1, findings };
    const json = JSON.parse(String(native.report_json(report)));
    // What JSON.stringify writes is the library's own.
    return Object.defineProperty(all, "toJSON", { value: () => json });
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
