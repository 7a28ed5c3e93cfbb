// What arguments can be.

import { constants } from "node:os";
import { invalid } from "./errors.js";

/** An option that there isn't is not ignored. */
export function onlyKnown(options, known) {
  for (const name of Object.keys(options)) if (!known.includes(name)) throw invalid(`there is no option "${name}"`);
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
export const signalNumber = (signal) =>
  whole(typeof signal === "string" ? constants.signals[signal] : signal, `signal ${signal}`, 1, 64);
