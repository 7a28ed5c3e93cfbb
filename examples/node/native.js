// The shared library, through one of two FFI packages.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { isMainThread } from "node:worker_threads";

const require = createRequire(import.meta.url);
const ABI_VERSION = 0x000100;

/** An error of the library. `code` is its name (`"SBX_EINVALID"` ...), `errno` its number, `osError` an errno or 0. */
export class SbxError extends Error {
  constructor(message, errno, osError = 0) {
    super(message);
    this.name = "SbxError";
    this.code = CODES[-1001 - errno] ?? "SBX_EINTERNAL";
    this.errno = errno;
    this.osError = osError;
  }
}

export const CODES = (
  "EINVALID EHANDLE ESIZE ETIMEDOUT ECLOSED ESTATE EEXISTS ENOTFOUND EUNSUPPORTED ELIMIT EHOST ERUNSC_MISSING " +
  "ERUNSC_UNUSABLE EENGINE EFORKED EPANIC ESYSTEM EREFUSED EEXEC EINTERNAL"
)
  .split(" ")
  .map((name) => `SBX_${name}`);

/** What is wrong with an argument before the library sees it. */
export function invalid(message) {
  return new SbxError(message, -1001);
}

// The functions by what they take, a letter a parameter, and what they return if that isn't an int. The tests compare
// this, and the structs, with the header. h is a handle, & the address of a result, a struct or an array, e the error,
// s a text, v nothing; the others are integers.
export const FUNCTIONS = {
  ">u": "abi_version",
  ">h": "policy_new_open policy_new_allowlist policy_new_blocked config_new exec_config_new",
  "h>v":
    "queue_free policy_free config_free sandbox_free sandbox_list_free tunnel_map_free exec_config_free process_free",
  "h>s": "sandbox_id",
  h: "sandbox_state tunnel_map_count",
  he: "queue_open_fd config_check exec_config_check terminate sandbox_failure process_failure",
  hs:
    "policy_allow_cidr policy_deny_cidr policy_allow_domain config_set_workdir config_set_user config_set_name " +
    "config_set_rootfs config_add_tls_name exec_config_set_workdir exec_config_set_user",
  hss:
    "config_set_env config_set_secret config_mount_read_only config_mount_writable exec_config_set_env " +
    "exec_config_set_secret",
  hh: "config_set_policy",
  hhQ: "config_set_queue exec_config_set_queue",
  hq: "config_set_timeout_ms config_set_idle_timeout_ms exec_config_set_timeout_ms",
  hQ: "config_set_memory config_set_disk",
  hi: "config_set_limit_mode",
  hu:
    "config_add_encrypted_port config_add_h2_port config_add_unencrypted_port tunnel_map_port config_set_cpu " +
    "config_set_max_processes config_set_max_open_files",
  huu: "exec_config_set_pty",
  huue: "process_resize",
  "hu>s": "tunnel_map_host tunnel_map_url tunnel_map_ca_pem tunnel_map_spki_sha256",
  huq: "config_set_tcp_probe",
  hii: "config_set_stream exec_config_set_stream",
  hie: "signal sandbox_open_fd process_signal process_open_fd",
  hiqe: "stop",
  hz: "tunnel_map_container_port",
  "h&z": "config_set_command exec_config_set_command config_set_inbound_cidr_allowlist",
  "h&zq": "config_set_exec_probe",
  "u&e": "queue_new",
  "h&e": "runtime_sandboxes queue_next",
  "hh&e": "create_begin exec_begin",
  hqe: "wait_ready",
  "hq&e": "tunnels",
};

// The structs, as their fields' kinds and names; a number is an array of that many bytes.
export const STRUCTS = {
  error: "u size, i code, i os_error, u reserved, 496 message",
  event:
    "u size, u kind, Q cookie, Q sequence, q time_ms, Q lost, i code, i reason, i rule, u protocol, u port, u count, " +
    "64 address, 280 detail",
};

/** The places of a struct's fields: kind, offset and size by name, and the size of it all. */
export function layout(struct) {
  const fields = {};
  let size = 0;
  for (const [kind, name] of STRUCTS[struct].split(", ").map((field) => field.split(" "))) {
    const bytes = { u: 4, i: 4, q: 8, Q: 8 }[kind] ?? Number(kind);
    fields[name] = { kind, offset: size, bytes };
    size += bytes;
  }
  return { fields, size };
}

const LAYOUTS = Object.fromEntries(Object.keys(STRUCTS).map((struct) => [struct, layout(struct)]));

/** A struct of zeroes that knows its size. */
export function make(struct) {
  const memory = Buffer.alloc(LAYOUTS[struct].size);
  memory.writeUInt32LE(memory.length, 0);
  return memory;
}

/** A field of a struct. Numbers fit a double: they are counts, times and our own cookies. */
export function read(struct, memory, name) {
  const { kind, offset, bytes } = LAYOUTS[struct].fields[name];
  if (kind === "u") return memory.readUInt32LE(offset);
  if (kind === "i") return memory.readInt32LE(offset);
  if (kind === "q") return Number(memory.readBigInt64LE(offset));
  if (kind === "Q") return Number(memory.readBigUInt64LE(offset));
  const text = memory.subarray(offset, offset + bytes);
  return text.toString("utf8", 0, text.indexOf(0));
}

// Each back end opens a library and gives a function for a name, and the address of a buffer. Handles are passed as
// integers: they are addresses, but nothing of ours to look into.
const BACK_ENDS = {
  koffi(path) {
    const koffi = require("koffi");
    const library = koffi.load(path);
    const types = { h: "uint64_t", "&": "void *", e: "void *", s: "const char *", i: "int", u: "uint32_t" };
    Object.assign(types, { q: "int64_t", Q: "uint64_t", z: "size_t", v: "void" });
    return {
      bind: (name, result, parameters) => library.func(name, types[result], parameters.map((kind) => types[kind])),
      address: (buffer) => koffi.address(buffer),
      elsewhere: true,
    };
  },
  "@2060.io/ffi-napi"(path) {
    const ffi = require("@2060.io/ffi-napi");
    const ref = require("@2060.io/ref-napi");
    const library = ffi.DynamicLibrary(path, ffi.DynamicLibrary.FLAGS.RTLD_NOW);
    const types = { h: "uint64", "&": "pointer", e: "pointer", s: "string", i: "int", u: "uint32" };
    Object.assign(types, { q: "int64", Q: "uint64", z: "size_t", v: "void" });
    return {
      bind: (name, result, parameters) =>
        ffi.ForeignFunction(library.get(name), types[result], parameters.map((kind) => types[kind])),
      address: (buffer) => BigInt(ref.address(buffer)),
      // A call that is under way when its worker is stopped aborts the whole process: "Napi::Error".
      elsewhere: isMainThread,
    };
  },
};

/** The first back end that is installed, or the one that SBX_FFI names. */
function backEnd() {
  const names = process.env.SBX_FFI ? [process.env.SBX_FFI] : Object.keys(BACK_ENDS);
  for (const name of names) {
    try {
      require.resolve(name);
      return name;
    } catch {
      // the next one
    }
  }
  throw new Error(`no FFI package: npm install koffi (or @2060.io/ffi-napi). Looked for ${names.join(", ")}`);
}

/**
 * The library: what SBX_LIBRARY names and nothing else if that is set; else beside this file, in the build's directories
 * of this checkout, and where the system looks.
 */
function load() {
  const named = process.env.SBX_LIBRARY;
  const here = (path) => fileURLToPath(new URL(path, import.meta.url));
  const build = process.env.CARGO_TARGET_DIR || here("../../target");
  const beside = [here("libsbx.so"), `${build}/release/libsbx.so`, `${build}/debug/libsbx.so`];
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
  throw new Error(
    "libsbx was not found. Build it (cargo build --release), put libsbx.so beside native.js, install it, or name it " +
      `in SBX_LIBRARY. Tried: ${tried.join("; ")}`,
  );
}

const library = load();

/** The library's functions, without `sbx_`. */
export const native = {};
for (const [kinds, names] of Object.entries(FUNCTIONS)) {
  const [parameters, result = "i"] = kinds.split(">");
  for (const name of names.split(" ")) native[name] = library.bind(`sbx_${name}`, result, [...parameters]);
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

/** The same on a thread of libuv's pool, where the back end can. Whatever is passed must last until then. */
export async function callElsewhere(name, ...parameters) {
  if (!library.elsewhere) return call(name, ...parameters);
  const error = make("error");
  return new Promise((resolve, reject) => {
    native[name].async(...parameters, error, (failed, result) => {
      if (failed) reject(failed);
      else if (result < 0) reject(failure(name, result, error));
      else resolve(result);
    });
  });
}

/** Calls a function whose last parameters are a handle's place and the error, and gives that handle. */
export function open(name, ...parameters) {
  const place = Buffer.alloc(8);
  call(name, ...parameters, place);
  return Number(place.readBigUInt64LE());
}

/** A text as C takes it. */
export function text(value, what) {
  if (typeof value !== "string") throw invalid(`${what}: ${typeof value} where a string is needed`);
  if (value.includes("\0")) throw invalid(`${what} contains a NUL character`);
  if (!value.isWellFormed()) throw invalid(`${what} is not valid Unicode`);
  return value;
}

/** An array of texts as C takes it. Its memory lasts as long as the texts do, which come along. */
export function texts(values, what) {
  if (!Array.isArray(values)) throw invalid(`${what} must be an array of strings`);
  const kept = values.map((value) => Buffer.from(`${text(value, what)}\0`));
  const array = Buffer.alloc(8 * Math.max(1, kept.length));
  kept.forEach((buffer, index) => array.writeBigUInt64LE(library.address(buffer), 8 * index));
  return Object.assign(array, { kept });
}
