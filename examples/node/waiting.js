// Promises that are settled from elsewhere, and what else can end the wait for one.

import { patience } from "./arguments.js";
import { ETIMEDOUT, SbxError } from "./errors.js";

const LONGEST_TIMER = 2 ** 31 - 1; // one of more milliseconds fires at once

/** A promise to be settled from elsewhere. That nobody waits for it is no error. */
export function deferred() {
  const result = {};
  result.promise = new Promise((resolve, reject) => Object.assign(result, { resolve, reject }));
  result.promise.catch(() => {});
  return result;
}

/** The same promise, or an error after that time. */
export async function within(promise, timeoutMs, what) {
  if (patience(timeoutMs) === Infinity) return promise;
  const late = deferred();
  const error = new SbxError(`${what} within ${timeoutMs} ms`, ETIMEDOUT);
  let timer;
  const wait = (left) => {
    if (left <= LONGEST_TIMER) timer = setTimeout(() => late.reject(error), left);
    else timer = setTimeout(() => wait(left - LONGEST_TIMER), LONGEST_TIMER);
  };
  wait(timeoutMs);
  return Promise.race([promise, late.promise]).finally(() => clearTimeout(timer));
}

/** The same promise, or the signal's reason once that is aborted. */
export async function unlessAborted(promise, signal) {
  signal?.throwIfAborted();
  if (!signal) return promise;
  const aborted = deferred();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort);
  return Promise.race([promise, aborted.promise]).finally(() => signal.removeEventListener("abort", abort));
}
