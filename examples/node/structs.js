// The header's structs as buffers.

import { NUMBERS, STRUCTS } from "./abi.js";

/** The places of a struct's fields: kind, offset and size by name, and the size of it all. */
export function layout(struct) {
  const fields = {};
  let size = 0;
  for (const [kind, name] of STRUCTS[struct].split(", ").map((field) => field.split(" "))) {
    const [, length, letter] = /^(\d*)(\D?)$/.exec(kind);
    const bytes = ({ u: 4, i: 4, q: 8, Q: 8, z: 8, s: 8, b: 8 }[letter] ?? 1) * Number(length || 1);
    fields[name] = { kind, letter, length, offset: size, bytes };
    size += bytes;
  }
  return { fields, size };
}

const LAYOUTS = Object.fromEntries(Object.keys(STRUCTS).map((struct) => [struct, layout(struct)]));

const camel = (name) => name.toLowerCase().replace(/_(\w)/g, (_, letter) => letter.toUpperCase());

/** The names, as JavaScript has them, of the header's numbers that begin so. */
export function namesOf(start) {
  const names = Object.entries(NUMBERS).filter(([name]) => name.startsWith(start));
  return Object.fromEntries(names.map(([name, number]) => [number, camel(name.slice(start.length))]));
}

/** A struct of zeroes that knows its size. */
export function make(struct) {
  const memory = Buffer.alloc(LAYOUTS[struct].size);
  memory.writeUInt32LE(memory.length, 0);
  return memory;
}

const READERS = { u: "readUInt32LE", i: "readInt32LE", q: "readBigInt64LE", Q: "readBigUInt64LE", z: "readBigUInt64LE" };
Object.assign(READERS, { s: "readBigUInt64LE", b: "readBigUInt64LE" });

/** A field of a struct. Numbers fit a double: they are counts, times, our own cookies, and addresses of texts and bytes. */
export function read(struct, memory, name) {
  const { letter, length, offset, bytes } = LAYOUTS[struct].fields[name];
  const number = (at) => Number(memory[READERS[letter]](at));
  if (letter in READERS && !length) return number(offset);
  if (letter in READERS) return Array.from({ length }, (_, index) => number(offset + (index * bytes) / length));
  const text = memory.subarray(offset, offset + bytes);
  return text.toString("utf8", 0, text.indexOf(0));
}

/** All fields of a struct but its size and what is reserved, under names as JavaScript has them. */
export function readAll(struct, memory) {
  const names = Object.keys(LAYOUTS[struct].fields).filter((name) => !["size", "reserved"].includes(name));
  return Object.fromEntries(names.map((name) => [camel(name), read(struct, memory, name)]));
}

/** Whether a field of a struct, under its name as JavaScript has it, is the address of a text. */
export const isText = (struct, field) =>
  Object.entries(LAYOUTS[struct].fields).some(([name, { kind }]) => kind === "s" && camel(name) === field);

/** Sets a field of a struct; a text by its address. */
export function write(struct, memory, name, value) {
  const { kind, offset } = LAYOUTS[struct].fields[name];
  if (kind === "u") memory.writeUInt32LE(value, offset);
  else if (kind === "i") memory.writeInt32LE(value, offset);
  else memory.writeBigUInt64LE(BigInt(value), offset);
}
