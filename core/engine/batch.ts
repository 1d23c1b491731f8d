import { copyBytes } from "../content/copy.ts";
import { DIGEST_SIZE, DIGEST_WORDS, PAGE_SIZE, PAGE_WORDS } from "../content/page.ts";
import type { PageWorker } from "../content/page-worker.ts";
import type { DigestTable } from "../index/digest-table.ts";
import type { SegmentSink } from "../segment/segmenter.ts";
import { MAX_BATCH_CONTENTS, MAX_BATCH_PLAIN, MAX_BATCH_SEGMENTS, OP } from "../wire/numbers.ts";
import { OpWriter } from "../wire/ops.ts";
import { batchCost } from "./bounds.ts";
import { noCounters } from "./counters.ts";
import type { KeyTable } from "./key-table.ts";
import { RunningDigest } from "./running-digest.ts";

/** The least credit with which a batch is begun. */
export const MIN_CREDIT = 256 << 10;

/** Input is pushed in slices of this size, between which a batch may be found to be full. */
export const SLICE_BYTES = 64 << 10;
/** What a slice, and what the segmenter held back before it, may add to a batch. */
const SLICE_CONTENTS = 20;
const SLICE_PLAIN = SLICE_BYTES + 16_384;
const SLICE_SEGMENTS = 256;

const LITERAL = 0;
const ZERO = 1;
const CHUNK = 2;
const FRESH = 3;
const REF = 4;

/**
 * A batch while it is built: the deduplicator's hot path. Segments come in and each chunk is copied; then all chunks are
 * digested, and looked up in the content log. What the log lacks takes the next number; how it will be sent (whole, as an
 * XOR, or by digest) is decided for the whole batch later (classify.ts). The buffers are made once and used again.
 */
export class Batch implements SegmentSink {
  /** All chunks; once they are numbered, the new contents in the order of their numbers. */
  contents!: Buffer;
  words!: Int32Array;
  /** Digests of the batch's chunks, as 32-bit words. */
  digests!: Int32Array;
  /** How each new content is sent: `OP.NEW` until it is decided otherwise. */
  readonly kinds = new Uint8Array(MAX_BATCH_CONTENTS);
  /** The content last sent for the same key, or -1. */
  readonly bases = new Float64Array(MAX_BATCH_CONTENTS);
  /** Of an `OP.PAST`, its number in the logs of earlier sessions. */
  readonly past = new Float64Array(MAX_BATCH_CONTENTS);
  /** Where each new content's digest begins in `digests`. */
  readonly digestAt = new Uint32Array(MAX_BATCH_CONTENTS);
  readonly counters = noCounters();
  readonly ops = new OpWriter(MAX_BATCH_SEGMENTS);
  readonly #literals = Buffer.allocUnsafeSlow(MAX_BATCH_PLAIN);
  readonly #eventKinds = new Uint8Array(MAX_BATCH_SEGMENTS);
  readonly #eventArgs = new Float64Array(MAX_BATCH_SEGMENTS);
  /** The key of each chunk. */
  readonly #chunkKeys = new Float64Array(MAX_BATCH_CONTENTS);
  readonly #running = new RunningDigest();
  #deltas: Int32Array | undefined;
  readonly #gathered: (Buffer | undefined)[] = [];
  #events = 0;
  #chunks = 0;
  #literalsEnd = 0;
  stream = 0;
  first = 0;
  count = 0;
  forget = 0;
  /** How many XORs `deltaWords` holds. */
  deltaCount = 0;

  constructor() {
    this.#own(new ArrayBuffer(MAX_BATCH_CONTENTS * PAGE_SIZE), new ArrayBuffer(MAX_BATCH_CONTENTS * DIGEST_SIZE));
  }

  get segments(): number {
    return this.#events;
  }

  /** Bytes of literals and chunks. */
  get plain(): number {
    return this.counters.plain - this.counters.zero;
  }

  /** What the batch takes from its stream's credit. */
  get cost(): number {
    return this.#events === 0 ? 0 : batchCost(this.plain, this.#events);
  }

  get literals(): Buffer {
    return this.#literals.subarray(0, this.#literalsEnd);
  }

  /** XORs of pages with their last versions, in the order of their contents. */
  get deltaWords(): Int32Array {
    this.#deltas ??= new Int32Array(MAX_BATCH_CONTENTS * PAGE_WORDS);
    return this.#deltas;
  }

  /** Starts a batch of `stream`. */
  reset(stream: number): void {
    this.stream = stream;
    this.count = 0;
    this.deltaCount = 0;
    this.#events = 0;
    this.#chunks = 0;
    this.#literalsEnd = 0;
    this.#running.reset();
    Object.assign(this.counters, noCounters());
  }

  /** Whether one more slice fits, in the batch and in `credit`. */
  hasRoom(credit: number): boolean {
    return (
      this.#chunks + SLICE_CONTENTS <= MAX_BATCH_CONTENTS &&
      this.#events + SLICE_SEGMENTS <= MAX_BATCH_SEGMENTS &&
      this.plain + SLICE_PLAIN <= MAX_BATCH_PLAIN &&
      batchCost(this.plain + SLICE_PLAIN, this.#events + SLICE_SEGMENTS) <= credit
    );
  }

  literal(bytes: Uint8Array, start: number, end: number): void {
    const length = end - start;
    copyBytes(bytes, this.#literals, this.#literalsEnd, start, end);
    this.#literalsEnd += length;
    this.counters.plain += length;
    this.counters.fresh += length;
    this.counters.literal += length;
    this.#length(LITERAL, length);
  }

  zero(length: number): void {
    this.counters.plain += length;
    this.counters.zero += length;
    this.#length(ZERO, length);
  }

  chunk(bytes: Uint8Array, start: number, key: number): void {
    const chunk = this.#chunks++;
    copyBytes(bytes, this.contents, chunk * PAGE_SIZE, start, start + PAGE_SIZE);
    this.#chunkKeys[chunk] = key;
    this.counters.plain += PAGE_SIZE;
    const event = this.#events++;
    this.#eventKinds[event] = CHUNK;
    this.#eventArgs[event] = chunk;
  }

  /** Digests the chunks. Nothing may be done to the batch meanwhile. */
  async digest(worker: PageWorker): Promise<void> {
    if (this.#chunks === 0) return;
    const memory = [this.contents.buffer, this.digests.buffer] as [ArrayBuffer, ArrayBuffer];
    const { pages, digests } = await worker.digest(memory[0], this.#chunks, memory[1]);
    this.#own(pages, digests);
  }

  /**
   * Gives the chunks numbers of `log`, and moves the new ones together.
   * @param keys undefined where no key comes again
   */
  number(log: DigestTable, keys: KeyTable | undefined): void {
    this.first = log.next;
    this.forget = log.low;
    for (let event = 0; event < this.#events; event++) {
      if (this.#eventKinds[event] !== CHUNK) continue;
      const chunk = this.#eventArgs[event]!;
      const key = keys ? this.#chunkKeys[chunk]! : -1;
      const at = chunk * DIGEST_WORDS;
      const known = log.find(this.digests, at);
      if (known >= 0) {
        this.#eventKinds[event] = REF;
        this.#eventArgs[event] = known;
        this.counters.deduplicated += PAGE_SIZE;
        if (keys && key >= 0) keys.replace(key, known);
        continue;
      }
      const slot = this.count++;
      if (slot < chunk) {
        copyBytes(this.contents, this.contents, slot * PAGE_SIZE, chunk * PAGE_SIZE, (chunk + 1) * PAGE_SIZE);
      }
      const number = log.add(this.digests, at);
      this.#eventKinds[event] = FRESH;
      this.#eventArgs[event] = slot;
      this.kinds[slot] = OP.NEW;
      this.digestAt[slot] = at;
      this.bases[slot] = keys && key >= 0 ? keys.replace(key, number) : -1;
      this.counters.fresh += PAGE_SIZE;
    }
  }

  /** Writes the operations, once every content's kind is decided, and returns the stream's digest after them. */
  finish(previous: Uint8Array): Buffer {
    const { ops } = this;
    const running = this.#running;
    ops.reset(this.first);
    for (let i = 0; i < this.#events; i++) {
      const argument = this.#eventArgs[i]!;
      switch (this.#eventKinds[i]) {
        case LITERAL:
          ops.literal(argument);
          running.literal(argument);
          break;
        case ZERO:
          ops.zero(argument);
          running.zero(argument);
          break;
        case REF:
          ops.ref(argument);
          running.chunk();
          break;
        default:
          if (this.kinds[argument] === OP.DELTA) ops.delta(this.bases[argument]!);
          else if (this.kinds[argument] === OP.PAST) ops.past(this.past[argument]!);
          else ops.content(this.kinds[argument]!);
          running.chunk();
      }
    }
    ops.finish();
    const digests = new Uint8Array(this.digests.buffer, 0, this.#chunks * DIGEST_SIZE);
    return running.finish(previous, digests, this.literals);
  }

  /** A buffer for the contents of one kind, of this batch. */
  gathered(kind: number): Buffer {
    this.#gathered[kind] ??= Buffer.allocUnsafeSlow(MAX_BATCH_CONTENTS * PAGE_SIZE);
    return this.#gathered[kind];
  }

  /** Copies the digest of new content `slot` to `target` at `at`, in words. */
  copyDigest(slot: number, target: Int32Array, at: number): void {
    const from = this.digestAt[slot]!;
    for (let i = 0; i < DIGEST_WORDS; i++) target[at + i] = this.digests[from + i]!;
  }

  #own(pages: ArrayBuffer, digests: ArrayBuffer): void {
    this.contents = Buffer.from(pages);
    this.words = new Int32Array(pages);
    this.digests = new Int32Array(digests);
  }

  #length(kind: number, length: number): void {
    const last = this.#events - 1;
    if (last >= 0 && this.#eventKinds[last] === kind) {
      this.#eventArgs[last] = this.#eventArgs[last]! + length;
      return;
    }
    const event = this.#events++;
    this.#eventKinds[event] = kind;
    this.#eventArgs[event] = length;
  }
}
