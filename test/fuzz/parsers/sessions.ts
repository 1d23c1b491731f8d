/** Whole sessions: recordings, and peers of either role that begin well and go wrong. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { reconnect } from "../../../core/engine/reconnect.ts";
import { ResumableSessions } from "../../../core/engine/resumable.ts";
import { type ErrorCode, LinkError, ShrinkerError } from "../../../core/errors.ts";
import { decodeFuseFilter } from "../../../core/index/fuse-filter.ts";
import { decodeControl, encodeControl, encodeCredit, Hello, Resume } from "../../../core/wire/control.ts";
import { FRAME } from "../../../core/wire/numbers.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { noise, text } from "../../core/engine/contents.ts";
import { HandPeer, joinFrames } from "../../core/engine/wire.ts";
import * as fixtures from "../../fixtures/frames.ts";
import { memoryTarget, type Receiving, receive, record, replay, send, source } from "../../support/session.ts";
import { damage, harm, plain } from "../mutate.ts";
import { ofBytes, parser } from "../parser.ts";
import { framesArtefact } from "./wire.ts";

const recording = (name: string) => readFileSync(new URL(`../../fixtures/wire-v1/${name}.bin`, import.meta.url));
const times = { handshake: 300, ping: 1000, dead: 2000, farewell: 20 };
/** A peer may end a session for whatever reason it gives. */
const told: readonly ErrorCode[] = ["integrity", "link", "refused", "input", "exists", "space", "cancelled", "partial"];
const PAGES = [noise(1), text(1), noise(1), Buffer.alloc(4096), noise(2)];
const receiving: Receiving = { domain: undefined, times };

const small = await record([source("disk", "raw", PAGES), source("memory", "bytes", [Buffer.from("hello")])]);

/** What landed and is called as what was sent has to be it. */
async function replays(bytes: Buffer): Promise<void> {
  const files = memoryTarget();
  await replay(bytes, files, receiving).finally(() => {
    for (const { info, ends, bytes } of files.all) {
      if (ends.length !== 1) throw new Error(`a sink was ended ${ends.length} times`);
      if (info.name === "disk" && ends[0] === "commit" && Buffer.compare(bytes, Buffer.concat(PAGES)) !== 0)
        if (bytes.length >= 4096) throw new Error("the disk landed wrong");
    }
  });
}
const recordings = ofBytes(
  "bundles",
  [small, ...["example", "operations-none", "operations-zstd", "operations-lz4"].map(recording)].map(framesArtefact),
  replays,
  { codes: ["integrity", "refused", "link", "input", "cancelled"], runs: 150 },
);

/** Says all of it, and goes. */
async function say(bytes: Buffer, connection: ReturnType<typeof memoryPair>[0]): Promise<void> {
  try {
    await connection.write([bytes]);
    await connection.end();
    for await (const _ of connection.input);
  } catch {}
}

const greeting = joinFrames([
  { type: FRAME.HELLO, payload: encodeControl(Hello, { ...hello(), returns: { window: 20, log: 100 } }) },
  { type: FRAME.SUMMARIZE, payload: Buffer.from("81a46269747308", "hex") },
  { type: FRAME.TELL, payload: Buffer.from("word") },
]);
function hello() {
  return {
    session: fixtures.SESSION,
    domain: "test",
    window: 20,
    log: 1000,
    software: "x",
    resume: Buffer.alloc(32, 5),
  };
}

const destinations = ofBytes(
  "sources' frames",
  [greeting, small, ...["source", "site-source", "returns-source", "resume-source"].map(recording)].map(framesArtefact),
  async (bytes) => {
    const [near, far] = memoryPair();
    const saying = say(bytes, near);
    try {
      await receive(far, memoryTarget(), receiving);
    } finally {
      await near.destroy();
      await saying;
    }
  },
  { codes: told, runs: 150 },
);

/** The session's number is the source's choice; it takes the place of this one. */
let session: Uint8Array = fixtures.SESSION;
const answers: Buffer[] = [
  ...["destination", "site-destination", "returns-destination"].map(recording),
  joinFrames([
    { type: FRAME.WELCOME, payload: fixtures.encodeFrames(fixtures.DESTINATION.slice(0, 1)).subarray(36) },
    { type: FRAME.CREDIT, payload: encodeCredit(1, 2 ** 30) },
    { type: FRAME.LANDED, payload: Buffer.from("81a673747265616d01", "hex") },
    { type: FRAME.DONE, payload: Buffer.from("81a773747265616d7301", "hex") },
  ]),
];
/** LANDED and DONE are due only once the source has said that it is done. */
const LAST_WORDS = 2 * 20 + 9 + 10;
const answered = answers.map((bytes) => {
  const { parts, join } = framesArtefact(bytes);
  const renamed = (part: Buffer) => {
    const at = part.indexOf(fixtures.SESSION);
    return at < 0 ? part : Buffer.concat([part.subarray(0, at), session, part.subarray(at + session.length)]);
  };
  return { parts, join: (parts: readonly Buffer[]) => join(parts.map(renamed)) };
});

const sources = parser(
  "destinations' frames",
  damage,
  async (one) => {
    const [near, far] = memoryPair();
    const peer = new HandPeer(far);
    const sending = send(near, [source("disk", "raw", PAGES)], {
      ...{ times, windowLog: 27, returns: { window: 27, log: 1000 }, target: memoryTarget() },
      memory: {
        async meet(_site, _session, pull) {
          decodeFuseFilter(await pull(16));
          return { past: undefined, index: undefined, keepers: [], close: async () => {} };
        },
      },
    });
    try {
      const got = await Promise.race([peer.expect(FRAME.HELLO), sending]);
      if ("payload" in got) ({ session } = decodeControl(Hello, got.payload));
      const bytes = harm(answered, one);
      const last = Math.max(0, bytes.length - LAST_WORDS);
      await far.write([bytes.subarray(0, last)]).catch(() => {});
      await Promise.race([peer.expect(FRAME.DONE), sending, sleep(15)]).catch(() => {});
      await far.write([bytes.subarray(last)]).catch(() => {});
      await far.end().catch(() => {});
      const { outcomes } = await sending;
      const failed = outcomes.find(({ error }) => error)?.error;
      if (failed) throw failed;
    } finally {
      await far.destroy();
      await sending.catch(() => {});
      await peer.ended;
    }
  },
  { codes: told, runs: 150 },
);

const resume = fixtures.RESUME_SOURCE_AGAIN.flatMap((frame) =>
  "schema" in frame ? [encodeControl(frame.schema, frame.value as never)] : [],
);
const { secret } = decodeControl(Resume, resume[0]!);
const resumes = ofBytes(
  "RESUME",
  resume.map((payload) => plain(payload)),
  (payload) => {
    const sessions = new ResumableSessions();
    sessions.register({ session: fixtures.SESSION, secret });
    try {
      sessions.resume(payload, () => {
        throw new Error("a session that has not begun took a connection");
      });
    } catch (error) {
      // That session is known, and the secret is right.
      if (!(error instanceof LinkError)) throw error;
    }
  },
  { codes: ["integrity", "refused"], runs: 200 },
);

const resumed = ofBytes(
  "RESUMED",
  ["resume-destination-again", "destination"].map(recording).map(framesArtefact),
  async (bytes) => {
    const [near, far] = memoryPair();
    const saying = say(bytes, far);
    let dialled = 0;
    const { channel } = await reconnect({
      redial: async () => {
        if (dialled++ > 0) throw new ShrinkerError("refused", "once is enough");
        return near;
      },
      ticket: { session: fixtures.SESSION, secret },
      ...{ received: 0, attemptMs: 300, backOff: [0], signal: new AbortController().signal },
      outage: { since: 0, spent: 0, reason: new Error("it broke"), attempts: 0 },
    }).finally(() => near.destroy());
    await channel.connection.destroy();
    await saying;
  },
  { codes: told, runs: 150 },
);

export const sessionParsers = [recordings, destinations, sources, resumes, resumed];
