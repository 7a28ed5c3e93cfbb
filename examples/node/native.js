// The shared library, through one of two FFI packages.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isMainThread } from "node:worker_threads";
import { FUNCTIONS, NUMBERS } from "./abi.js";
import { kindOf } from "./arguments.js";
import { invalid, SbxError } from "./errors.js";
import { isText, make, read, readAll } from "./structs.js";

// A bundle that is CommonJS has no import.meta.
const self = import.meta.url ?? pathToFileURL(__filename).href;
const require = createRequire(self);
const { ABI_VERSION } = NUMBERS;

// What both back ends call the kinds of parameters and results. Handles are passed as integers: they are addresses, but
// nothing of ours to look into.
const TYPES = { h: "uint64", i: "int", u: "uint32", q: "int64", Q: "uint64", z: "size_t", s: "string", v: "void" };

const FFI_NAPI = "@2060.io/ffi-napi";

// Each back end opens a library and gives a function for a name, and the address of a buffer.
const BACK_ENDS = {
  koffi(path) {
    const koffi = require("koffi");
    const library = koffi.load(path);
    const types = { ...TYPES, "&": "void *", e: "void *" };
    return {
      bind: (name, result, parameters) => library.func(name, types[result], parameters.map((kind) => types[kind])),
      address: (buffer) => koffi.address(buffer),
    };
  },
  [FFI_NAPI](path) {
    const ffi = require(FFI_NAPI);
    const ref = require("@2060.io/ref-napi");
    const library = ffi.DynamicLibrary(path, ffi.DynamicLibrary.FLAGS.RTLD_NOW);
    const types = { ...TYPES, "&": "pointer", e: "pointer" };
    return {
      bind: (name, result, parameters) =>
        ffi.ForeignFunction(library.get(name), types[result], parameters.map((kind) => types[kind])),
      address: (buffer) => BigInt(ref.address(buffer)),
    };
  },
};

/** The first back end that is installed, or the one that SBX_FFI names. */
function backEnd() {
  const names = process.env.SBX_FFI ? [process.env.SBX_FFI] : Object.keys(BACK_ENDS);
  const isInstalled = (name) => {
    try {
      return require.resolve(name);
    } catch {
      return false;
    }
  };
  const name = names.find(isInstalled);
  if (!name) throw new Error(`no FFI package: npm install koffi (or ${FFI_NAPI}). Looked for ${names.join(", ")}`);
  // In a worker that is being stopped, N-API refuses what may run JavaScript, and ffi-napi throws a C++ exception that
  // nobody catches. It does so in its own callbacks, also while it is loaded: nothing here could prevent it.
  if (name === FFI_NAPI && !isMainThread) {
    const reason = `${FFI_NAPI} would abort the whole process if this worker thread were stopped`;
    throw new Error(`${reason}. Workers need koffi: npm install koffi, and leave SBX_FFI unset`);
  }
  return name;
}

/** Files in packages of their own: libsbx.so, and runsc. Which of these are installed is a list of places. */
function carried(kind, file) {
  try {
    return [require.resolve(`@libsbx/${kind}${process.platform}-${process.arch}/${file}`)];
  } catch {
    return [];
  }
}

/**
 * The library: what SBX_LIBRARY names and nothing else if that is set; else beside this file, in the platform's package,
 * in the build's directories of this checkout, and where the system looks.
 */
function load() {
  const named = process.env.SBX_LIBRARY;
  const here = (path) => fileURLToPath(new URL(path, self));
  const build = process.env.CARGO_TARGET_DIR || here("../../target");
  const beside = [here("libsbx.so"), ...carried("", "libsbx.so"), `${build}/release/libsbx.so`, `${build}/debug/libsbx.so`];
  const places = named ? [named] : [...beside.filter((place) => existsSync(place)), "libsbx.so.0"];
  const open = BACK_ENDS[backEnd()];
  if (!open) throw new Error(`SBX_FFI is "${process.env.SBX_FFI}"; it can be ${Object.keys(BACK_ENDS).join(" or ")}`);
  const tried = [];
  for (const place of places) {
    let library, version;
    try {
      library = open(place);
      version = library.bind("sbx_abi_version", "u", [])();
    } catch (error) {
      tried.push(`${place}: ${error.message}`);
      continue;
    }
    // While the major number is 0, minor numbers differ as major ones do later.
    if (version >= ABI_VERSION && version >> 8 === ABI_VERSION >> 8) return library;
    tried.push(`${place}: its ABI is ${version}; this package was written for ${ABI_VERSION}`);
  }
  const remedy = "Build it (cargo build --release), put libsbx.so beside native.js, install it, or name it in";
  throw new Error(`libsbx was not found. ${remedy} SBX_LIBRARY. Tried: ${tried.join("; ")}`);
}

const library = load();
// The library reads it when it makes its runtime. A worker's environment is a copy.
if (isMainThread && !process.env.SBX_RUNSC) for (const runsc of carried("runsc-", "runsc")) process.env.SBX_RUNSC = runsc;

// The C library's own, which are found through what the library is linked with: they turn an address into bytes in one
// way over both back ends.
const strlen = library.bind("strlen", "z", ["h"]);
const memcpy = library.bind("memcpy", "v", ["&", "h", "z"]);

/** A copy of what the library holds at an address. */
export function bytesAt(address, length) {
  const copy = Buffer.alloc(length);
  if (length > 0) memcpy(copy, address, length);
  return copy;
}

/** A copy of a text of the library's, as bytes: names of files need not be UTF-8. */
export const textAt = (address) => (address === 0 ? null : bytesAt(address, Number(strlen(address))));

/** The library's functions, without `sbx_`. What returns a text gives its bytes, or null if there is none. */
export const native = {};
for (const [name, kinds] of Object.entries(FUNCTIONS)) {
  const [parameters, result = "i"] = kinds.split(">");
  const bound = library.bind(`sbx_${name}`, "sb".includes(result) ? "h" : result, [...parameters]);
  native[name] = result === "s" ? (...values) => textAt(Number(bound(...values))) : bound;
}

function failure(name, result, error) {
  const message = read("error", error, "message") || `sbx_${name} returned ${result}`;
  return new SbxError(message, result, read("error", error, "os_error"));
}

/** Calls a function whose last parameter is the error, and throws that. */
export function call(name, ...parameters) {
  const error = make("error");
  const result = native[name](...parameters, error);
  if (result < 0) throw failure(name, result, error);
  return result;
}

/** Calls a function whose last parameters are a handle's place and the error, and gives that handle. */
export function open(name, ...parameters) {
  const place = Buffer.alloc(8);
  call(name, ...parameters, place);
  return Number(place.readBigUInt64LE());
}

/** What a function whose last parameter is a struct fills it with; undefined for a text that there is none of. */
export function filled(struct, name, ...parameters) {
  const memory = make(struct);
  const result = native[name](...parameters, memory);
  if (result < 0) throw new SbxError(`sbx_${name} returned ${result}`, result);
  const fields = Object.entries(readAll(struct, memory));
  return Object.fromEntries(fields.map(([field, value]) => [field, isText(struct, field) ? textAt(value)?.toString() : value]));
}

/** A text as C takes it. */
export function text(value, what) {
  if (typeof value !== "string") throw invalid(`${what} must be a string, not ${kindOf(value)}`);
  if (value.includes("\0")) throw invalid(`${what} contains a NUL character`);
  if (!value.isWellFormed()) throw invalid(`${what} is not valid Unicode`);
  return value;
}

/** A path in a sandbox as C takes it: a text, or bytes, which need not be UTF-8. */
export function path(value, what) {
  if (!(value instanceof Uint8Array)) return Buffer.from(`${text(value, what)}\0`);
  if (value.includes(0)) throw invalid(`${what} contains a NUL character`);
  return Buffer.concat([value, Buffer.alloc(1)]);
}

/** A buffer's address. It lasts as long as the buffer. */
export const addressOf = (buffer) => library.address(buffer);

/** An array of texts as C takes it. Its memory lasts as long as the texts do, which come along. */
export function texts(values, what) {
  if (!Array.isArray(values)) throw invalid(`${what} must be an array of strings, not ${kindOf(values)}`);
  const kept = values.map((value) => Buffer.from(`${text(value, what)}\0`));
  const array = Buffer.alloc(8 * Math.max(1, kept.length));
  kept.forEach((buffer, index) => array.writeBigUInt64LE(addressOf(buffer), 8 * index));
  return Object.assign(array, { kept });
}

/** Uses something of the library's, which is freed after that. */
export function freeing(kind, handle, use) {
  try {
    return use(handle);
  } finally {
    native[`${kind}_free`](handle);
  }
}

/** Something of the library's that is made, filled in and freed here. A bad value is what its check says at the end. */
export function making(kind, use, ...how) {
  const made = open(`${kind}_new`, ...how);
  const set = (what, ...values) => native[`${kind}_${what}`](made, ...values);
  return freeing(kind, made, () => use(made, set));
}
