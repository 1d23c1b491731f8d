/** An NBD server for tests, in this process: right where it isn't told otherwise. It shares no code with the client. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const READ = 0;
export const DISCONNECT = 2;
export const STATUS = 7;

export interface NbdRequest {
  readonly flags: number;
  readonly command: number;
  readonly handle: bigint;
  readonly offset: number;
  readonly length: number;
}

export interface FakeDisk {
  readonly bytes: Uint8Array;
  /** What block status says of the disk, in order: lengths and flags (2: reads as zeros). All bytes unless given. */
  readonly extents?: readonly (readonly [number, number])[];
}

export interface FakeOptions extends FakeDisk {
  /** Lengths in which the server writes, in turn. */
  readonly split?: readonly number[];
  /** Ends the connection once it has written as many bytes. */
  readonly limit?: number;
  /** Answers those requests first that came last. */
  readonly backwards?: boolean;
  /** Replaces what is said first; what replies to an option or a request; undefined: what is right; null: nothing; "end": goodbye. */
  readonly greeting?: Buffer;
  readonly option?: (option: number, data: Buffer) => Answer;
  readonly request?: (request: NbdRequest) => Answer;
}
export type Answer = Buffer | undefined | null | "end";

export interface FakeServer extends AsyncDisposable {
  readonly path: string;
  readonly requests: readonly NbdRequest[];
  /** Connections that are open. */
  readonly connected: number;
}

const u16 = (value: number) => Buffer.from([value >> 8, value & 255]);
const u32 = (value: number) => Buffer.from([value >>> 24, (value >> 16) & 255, (value >> 8) & 255, value & 255]);
export const u64 = (value: number | bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
export { u16, u32 };

export const GREETING = Buffer.concat([Buffer.from("NBDMAGICIHAVEOPT"), u16(3)]);
export const optionReply = (option: number, type: number, data: Buffer = Buffer.alloc(0), length = data.length) =>
  Buffer.concat([u64(0x3e889045565a9n), u32(option), u32(type), u32(length), data]);
export const exportInfo = (size: number | bigint, flags = 0x83) =>
  optionReply(7, 3, Buffer.concat([u16(0), u64(size), u16(flags)]));
export const chunk = (handle: bigint, type: number, payload: Buffer, done = true, length = payload.length) =>
  Buffer.concat([u32(0x668e33ef), u16(done ? 1 : 0), u16(type), u64(handle), u32(length), payload]);
export const simple = (handle: bigint, error: number) => Buffer.concat([u32(0x67446698), u32(error), u64(handle)]);
export const errorPayload = (error: number, text: string) =>
  Buffer.concat([u32(error), u16(Buffer.byteLength(text)), Buffer.from(text)]);
export const dataChunk = ({ handle, offset, length }: NbdRequest, bytes: Uint8Array) =>
  chunk(handle, 1, Buffer.concat([u64(offset), bytes.subarray(offset, offset + length)]));
export const extentChunk = (handle: bigint, extents: readonly (readonly [number, number])[], context = 1) =>
  chunk(handle, 5, Buffer.concat([u32(context), ...extents.flat().map(u32)]));

/** What block status says of a part of the disk. */
function extentsOf({ bytes, extents = [[bytes.length, 0]] }: FakeDisk, { offset, length }: NbdRequest) {
  const found: [number, number][] = [];
  let at = 0;
  for (const [size, flags] of extents) {
    const from = Math.max(at, offset);
    at += size;
    const to = Math.min(at, offset + length);
    if (to > from) found.push([to - from, flags]);
  }
  return found;
}

function optionAnswer({ bytes }: FakeDisk, option: number): Buffer {
  if (option === 8) return optionReply(8, 1);
  if (option === 10)
    return Buffer.concat([optionReply(10, 4, Buffer.from("\0\0\0\x01base:allocation", "latin1")), optionReply(10, 1)]);
  if (option === 7) return Buffer.concat([exportInfo(bytes.length), optionReply(7, 1)]);
  return optionReply(option, 2 ** 31 + 1);
}

function requestAnswer(disk: FakeDisk, request: NbdRequest): Answer {
  if (request.command === DISCONNECT) return "end";
  if (request.offset + request.length > disk.bytes.length) return chunk(request.handle, 0x8001, errorPayload(22, ""));
  return request.command === READ
    ? dataChunk(request, disk.bytes)
    : extentChunk(request.handle, extentsOf(disk, request));
}

/** Serves one connection. */
function serve(socket: Socket, options: FakeOptions, requests: NbdRequest[]): void {
  let input = Buffer.alloc(0);
  let greeted = false;
  let transmitting = false;
  let writes = 0;
  let written = 0;
  let writing: Promise<void> = Promise.resolve();

  async function write(bytes: Uint8Array): Promise<void> {
    const { split = [bytes.length], limit = Number.POSITIVE_INFINITY } = options;
    for (let at = 0; at < bytes.length && socket.writable; ) {
      const length = Math.min(split[writes++ % split.length]!, bytes.length - at, limit - written);
      socket.write(bytes.subarray(at, at + length));
      at += length;
      written += length;
      if (written === limit) socket.end();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const say = (answer: Answer) => {
    if (answer === "end") writing = writing.then(() => void socket.end());
    else if (answer) writing = writing.then(() => write(answer));
  };

  function takeOption(): boolean {
    if (!greeted) {
      if (input.length < 4) return false;
      greeted = true;
      input = input.subarray(4);
    }
    if (input.length < 16 || input.length < 16 + input.readUInt32BE(12)) return false;
    const option = input.readUInt32BE(8);
    const data = input.subarray(16, 16 + input.readUInt32BE(12));
    input = input.subarray(16 + data.length);
    const answer = options.option?.(option, data);
    say(answer === undefined ? optionAnswer(options, option) : answer);
    transmitting = option === 7;
    return true;
  }

  function takeRequests(): void {
    const came: NbdRequest[] = [];
    for (; input.length >= 28; input = input.subarray(28)) {
      came.push({
        flags: input.readUInt16BE(4),
        command: input.readUInt16BE(6),
        handle: input.readBigUInt64BE(8),
        offset: Number(input.readBigUInt64BE(16)),
        length: input.readUInt32BE(24),
      });
    }
    requests.push(...came);
    for (const request of options.backwards ? came.reverse() : came) {
      const answer = options.request?.(request);
      say(answer === undefined ? requestAnswer(options, request) : answer);
    }
  }

  socket.on("error", () => {});
  socket.on("data", (piece: Buffer) => {
    input = Buffer.concat([input, piece]);
    while (!transmitting && takeOption());
    if (transmitting) takeRequests();
  });
  say(options.greeting ?? GREETING);
}

/** Listens at `path`, or in a folder of its own that goes with it. */
export async function startNbdServer(options: FakeOptions, path?: string): Promise<FakeServer> {
  const folder = path === undefined ? mkdtempSync(join(tmpdir(), "nbd-")) : undefined;
  const address = path ?? join(folder!, "socket");
  const requests: NbdRequest[] = [];
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("end", () => socket.end());
    serve(socket, options, requests);
  });
  await new Promise<void>((resolve) => server.listen(address, resolve));
  return {
    path: address,
    requests,
    get connected() {
      return sockets.size;
    },
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
      if (folder) rmSync(folder, { recursive: true, force: true });
    },
  };
}
