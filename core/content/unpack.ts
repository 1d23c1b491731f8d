import { createZstdDecompress } from "node:zlib";

/**
 * What the classes of node:zlib are built on, on all runtimes. It is not documented, but nothing that is writes into memory
 * that is there already, and touching a new MiB for each MiB of pages takes a third of the time of decompressing it.
 */
interface Handle {
  writeSync(
    flush: number,
    input: Uint8Array,
    from: number,
    length: number,
    out: Uint8Array,
    at: number,
    room: number,
  ): void;
  reset(): void;
}

interface Decompressor {
  /** Whose parts the others are: it has to live as long. */
  readonly stream: object;
  readonly handle: Handle;
  /** What `writeSync` has left: bytes of room, bytes of input. */
  readonly left: Uint32Array;
}

/** Of this thread; null where the runtime has none. */
let shared: Decompressor | null | undefined;

/**
 * Decompresses the zstd frame `packed` to the first `length` bytes of `room`, which is larger. Returns false where the runtime
 * can't; throws where the frame holds more or fewer bytes, or is none.
 */
export function unpackInto(packed: Uint8Array, room: Uint8Array, length: number): boolean {
  const decompressor = shared === undefined ? (openDecompressor() ?? null) : shared;
  shared = decompressor;
  if (!decompressor) return false;
  const { handle, left } = decompressor;
  // Anew after an error: it may be in any state.
  shared = undefined;
  // There is room for a byte more than is due, so that what is too long shows.
  let out = length + 1;
  let input = packed.length;
  for (let before = input + 1; input > 0 && out > 0 && input < before; ) {
    before = input;
    // An error is thrown, or leaves these as they are.
    left.fill(NEVER);
    try {
      handle.writeSync(0, packed, packed.length - input, input, room, length + 1 - out, out);
    } catch (error) {
      throw new RangeError(BROKEN, { cause: error });
    }
    out = left[0]!;
    input = left[1]!;
    if (out === NEVER) throw new RangeError(BROKEN);
  }
  if (out !== 1 || input !== 0) throw new RangeError(`${length} bytes are due, and the frame holds others`);
  handle.reset();
  shared = decompressor;
  return true;
}

const NEVER = 0xffff_ffff;
const BROKEN = "it is no zstd frame, or a damaged one";

function openDecompressor(): Decompressor | undefined {
  const stream = createZstdDecompress();
  stream.on("error", () => {});
  const handle: unknown = Reflect.get(stream, "_handle");
  const left: unknown = Reflect.get(stream, "_writeState");
  return isHandle(handle) && left instanceof Uint32Array ? { stream, handle, left } : undefined;
}

function isHandle(handle: unknown): handle is Handle {
  const has = (name: string) => typeof Reflect.get(Object(handle), name) === "function";
  return has("writeSync") && has("reset");
}
