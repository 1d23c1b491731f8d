import { DIGEST_SIZE, DIGEST_WORDS, PAGE_SIZE, PAGE_WORDS } from "../content/page.ts";
import type { SizedPool } from "../content/sized-pool.ts";
import { xorPages } from "../content/xor.ts";
import { IntegrityError, ProtocolError } from "../errors.ts";
import type { Piece } from "../machines/machine.ts";
import { sha256Into } from "../runtime.ts";
import type { ContentFile } from "../store/content-file.ts";
import type { NumberSet } from "../store/number-set.ts";
import { ResidentContents } from "../store/resident.ts";
import { COLUMN, MAX_BATCH_CONTENTS, MAX_BATCH_PLAIN, OP } from "../wire/numbers.ts";
import { OpReader } from "../wire/ops.ts";
import type { DecodedBatch } from "./batch-decoder.ts";
import { type Counters, noCounters } from "./counters.ts";
import type { FoundContents } from "./finder.ts";
import type { ContentKeeper } from "./keeper.ts";
import { tooMuch } from "./list-known.ts";
import { PieceBuilder } from "./pieces.ts";
import { RunningDigest } from "./running-digest.ts";

const MAX_CHUNKS = MAX_BATCH_PLAIN / PAGE_SIZE;

export interface ResolvedBatch {
  /** The batch's bytes, in order. */
  readonly pieces: Piece[];
  readonly counters: Counters;
}

/**
 * Turns operations back into bytes. Batches come one at a time and in order. What a batch brings is appended to the log's
 * contents; every chunk, wherever it was found, is digested again, and the bytes are given out only if the stream's running
 * digest is the sender's.
 */
export class Resolver {
  readonly #store: ContentFile;
  readonly #keepers: readonly ContentKeeper[];
  /** Of each new content, by its slot; and whether it is there yet. */
  readonly #newDigestWords = new Int32Array(MAX_BATCH_CONTENTS * DIGEST_WORDS);
  readonly #newDigests = Buffer.from(this.#newDigestWords.buffer);
  readonly #isDigested = new Uint8Array(MAX_BATCH_CONTENTS);
  readonly #builder: PieceBuilder;
  readonly #running = new RunningDigest();
  readonly #ownNew = pageSlots(MAX_BATCH_CONTENTS);
  /** The new contents' pages: where all came in one way, those as they came, else `#ownNew`. */
  #newPages: Buffer = this.#ownNew.bytes;
  readonly #referred = pageSlots(MAX_CHUNKS);
  /** What is referred to and was digested when it came. */
  readonly #resident: ResidentContents | undefined;
  readonly #referredDigestWords = new Int32Array(MAX_CHUNKS * DIGEST_WORDS);
  readonly #referredDigests = Buffer.from(this.#referredDigestWords.buffer);
  readonly #isReferredDigested = new Uint8Array(MAX_CHUNKS);
  readonly #base = pageSlots(1);
  readonly #baseDigest = Buffer.alloc(DIGEST_SIZE);
  /** For each chunk: its slot in `#new` from 0, or in `#referred` from -1 downwards. */
  readonly #chunks = new Int32Array(MAX_CHUNKS);
  /** Of each chunk, in order. */
  readonly #digestWords = new Int32Array(MAX_CHUNKS * DIGEST_WORDS);
  readonly #digests = Buffer.from(this.#digestWords.buffer);
  readonly #digestViews = Array.from({ length: MAX_CHUNKS }, (_, i) =>
    this.#digests.subarray(i * DIGEST_SIZE, (i + 1) * DIGEST_SIZE),
  );

  #digested = 0;

  /**
   * @param keepers are given what each batch brings, once it is proved
   * @param referred what `store` keeps, where it doesn't keep all; what is held in RAM instead is taken out of it
   */
  constructor(store: ContentFile, pool: SizedPool, keepers: readonly ContentKeeper[], referred?: NumberSet) {
    this.#store = store;
    this.#resident = referred && new ResidentContents(referred);
    this.#keepers = keepers;
    this.#builder = new PieceBuilder(pool);
  }

  /**
   * @param known the pages of the batch's KNOWN and PAST operations, back to back, whose digests are right
   * @param previous the stream's running digest before the batch
   */
  async resolve(batch: DecodedBatch, known: FoundContents, previous: Uint8Array): Promise<ResolvedBatch> {
    const { header, columns } = batch;
    this.#store.forget(header.forget);
    this.#running.reset();
    const bytes = header.count * PAGE_SIZE;
    const one = [known.pages, columns[COLUMN.CONTENTS]!, columns[COLUMN.STORED]!].find(
      (pages) => pages.length === bytes,
    );
    this.#newPages = one ?? this.#ownNew.bytes;
    const allKnown = one === known.pages;
    const counters = this.#gather(batch, known);
    if (!allKnown) known.release();
    this.#resident?.put(header.first, header.count, this.#newPages, this.#newDigests);
    const stored = this.#store.append(this.#newPages, header.count);
    try {
      const digests = this.#digests.subarray(0, this.#digested * DIGEST_SIZE);
      const digest = this.#running.finish(previous, digests, columns[COLUMN.LITERALS]!);
      if (digest.compare(header.digest) !== 0) {
        throw new IntegrityError(
          "The bytes of a batch differ from those that were sent: its running digest does not match",
        );
      }
      for (const keeper of this.#keepers) await keeper.put(this.#newDigests, this.#newPages, header.count);
      return { pieces: this.#build(batch), counters };
    } finally {
      await stored;
      if (allKnown) known.release();
    }
  }

  /** Finds every chunk of the batch, and digests it. */
  #gather({ header, columns }: DecodedBatch, known: FoundContents): Counters {
    const counters = noCounters();
    const reader = new OpReader(columns[COLUMN.OPS]!, columns[COLUMN.ARGUMENTS]!, header.first);
    const at = { deltas: 0, contents: 0, stored: 0, known: 0 };
    let fresh = 0;
    let referred = 0;
    let chunks = 0;
    let segments = 0;
    let literals = 0;
    while (reader.next()) {
      const { code, run, argument } = reader;
      if (code === OP.LITERAL) {
        literals += argument;
        segments++;
        if (segments > header.segments) throw tooMuch();
        this.#running.literal(argument);
        continue;
      }
      if (code === OP.ZERO) {
        counters.zero += argument;
        segments++;
        if (segments > header.segments) throw tooMuch();
        this.#running.zero(argument);
        continue;
      }
      segments += run;
      if (segments > header.segments || chunks + run > MAX_CHUNKS) throw tooMuch();
      const isReference = code === OP.REF || code === OP.SAME;
      if (!isReference && fresh + run > header.count) throw tooMuch();
      for (let i = 0; i < run; i++) this.#running.chunk();
      if (isReference) {
        const count = code === OP.SAME ? 1 : run;
        if (argument < header.forget || argument + count > header.first + fresh) throw unknownContent(argument);
        for (let i = 0; i < run; i++) {
          const number = code === OP.SAME ? argument : argument + i;
          if (number >= header.first) this.#chunks[chunks++] = number - header.first;
          else if (code === OP.SAME && i > 0) this.#chunks[chunks++] = -referred;
          else {
            // The first page of a run within the store fetches the whole run.
            if (i === 0) this.#refer(number, Math.min(count, header.first - number), referred);
            this.#chunks[chunks++] = -1 - referred++;
          }
        }
        counters.deduplicated += run * PAGE_SIZE;
      } else if (code === OP.KNOWN || code === OP.PAST) {
        at.known += this.#takeKnown(known, at.known, fresh, run);
        for (let i = 0; i < run; i++) this.#chunks[chunks++] = fresh++;
        counters.deduplicated += run * PAGE_SIZE;
      } else {
        for (let i = 0; i < run; i++) {
          const slot = fresh++;
          this.#chunks[chunks++] = slot;
          if (code === OP.NEW) at.contents += this.#take(columns[COLUMN.CONTENTS]!, at.contents, slot);
          else if (code === OP.STORED) at.stored += this.#take(columns[COLUMN.STORED]!, at.stored, slot);
          else at.deltas += this.#xor(columns[COLUMN.DELTAS]!, at.deltas, slot, argument, header);
        }
        counters.fresh += run * PAGE_SIZE;
        if (code === OP.DELTA) counters.delta += PAGE_SIZE;
      }
    }
    const whole =
      fresh === header.count &&
      segments === header.segments &&
      literals + chunks * PAGE_SIZE === header.plain &&
      literals === columns[COLUMN.LITERALS]!.length &&
      at.deltas === columns[COLUMN.DELTAS]!.length &&
      at.contents === columns[COLUMN.CONTENTS]!.length &&
      at.stored === columns[COLUMN.STORED]!.length &&
      at.known === known.pages.length;
    if (!whole) throw new ProtocolError("A batch's operations and columns don't match its header");
    for (let i = 0; i < chunks; i++) this.#digest(i, this.#chunks[i]!);
    this.#digested = chunks;
    counters.literal = literals;
    counters.fresh += literals;
    counters.plain = counters.zero + counters.deduplicated + counters.fresh;
    return counters;
  }

  /** Fetches older contents `[number, number + count)` to `#referred` from `slot` on. */
  #refer(number: number, count: number, slot: number): void {
    const { bytes } = this.#referred;
    if (!this.#resident) {
      this.#store.read(number, count, bytes, slot * PAGE_SIZE);
      return;
    }
    for (let i = 0; i < count; i++) {
      const here = this.#resident.read(number + i, bytes, this.#referredDigests, slot + i);
      this.#isReferredDigested[slot + i] = here ? 1 : 0;
      if (!here) this.#store.read(number + i, 1, bytes, (slot + i) * PAGE_SIZE);
    }
  }

  #build({ header, columns }: DecodedBatch): Piece[] {
    const reader = new OpReader(columns[COLUMN.OPS]!, columns[COLUMN.ARGUMENTS]!, header.first);
    this.#builder.begin(header.plain);
    let chunk = 0;
    let literal = 0;
    while (reader.next()) {
      if (reader.code === OP.LITERAL) {
        this.#builder.put(columns[COLUMN.LITERALS]!, literal, literal + reader.argument);
        literal += reader.argument;
      } else if (reader.code === OP.ZERO) this.#builder.zeros(reader.argument);
      else {
        for (let i = 0; i < reader.run; i++) {
          const slot = this.#chunks[chunk++]!;
          if (slot >= 0) this.#builder.put(this.#newPages, slot * PAGE_SIZE, (slot + 1) * PAGE_SIZE);
          else this.#builder.put(this.#referred.bytes, (-1 - slot) * PAGE_SIZE, -slot * PAGE_SIZE);
        }
      }
    }
    return this.#builder.take();
  }

  #view(slot: number): Uint8Array {
    if (slot < 0) return this.#referred.views[-1 - slot]!;
    if (this.#newPages === this.#ownNew.bytes) return this.#ownNew.views[slot]!;
    // Made anew for each page, as these lie elsewhere in each batch: that costs less than to copy the page to where it has a view.
    const { buffer, byteOffset } = this.#newPages;
    return new Uint8Array(buffer, byteOffset + slot * PAGE_SIZE, PAGE_SIZE);
  }

  /** Digests a chunk, where that has not been done: a new content that was checked, or comes again, is not digested anew. */
  #digest(chunk: number, slot: number): void {
    if (slot >= 0 && this.#isDigested[slot] === 1) {
      copyDigest(this.#newDigestWords, slot, this.#digestWords, chunk);
      return;
    }
    if (slot < 0 && this.#isReferredDigested[-1 - slot] === 1) {
      copyDigest(this.#referredDigestWords, -1 - slot, this.#digestWords, chunk);
      return;
    }
    sha256Into(this.#view(slot), this.#digestViews[chunk]!);
    if (slot < 0) return;
    copyDigest(this.#digestWords, chunk, this.#newDigestWords, slot);
    this.#isDigested[slot] = 1;
  }

  #takeKnown({ pages, digests }: FoundContents, at: number, slot: number, run: number): number {
    const bytes = run * PAGE_SIZE;
    if (at + bytes > pages.length) throw tooMuch();
    const from = (at / PAGE_SIZE) * DIGEST_SIZE;
    digests.copy(this.#newDigests, slot * DIGEST_SIZE, from, from + run * DIGEST_SIZE);
    this.#isDigested.fill(1, slot, slot + run);
    this.#place(pages, at, slot, bytes);
    return bytes;
  }

  #take(source: Buffer, at: number, slot: number): number {
    if (at + PAGE_SIZE > source.length) throw tooMuch();
    this.#isDigested[slot] = 0;
    this.#place(source, at, slot, PAGE_SIZE);
    return PAGE_SIZE;
  }

  /** Puts new contents into their slots, where they are not there already. */
  #place(source: Buffer, at: number, slot: number, bytes: number): void {
    if (this.#newPages === this.#ownNew.bytes) source.copy(this.#newPages, slot * PAGE_SIZE, at, at + bytes);
    // As they came, the n-th is in slot n: nothing else can be new.
    else if (this.#newPages !== source || at !== slot * PAGE_SIZE) throw tooMuch();
  }

  #xor(deltas: Buffer, at: number, slot: number, base: number, header: DecodedBatch["header"]): number {
    if (at + PAGE_SIZE > deltas.length || this.#newPages !== this.#ownNew.bytes) throw tooMuch();
    if (base < header.forget || base >= header.first + slot) throw unknownContent(base);
    this.#isDigested[slot] = 0;
    const words = new Int32Array(deltas.buffer, deltas.byteOffset, deltas.length / 4);
    if (base >= header.first) {
      const from = (base - header.first) * PAGE_WORDS;
      xorPages(this.#ownNew.words, from, words, at / 4, this.#ownNew.words, slot * PAGE_WORDS);
    } else {
      const { bytes } = this.#base;
      if (!this.#resident?.read(base, bytes, this.#baseDigest, 0)) this.#store.read(base, 1, bytes, 0);
      xorPages(this.#base.words, 0, words, at / 4, this.#ownNew.words, slot * PAGE_WORDS);
    }
    return PAGE_SIZE;
  }
}

/** Room for pages, and a view of each made beforehand. */
function pageSlots(count: number): { bytes: Buffer; words: Int32Array; views: Uint8Array[] } {
  const memory = new ArrayBuffer(count * PAGE_SIZE);
  const views = Array.from({ length: count }, (_, i) => new Uint8Array(memory, i * PAGE_SIZE, PAGE_SIZE));
  return { bytes: Buffer.from(memory), words: new Int32Array(memory), views };
}

function copyDigest(from: Int32Array, fromIndex: number, to: Int32Array, toIndex: number): void {
  for (let i = 0; i < DIGEST_WORDS; i++) to[toIndex * DIGEST_WORDS + i] = from[fromIndex * DIGEST_WORDS + i]!;
}

function unknownContent(number: number): ProtocolError {
  return new ProtocolError(`A batch refers to content ${number}, which was not sent or is forgotten`);
}
