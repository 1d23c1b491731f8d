/** Frames, control frames, words of the hand-over. */
import { readdirSync, readFileSync } from "node:fs";
import { crc32 } from "node:zlib";
import { pack } from "msgpackr";
import { ProtocolError } from "../../../core/errors.ts";
import * as control from "../../../core/wire/control.ts";
import { FrameReader, preface } from "../../../core/wire/frame.ts";
import { decodeDestinationWord, decodeSourceWord, encodeWord } from "../../../core/wire/handover.ts";
import { splitFrames } from "../../core/engine/wire.ts";
import * as fixtures from "../../fixtures/frames.ts";
import { type Artefact, plain } from "../mutate.ts";
import { ofBytes } from "../parser.ts";

/** Of each frame: the first 12 bytes of its header, and its payload. Both checksums are right in the end. */
export function framesArtefact(recording: Buffer): Artefact {
  return {
    parts: splitFrames(recording).flatMap(({ start, payload }) => [
      recording.subarray(start, start + 12),
      Buffer.from(payload),
    ]),
    join(parts) {
      const whole: Buffer[] = [preface()];
      for (let i = 0; i < parts.length; i += 2) {
        const payload = parts[i + 1] ?? Buffer.alloc(0);
        const header = Buffer.alloc(20);
        parts[i]!.copy(header, 0, 0, 12);
        // Where the length is not what is lied about, it follows what has become of the payload.
        if (i % 4 === 0) header.writeUInt32LE(payload.length, 0);
        header.writeUInt32LE(crc32(payload), 12);
        header.writeUInt32LE(crc32(header.subarray(0, 16)), 16);
        whole.push(header, payload);
      }
      return Buffer.concat(whole);
    },
  };
}

const folder = new URL("../../fixtures/wire-v1/", import.meta.url);
const recordings = readdirSync(folder).map((name) => readFileSync(new URL(name, folder)));

async function* inPieces(bytes: Buffer, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

const frames = ofBytes(
  "frames",
  recordings.map(framesArtefact),
  async (bytes, { which, inside }) => {
    const reader = new FrameReader(inPieces(bytes, 1 + ((which * 7919) % 3000)), "it", inside.length > 1);
    await reader.preface();
    while (await reader.next());
  },
  { codes: ["integrity", "link", "refused"], runs: 400 },
);

const encoded = [
  ...[fixtures.SOURCE, fixtures.DESTINATION, fixtures.SITE_SOURCE, fixtures.SITE_DESTINATION],
  ...[fixtures.RETURNS_SOURCE, fixtures.RESUME_SOURCE, fixtures.RESUME_SOURCE_AGAIN, fixtures.RESUME_DESTINATION_AGAIN],
]
  .flat()
  .map((frame) => ("payload" in frame ? frame.payload : control.encodeControl(frame.schema, frame.value as never)));

const SCHEMAS = [
  ...[control.Hello, control.Welcome, control.Resume, control.Resumed, control.Summarize, control.Open],
  ...[control.Close, control.Reset, control.Landed, control.Abort, control.Done],
];
const READERS: readonly ((payload: Buffer) => unknown)[] = [
  ...SCHEMAS.map((schema) => (payload: Buffer) => control.decodeControl(schema, payload)),
  control.decodeCredit,
  control.decodeNumber,
  control.decodeContent,
  (payload) => control.decodeSummaryPiece(payload, 7),
];

/** What a decoder of MessagePack could be made to spend: counts and lengths of what doesn't follow, deep nests, its extensions. */
const bombs = [
  Buffer.concat([Buffer.of(0x81, 0xa1, 0x61), ...new Array(20_000).fill(Buffer.from("dcea60", "hex"))]),
  Buffer.concat([
    Buffer.of(0x81, 0xa1, 0x61),
    ...new Array(900).fill(Buffer.from("dcea60", "hex")),
    Buffer.alloc(60_000),
  ]),
  Buffer.concat([Buffer.of(0xdf, 0xff, 0xff, 0xff, 0xff), Buffer.alloc(60_000, 0x01)]),
  Buffer.concat([Buffer.of(0x81, 0xa1, 0x61, 0xc6, 0x7f, 0xff, 0xff, 0xff), Buffer.alloc(100)]),
  Buffer.concat([Buffer.of(0x81, 0xa1, 0x61, 0xdb, 0x7f, 0xff, 0xff, 0xff), Buffer.alloc(100)]),
  Buffer.concat([Buffer.of(0x81, 0xa1, 0x61), Buffer.alloc(65_000, 0x91)]),
  Buffer.alloc(65_000, Buffer.from("81a161", "hex")),
  ...[0x65, 0x69, 0x70, 0x72, 0x73, 0x74, 0x78, 0x62, 0xff].map((extension) =>
    Buffer.concat([Buffer.of(0x81, 0xa1, 0x61, 0xc8, 0xff, 0x00, extension), Buffer.alloc(0xff00, 0x91)]),
  ),
  pack(JSON.parse(`{"__proto__": {"stream": 1}, "constructor": 1, "stream": 2, "code": "input", "message": "x"}`)),
];

const controls = ofBytes(
  "control frames",
  [...encoded, ...bombs].map((payload) => plain(payload)),
  (payload) => {
    let refusal: unknown;
    let taken = 0;
    for (const read of READERS) {
      try {
        read(payload);
        taken++;
      } catch (error) {
        refusal = error;
        if (!(error instanceof ProtocolError)) throw error;
      }
    }
    if (({} as { stream?: unknown }).stream !== undefined) throw new Error("prototypes were changed");
    if (taken === 0) throw refusal;
  },
  { runs: 500 },
);

const migration = Buffer.alloc(16, 3);
const machine = {
  machine: "pc-i440fx-10.0",
  ramBytes: 2 ** 30,
  vcpus: 2,
  accelerator: "tcg",
  qemu: { major: 10, minor: 0, micro: 2 },
} as const;
const words = [
  encodeWord({ type: "prepare", migration, name: "web", machine, paused: false, postcopy: true }),
  encodeWord({ type: "cancel", migration, code: "input", message: "because" }),
  encodeWord({ type: "settled", migration, state: "loaded" }),
  encodeWord({ type: "failed", migration, code: "integrity", message: "it is broken" }),
  encodeWord({ type: "running", migration }),
];

const handover = ofBytes(
  "words of a hand-over",
  [...words, ...bombs].map((payload) => plain(payload)),
  (payload, { which }) => (which & 1 ? decodeSourceWord : decodeDestinationWord)(payload),
  { runs: 500 },
);

export const wireParsers = [frames, controls, handover];
