import type { ColumnEncoder } from "../wire/codec/codec.ts";

/** What a sample says of all. */
export interface Estimate {
  /** Units that were encoded and count, and their bytes. */
  readonly units: number;
  readonly sampled: number;
  /** Bytes of all units. */
  readonly total: number;
  /** Encoded bytes of a byte. */
  readonly ratio: number;
  /** Standard error of the ratio; 0 where everything was encoded. */
  readonly error: number;
}

interface Unit {
  readonly bytes: number;
  readonly encoded: number;
}

/** At most this many units count. */
const MOST = 64;

/**
 * Estimates what bytes are encoded to, from a systematic sample of units (consecutive bytes) of a stream whose length nobody
 * knows: every unit at first, and whenever 64 are at hand, every second of them is dropped and the step doubled. So it takes at
 * most 64 units and 32 for each further doubling, and where there are no more than 64, the figure is that of all. A ratio
 * estimator and its standard error, as of a random sample (Cochran, Sampling Techniques, 1977, chapters 6 and 8).
 *
 * The units go through one encoder in order; what lies between them is missing from its window.
 */
export class CompressionSample {
  readonly #encoder: ColumnEncoder;
  #units: Unit[] = [];
  #step = 1;
  #seen = 0;
  #total = 0;

  constructor(encoder: ColumnEncoder) {
    this.#encoder = encoder;
  }

  /** Takes the next unit. Calls don't overlap; the bytes must not change meanwhile. */
  async add(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    this.#total += bytes.length;
    if (this.#seen++ % this.#step !== 0) return;
    if (this.#units.length === MOST) {
      this.#units = this.#units.filter((_, i) => i % 2 === 0);
      this.#step *= 2;
      if ((this.#seen - 1) % this.#step !== 0) return;
    }
    const parts = await this.#encoder.encode(bytes);
    const encoded = parts.reduce((sum, part) => sum + part.length, 0);
    this.#units.push({ bytes: bytes.length, encoded });
  }

  estimate(): Estimate {
    const units = this.#units;
    const n = units.length;
    const sampled = units.reduce((sum, { bytes }) => sum + bytes, 0);
    const encoded = units.reduce((sum, unit) => sum + unit.encoded, 0);
    const ratio = sampled === 0 ? 0 : encoded / sampled;
    const known = { units: n, sampled, total: this.#total, ratio };
    if (n === this.#seen) return { ...known, error: 0 };
    const squares = units.reduce((sum, unit) => sum + (unit.encoded - ratio * unit.bytes) ** 2, 0);
    const variance = (1 - n / this.#seen) * (squares / (n - 1) / n);
    return { ...known, error: Math.sqrt(variance) / (sampled / n) };
  }

  close(): void {
    this.#encoder.close();
  }
}
