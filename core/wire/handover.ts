import * as v from "valibot";
import { ERROR_CODES } from "../errors.ts";
import { bytes, decodeMap, encodeMap, number, text } from "./map.ts";

/**
 * What the movers of machines at both ends say to each other, in TELL frames (docs/wire-format.md, "Hand-over"): MessagePack
 * maps, each about one migration.
 */

const name = v.pipe(text(256), v.nonEmpty());
const version = v.object({ major: number, minor: number, micro: number });

/** What has to be alike at both ends, or nearly. */
const machine = v.object({
  machine: text(1024),
  ramBytes: number,
  vcpus: number,
  cpuModel: v.optional(text(1024)),
  accelerator: v.picklist(["kvm", "tcg"]),
  qemu: version,
});

const migration = bytes(16);
const why = { code: v.picklist(ERROR_CODES), message: text(2000) };

/** How far a migration is at the destination; `unknown` is one that it has no record of. */
const ARRIVAL_STATES = ["unknown", "prepared", "loaded", "taken", "lost"] as const;

const FromSource = v.variant("type", [
  v.object({
    type: v.literal("prepare"),
    migration,
    name,
    machine,
    /** Whether the guest is to stay paused once it is there. */
    paused: v.boolean(),
    /** Whether the guest may go on before all of its memory is there. */
    postcopy: v.optional(v.boolean()),
  }),
  v.object({ type: v.literal("cancel"), migration, ...why }),
  v.object({ type: v.literal("go"), migration }),
  v.object({ type: v.literal("settle"), migration }),
  v.object({ type: v.literal("recover"), migration }),
  v.object({ type: v.literal("confirm"), migration }),
]);

const FromDestination = v.variant("type", [
  v.object({ type: v.literal("prepared"), migration }),
  v.object({ type: v.literal("whole"), migration }),
  v.object({ type: v.literal("refused"), migration, ...why }),
  v.object({ type: v.literal("loaded"), migration }),
  v.object({ type: v.literal("failed"), migration, ...why }),
  v.object({ type: v.literal("cancelled"), migration }),
  v.object({ type: v.literal("settled"), migration, state: v.picklist(ARRIVAL_STATES) }),
  v.object({ type: v.literal("running"), migration }),
]);

const Word = v.union([FromSource, FromDestination]);

/** What a source says, and what a destination does. */
export type SourceWord = v.InferOutput<typeof FromSource>;
export type DestinationWord = v.InferOutput<typeof FromDestination>;
export type Word = SourceWord | DestinationWord;
export type WordOf<T extends Word["type"]> = Extract<Word, { type: T }>;
export type MachineFacts = WordOf<"prepare">["machine"];
export type ArrivalState = (typeof ARRIVAL_STATES)[number];

export function encodeWord(word: Word): Buffer {
  return encodeMap(Word, word);
}

/** Throws a `ProtocolError` for what a source has no reason to say. */
export function decodeSourceWord(payload: Uint8Array): SourceWord {
  return decodeMap(FromSource, payload, "A word of a hand-over");
}

/** Throws a `ProtocolError` for what a destination has no reason to say. */
export function decodeDestinationWord(payload: Uint8Array): DestinationWord {
  return decodeMap(FromDestination, payload, "A word of a hand-over");
}

/** A migration's number in hexadecimal, as its journals have it. */
export function migrationId(migration: Uint8Array): string {
  return Buffer.from(migration).toString("hex");
}

/** The service that a machine's connections are for: `vm:` and the migration's id. */
export function machineService(migration: Uint8Array): string {
  return `vm:${migrationId(migration)}`;
}
