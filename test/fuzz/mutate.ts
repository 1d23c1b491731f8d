/** Damage to artefacts that are right: to what their checksums cover, which are made anew, and to what comes out in the end. */
import fc from "fast-check";

/** Something valid that a parser reads, in parts. */
export interface Artefact {
  readonly parts: readonly Buffer[];
  /** Puts changed parts together as a hostile writer would: with right checksums, and lengths that are right where it can't lie. */
  join(parts: readonly Buffer[]): Buffer;
}

/** Numbers about which mistakes are made. */
const EDGES: readonly bigint[] = [
  ...[0n, 1n, 2n, 3n, 7n, 8n, 16n, 31n, 32n, 127n, 128n, 255n, 256n, 257n, 1024n, 4095n, 4096n, 4097n],
  ...[15n, 16n, 20n, 21n, 24n, 28n, 31n, 32n, 33n, 53n, 62n, 63n, 64n].flatMap((n) => [2n ** n - 1n, 2n ** n]),
];

const place = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
/** Where fields stand: mostly at the beginning of a part. */
const at = fc.oneof({ weight: 2, arbitrary: fc.nat(40) }, { weight: 1, arbitrary: place });

const change = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      number: fc.constantFrom(...EDGES),
      width: fc.constantFrom(1, 2, 4, 8),
      big: fc.boolean(),
      at,
    }),
  },
  { weight: 2, arbitrary: fc.record({ xor: fc.integer({ min: 1, max: 255 }), at }) },
  { weight: 2, arbitrary: fc.record({ cut: place }) },
  { weight: 2, arbitrary: fc.record({ insert: fc.uint8Array({ minLength: 1, maxLength: 20 }), at }) },
  { weight: 1, arbitrary: fc.record({ remove: fc.integer({ min: 1, max: 64 }), at }) },
);
export type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

const move = fc.oneof(
  fc.record({ drop: place }),
  fc.record({ again: place, to: place }),
  fc.record({ swap: place, with: place }),
);
type Move = typeof move extends fc.Arbitrary<infer T> ? T : never;

const part = fc.record({ part: place, change });

/** What is done to one artefact; small to print, and says all. */
export const damage = fc.record({
  /** Which of the artefacts. */
  which: fc.nat(0xffff),
  /** To its parts. */
  inside: fc.array(part, { maxLength: 3 }),
  moves: fc.array(move, { maxLength: 2 }),
  /** To the bytes that came of it. */
  outside: fc.oneof(
    { weight: 4, arbitrary: fc.constant<Change[]>([]) },
    { weight: 1, arbitrary: fc.array(change, { maxLength: 2 }) },
  ),
});
export type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never;

const index = (where: number, length: number) => Math.floor(where * length);
/** A whole number counts from the beginning, a fraction is a share. */
const offset = (where: number, length: number) =>
  Number.isInteger(where) ? Math.min(where, length) : index(where, length);

/** The bytes, changed; the given ones stay as they are. */
export function changed(bytes: Buffer, one: Change): Buffer {
  if ("cut" in one) return bytes.subarray(0, index(one.cut, bytes.length));
  const start = offset(one.at, bytes.length);
  if ("insert" in one) return Buffer.concat([bytes.subarray(0, start), one.insert, bytes.subarray(start)]);
  if ("remove" in one) return Buffer.concat([bytes.subarray(0, start), bytes.subarray(start + one.remove)]);
  const copy = Buffer.from(bytes);
  if ("xor" in one) {
    if (start < copy.length) copy[start]! ^= one.xor;
    return copy;
  }
  for (let i = 0; i < one.width && start + i < copy.length; i++) {
    const shift = BigInt(8 * (one.big ? one.width - 1 - i : i));
    copy[start + i] = Number((one.number >> shift) & 0xffn);
  }
  return copy;
}

function moved(parts: Buffer[], one: Move): void {
  if (parts.length === 0) return;
  if ("drop" in one) parts.splice(index(one.drop, parts.length), 1);
  else if ("again" in one) parts.splice(index(one.to, parts.length), 0, parts[index(one.again, parts.length)]!);
  else {
    const [a, b] = [index(one.swap, parts.length), index(one.with, parts.length)];
    [parts[a], parts[b]] = [parts[b]!, parts[a]!];
  }
}

/** A damaged artefact. */
export function harm(artefacts: readonly Artefact[], { which, inside, moves, outside }: Damage): Buffer {
  const artefact = artefacts[which % artefacts.length]!;
  const parts = [...artefact.parts];
  for (const { part, change } of inside) {
    const i = index(part, parts.length);
    if (parts[i]) parts[i] = changed(parts[i], change);
  }
  for (const move of moves) moved(parts, move);
  return outside.reduce(changed, artefact.join(parts));
}

/** An artefact without checksums, cut where its fields begin. */
export function plain(bytes: Buffer, cuts: readonly number[] = []): Artefact {
  const edges = [0, ...cuts, bytes.length];
  return {
    parts: edges.slice(1).map((end, i) => bytes.subarray(edges[i], end)),
    join: (parts) => Buffer.concat(parts),
  };
}
