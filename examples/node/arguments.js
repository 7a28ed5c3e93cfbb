// What arguments can be.

import { constants } from "node:os";
import { invalid } from "./errors.js";

/** What kind of value that is. The value itself is not shown: it may be a secret. */
export const kindOf = (value) => (value === null ? "null" : Array.isArray(value) ? "an array" : typeof value);

/** What is said as an object, of options or of names and values. */
export function record(value, what) {
  if (kindOf(value) !== "object") throw invalid(`${what} must be an object, not ${kindOf(value)}`);
  return value;
}

/** What is said as an array; nothing, if it isn't. A string isn't an array of its letters. */
export function list(value, what) {
  if (value !== undefined && !Array.isArray(value)) throw invalid(`${what} must be an array, not ${kindOf(value)}`);
  return value ?? [];
}

/** An option that there isn't is not ignored. */
export function onlyKnown(options, known) {
  for (const name of Object.keys(record(options, "options"))) if (!known.includes(name)) throw invalid(`there is no option "${name}"`);
}

export function whole(value, what, least, most) {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw invalid(`${what} must be an integer from ${least} to ${most}, not ${String(value)}`);
  }
  return value;
}

export const port = (value, what) => whole(value, what, 1, 65535);
export const milliseconds = (value, what) => whole(value, what, 1, 2 ** 53 - 1);

/** How long something is waited for; Infinity for as long as it takes. */
export const patience = (value) => (value === Infinity ? value : whole(value, "timeoutMs", 0, 2 ** 53 - 1));

/** The number of a signal. */
export function signalNumber(signal) {
  const number = typeof signal === "string" ? constants.signals[signal] : signal;
  if (Number.isInteger(number) && number >= 1 && number <= 64) return number;
  throw invalid(`signal must be a name such as "SIGTERM" or a number from 1 to 64, not ${JSON.stringify(signal)}`);
}
