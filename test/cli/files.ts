/** Small machines for the command's tests. */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { qemuStreamBytes } from "../support/qemu-stream.ts";

const PAGE = 4096;

/** Bytes that no codec makes smaller, always the same for a seed (xorshift32). */
export function noise(length: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let x = seed * 2654435761 + 1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return Buffer.from(words.buffer, 0, length);
}

export interface Workspace extends Disposable {
  readonly folder: string;
  path(...names: string[]): string;
  /** Whether `output` holds these machines, byte for byte, and nothing else. */
  arrived(output: string, names: readonly string[]): boolean;
}

/** A folder with `guest.qevm`, `disk.raw` (its pages repeat, a hole, an end that is no page) and `twin.raw`, which shares with it. */
export function workspace(): Workspace {
  const folder = mkdtempSync(join(tmpdir(), "cli-"));
  const path = (...names: string[]) => join(folder, ...names);
  const shared = noise(64 * PAGE, 1);
  writeFileSync(path("guest.qevm"), qemuStreamBytes({ seed: 3, rounds: 2 }));
  writeFileSync(path("disk.raw"), Buffer.concat([shared, Buffer.alloc(50 * PAGE), shared, noise(100, 2)]));
  writeFileSync(path("twin.raw"), Buffer.concat([noise(16 * PAGE, 3), shared]));
  chmodSync(path("disk.raw"), 0o640);
  utimesSync(path("disk.raw"), 1_700_000_000, 1_700_000_000);
  return {
    folder,
    path,
    arrived(output, names) {
      mkdirSync(output, { recursive: true });
      const there = readdirSync(output).sort();
      if (there.join() !== [...names].sort().join()) throw new Error(`${output} holds ${there.join() || "nothing"}`);
      return names.every((name) => {
        const [sent, here] = [path(name), join(output, name)];
        return readFileSync(sent).equals(readFileSync(here)) && statSync(sent).mode === statSync(here).mode;
      });
    },
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
