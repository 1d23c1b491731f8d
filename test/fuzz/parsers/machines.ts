/** What hypervisors say: streams, NBD and QMP, of both ends. */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Guest } from "../../../core/machines/fake/guest.ts";
import { JsonSplitter } from "../../../core/machines/fake/json-stream.ts";
import { ReturnPath } from "../../../core/machines/fake/return-path.ts";
import { encodeState } from "../../../core/machines/fake/state.ts";
import { StreamReader } from "../../../core/machines/fake/stream-reader.ts";
import { describeDevices, StreamWriter } from "../../../core/machines/fake/stream-writer.ts";
import { MACHINE_TYPE } from "../../../core/machines/fake/vm-parts.ts";
import { openClient } from "../../../core/machines/nbd/client.ts";
import { describe } from "../../../core/machines/qemu/description.ts";
import { JsonLines } from "../../../core/machines/qemu/json-lines.ts";
import { QmpClient } from "../../../core/machines/qemu/qmp.ts";
import { readSettings } from "../../../core/machines/qemu/settings.ts";
import { migrationStatus } from "../../../core/machines/qemu/status.ts";
import { SECTION_END } from "../../../core/segment/qemu/format.ts";
import { segmentFormats } from "../../../core/segment/registry.ts";
import { spec } from "../../core/machines/fake/support.ts";
import { same, segment } from "../../core/segment/recorder.ts";
import { core } from "../../support/elf-core.ts";
import * as nbd from "../../support/nbd-server.ts";
import { createNbdWriter, NBD } from "../../support/nbd-writer.ts";
import { qemuStreamBytes } from "../../support/qemu-stream.ts";
import { type Artefact, type Damage, plain } from "../mutate.ts";
import { ofBytes, type Parser } from "../parser.ts";

/** Cuts at these lengths, in turn. */
const cutsOf = ({ which }: Damage) => [1 + (which % 97), 1 + ((which * 31) % 5000), 4096];

/** Segmenters take anything, and give back what they were given. */
function segmenter(format: string, artefacts: readonly Artefact[], runs = 150): Parser {
  return ofBytes(
    `segments of ${format}`,
    artefacts,
    (bytes, damage) => {
      const { which } = damage;
      const cuts = cutsOf(damage);
      const { bytes: out } = segment(segmentFormats.get(format)!.create(), bytes, cuts, (i) => which % (i + 2) === 0);
      if (!same(out, bytes)) throw new Error("a segmenter lost or changed bytes");
    },
    { codes: [], runs },
  );
}

const PAGE = 4096;
const filled = (letters: string) => Buffer.concat(Array.from(letters, (c) => Buffer.alloc(PAGE, c === "z" ? 0 : c)));
const streams = [
  { blocks: [{ name: "ram", length: 6 * PAGE }], rounds: 2, zeroShare: 0.3 },
  {
    blocks: [
      { name: "a", length: 3 * PAGE },
      { name: "b".repeat(250), length: 2 ** 33, firstPage: 9, pages: 3 },
    ],
  },
  { blocks: [{ name: "ram", length: 4 * PAGE }], postcopy: true, deviceBytes: 300, descriptionBytes: 300 },
].map((options, seed) => plain(qemuStreamBytes({ seed, ...options }), [8, 9, 40, 60]));
const mirror = createNbdWriter().negotiate().write(0n, filled("azb"));
mirror.write(5000n, filled("ab"), true).request({ command: NBD.READ, length: 2n ** 30n });
mirror.write(2n ** 63n - 8192n, filled("c")).request({ command: NBD.DISCONNECT });
const cores = [
  core(
    [
      { gap: 5, memory: filled("aza") },
      { gap: 0, memory: filled("b") },
    ],
    9,
  ).bytes,
];

const segmenters = [
  segmenter("qemu", streams, 250),
  segmenter("nbd", [plain(mirror.take(), [4, 20, 60, 88])], 150),
  segmenter(
    "elf",
    cores.map((bytes) => plain(bytes, [64, 120, 176, 232])),
    150,
  ),
  segmenter("raw", [plain(filled("azzb"))], 50),
];

const SPEC = spec("a?memory=1M&private=64K&zero=0.875");
function fakeStream(): Artefact {
  const guest = new Guest(SPEC, false);
  const writer = new StreamWriter(guest.memory);
  const parts: Buffer[] = [];
  const cut = () => parts.push(writer.take());
  writer.begin(MACHINE_TYPE);
  cut();
  writer.command(1);
  writer.command(2, Buffer.of(0, 0, 0, 9));
  cut();
  writer.blockList();
  cut();
  writer.beginRam(SECTION_END);
  for (let page = 0; page < guest.memory.pages; page++) {
    writer.page(page);
    if (page % 10 === 0 || writer.full) cut();
  }
  writer.endRam();
  cut();
  writer.state(encodeState(guest.state("paused")));
  cut();
  writer.end(describeDevices());
  cut();
  return { parts: parts.map((part) => Buffer.from(part)), join: (parts) => Buffer.concat(parts) };
}

const nothing = () => {};
const fakes = ofBytes(
  "streams of fake VMs",
  [fakeStream()],
  (bytes, damage) => {
    const guest = new Guest(SPEC, true);
    const told = { openReturnPath: nothing, ping: nothing, round: nothing, switchover: nothing, device: nothing };
    const reader = new StreamReader({ memory: guest.memory, machine: MACHINE_TYPE, ...told });
    const [size = 1] = cutsOf(damage);
    for (let at = 0; at < bytes.length; at += size * 50) reader.push(bytes.subarray(at, at + size * 50));
    if (!reader.state) return;
    guest.restore(reader.state);
    guest.check();
  },
  { runs: 200 },
);

const answers = ofBytes(
  "what a fake's destination says",
  [plain(Buffer.from("00020004000000010001000400000000", "hex"), [2, 4, 8, 10, 12])],
  (bytes) => {
    try {
      new ReturnPath().push(bytes);
    } catch (error) {
      // In QEMU's words: it fails the migration, and nothing more.
      if (!/unexpected message/.test((error as Error).message)) throw error;
    }
  },
  { codes: [], runs: 100 },
);

const reply = (value: unknown) => Buffer.from(`${JSON.stringify(value)}\r\n`);
const HELLO = { QMP: { version: { qemu: { major: 10, minor: 0, micro: 2 }, package: "" }, capabilities: ["oob"] } };
const ram = { transferred: 1, remaining: 2, total: 3, normal: 4, duplicate: 5, mbps: 1.5 };
const block = { "node-name": "n", ro: false, file: "/a", image: { "virtual-size": 1 } };
/** In the order of the commands below: to `qmp_capabilities`, of `migrationStatus`, `readSettings`, `describe`. */
const REPLIES = [
  {},
  { status: "active", ram, downtime: 1, "error-desc": "why" },
  [{ capability: "events", state: true }],
  { "max-bandwidth": 2, "tls-creds": "", announce: { a: [1] } },
  ...[
    { name: "web" },
    { UUID: "u" },
    { "base-memory": 4096 },
    [{ "qom-path": "/cpu" }],
    { enabled: false },
    "pc-machine",
  ],
  ...[
    { status: "running", running: true },
    [{ device: "d", inserted: block }],
    { "blocked-reasons": [] },
    "qemu64-cpu",
  ],
];
const conversation = [
  reply(HELLO),
  ...REPLIES.map((value, i) => reply({ return: value, id: i + 1 })),
  reply({ event: "STOP", data: { a: 1 }, timestamp: { seconds: 1, microseconds: 2 } }),
  reply({ error: { class: "GenericError", desc: "no\u001b[2J" }, id: 3 }),
];
const qmp: Artefact = { parts: conversation, join: (parts) => Buffer.concat(parts) };
const deep = plain(Buffer.from(`${'{"a":'.repeat(50_000)}\n`));

const lines = ofBytes(
  "lines of QMP",
  [qmp, deep],
  (bytes, damage) => {
    const lines = new JsonLines(100_000);
    const [size = 1] = cutsOf(damage);
    for (let at = 0; at < bytes.length; at += size) lines.push(bytes.subarray(at, at + size), nothing);
  },
  { runs: 300 },
);
const splits = ofBytes(
  "what a client of a fake's QMP sends",
  [qmp, deep],
  (bytes, damage) => {
    const splitter = new JsonSplitter();
    const [size = 1] = cutsOf(damage);
    let length = 0;
    for (let at = 0; at < bytes.length; at += size)
      for (const text of splitter.push(bytes.subarray(at, at + size)) ?? []) length += text.length;
    if (length > 3 * bytes.length) throw new Error("messages are longer than what came");
  },
  { codes: [], runs: 100 },
);

/** A server that says the first of these pieces, one more at each request, and goes when nobody asks. */
async function serve(path: string, said: () => readonly Buffer[], asked: Buffer): Promise<Server> {
  const server = createServer((socket: Socket) => {
    const pieces = [...said()];
    const next = () => (pieces.length === 0 ? socket.end() : socket.write(pieces.shift()!));
    const leave = () => socket.end(Buffer.concat(pieces.splice(0)));
    let idle = setTimeout(leave, IDLE_MS);
    next();
    socket.on("error", nothing).on("data", (bytes: Buffer) => {
      clearTimeout(idle);
      idle = setTimeout(leave, IDLE_MS);
      for (let at = bytes.indexOf(asked); at >= 0; at = bytes.indexOf(asked, at + asked.length)) next();
    });
    socket.on("close", () => clearTimeout(idle));
  });
  await once(server.listen(path), "listening");
  return server;
}
const IDLE_MS = 8;

/**
 * A parser of what a server says.
 * @param divide what is said first, and at each request
 * @param asked what each request has
 */
function ofServer(
  name: string,
  artefacts: readonly Artefact[],
  { divide, asked }: { readonly divide: (bytes: Buffer) => readonly Buffer[]; readonly asked: Buffer },
  read: (path: string) => Promise<unknown>,
  runs: number,
): Parser {
  let folder: string | undefined;
  let server: Server | undefined;
  let pieces: readonly Buffer[] = [];
  return ofBytes(
    name,
    artefacts,
    async (bytes) => {
      folder ??= mkdtempSync(join(tmpdir(), "fuzz-"));
      const path = join(folder, "s");
      pieces = divide(bytes);
      server ??= await serve(path, () => pieces, asked);
      await read(path);
    },
    {
      codes: ["integrity", "input", "link"],
      runs,
      close() {
        server?.close();
        if (folder) rmSync(folder, { recursive: true, force: true });
        server = folder = undefined;
      },
    },
  );
}

/** Lines, with their ends. */
function byLine(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(10, at);
    lines.push(bytes.subarray(at, end < 0 ? bytes.length : end + 1));
    at = end < 0 ? bytes.length : end + 1;
  }
  return lines;
}

const clients = ofServer(
  "a QEMU's QMP",
  [qmp],
  { divide: byLine, asked: Buffer.from("\n") },
  async (path) => {
    const qmp = await QmpClient.connect(path, { signal: AbortSignal.timeout(2000), timeout: 1000 });
    try {
      qmp.onEvent(nothing);
      const asked = await Promise.allSettled([migrationStatus(qmp), readSettings(qmp), describe(qmp)]);
      for (const one of asked) if (one.status === "rejected") throw one.reason;
    } finally {
      await qmp.close();
    }
  },
  150,
);

const DISK = filled("azb");
const size = DISK.length;
const request = (handle: number, length: number) => ({
  ...{ flags: 4, command: 0, handle: BigInt(handle), offset: 0, length },
});
const served: Artefact = {
  parts: [
    nbd.GREETING,
    nbd.optionReply(8, 1),
    nbd.optionReply(10, 4, Buffer.from("\0\0\0\x01base:allocation", "latin1")),
    nbd.optionReply(10, 1),
    nbd.exportInfo(size),
    nbd.optionReply(7, 1),
    nbd.extentChunk(1n, [
      [PAGE, 0],
      [2 * PAGE, 2],
    ]),
    nbd.dataChunk(request(2, size), DISK),
  ],
  join: (parts) => Buffer.concat(parts),
};
/** Where the negotiation ends, and the first reply. */
const GREETED = served.parts.slice(0, 6).reduce((sum, { length }) => sum + length, 0);
const TOLD = GREETED + served.parts[6]!.length;
const failing = {
  ...served,
  parts: [...served.parts.slice(0, 6), nbd.chunk(1n, 0x8001, nbd.errorPayload(5, "broken"))],
};

const disks = ofServer(
  "an NBD server",
  [served, failing],
  {
    divide: (bytes) => [bytes.subarray(0, GREETED), bytes.subarray(GREETED, TOLD), bytes.subarray(TOLD)],
    asked: Buffer.from("25609513", "hex"),
  },
  async (path) => {
    const socket = connect(path);
    await once(socket, "connect");
    const client = await openClient(socket, { path: "disk", handshakeMs: 1000 });
    try {
      const length = Math.min(client.size, size);
      if (length === 0) return;
      let covered = 0;
      for (const { length: each } of await client.extents(0, length)) covered += each;
      if (covered === 0) throw new Error("extents cover nothing");
      await client.read(new Uint8Array(length), 0);
    } finally {
      await client.close();
    }
  },
  200,
);

export const machineParsers: readonly Parser[] = [...segmenters, ...[fakes, answers, lines, splits, clients, disks]];
