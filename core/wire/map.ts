import { Packr, Unpackr } from "msgpackr";
import * as v from "valibot";
import { ProtocolError } from "../errors.ts";
import { printable } from "./bytes.ts";

/** MessagePack maps from outside: rare and small, and checked against a schema before they are used. */

/** Bytes of a schema's message that are shown. */
const MAX_REASON = 200;

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true });

/** What many maps have in them. */
export const number = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** A text of at most so many UTF-16 code units. */
export const text = (most: number) => v.pipe(v.string(), v.maxLength(most));
export const bytes = (length: number) =>
  v.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === length, `expected ${length} bytes`);

export function encodeMap<S extends v.GenericSchema>(_schema: S, value: v.InferInput<S>): Buffer {
  return packr.pack(value);
}

/**
 * Decodes a map and checks it. Throws a `ProtocolError` that names the field.
 * @param payload bounded by the caller: some extensions of MessagePack take a second a megabyte to decode
 * @param what begins the message, such as `A control frame`
 */
export function decodeMap<S extends v.GenericSchema>(schema: S, payload: Uint8Array, what: string): v.InferOutput<S> {
  // A map, and none of the library's extensions of MessagePack, which can stand for objects as well.
  const first = payload[0] ?? 0;
  if (first >> 4 !== 8 && first !== 0xde && first !== 0xdf) throw new ProtocolError(`${what} is not a MessagePack map`);
  let value: unknown;
  try {
    value = unpackr.unpack(payload);
  } catch (error) {
    throw new ProtocolError(`${what} is not valid MessagePack`, { cause: error });
  }
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  // The message quotes what came.
  const why = printable(Buffer.from(issue.message), MAX_REASON);
  throw new ProtocolError(`${what} has a bad ${v.getDotPath(issue) ?? "payload"}: ${why}`);
}
