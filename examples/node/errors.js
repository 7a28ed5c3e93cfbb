// What goes wrong.

import { getSystemErrorName } from "node:util";
import { NUMBERS } from "./abi.js";

// What the library's text of limits that can't be held doesn't say in JavaScript's words.
const ABOUT_LIMITS = "the limits of memory and processor";
const WATCHDOG =
  ". Or set memoryWatchdog: true, and no cpu: memory is watched then, and a sandbox with more is ended";

/**
 * An error of the library. `code` and `sbxCode` are its name (`"SBX_EINVALID"` ...), `errno` its number, `osError` an
 * errno or 0.
 */
export class SbxError extends Error {
  constructor(message, errno, osError = 0) {
    super(errno === NUMBERS.EHOST && message.includes(ABOUT_LIMITS) ? message + WATCHDOG : message);
    this.name = "SbxError";
    this.code = NAMES[errno] ?? "SBX_EINTERNAL";
    this.sbxCode = this.code;
    this.errno = errno;
    this.osError = osError;
  }
}

/** A file's error as Node has it: `code` is `"ENOENT"` ..., as the sandbox says, or else the library's name. */
export class FileError extends SbxError {
  constructor({ message, errno, osError }, path) {
    super(message, errno, osError);
    this.name = "FileError";
    this.path = path;
    const known = osError > 0 && getSystemErrorName(-osError);
    if (known && /^E\w+$/.test(known)) this.code = known; // the sandbox can say any number
  }
}

export const CODES = Object.keys(NUMBERS).filter((name) => /^E[A-Z]/.test(name) && NUMBERS[name] < -1000);
const NAMES = Object.fromEntries(CODES.map((name) => [NUMBERS[name], `SBX_${name}`]));

export const { EINVALID, ETIMEDOUT, ECLOSED, ESTATE } = NUMBERS;

/** What is wrong with an argument before the library sees it. */
export const invalid = (message) => new SbxError(message, EINVALID);

