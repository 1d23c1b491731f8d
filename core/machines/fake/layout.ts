import { PAGE_SIZE } from "../../content/page.ts";
import { fillRandom, fillText, hashName, mixKey } from "./content.ts";
import { type FakeSpec, type Pattern, pages } from "./spec.ts";

/**
 * What lies where in a fake guest: in pc.ram its private memory, which begins with the working set, then what it has of its
 * base image, then zeros; zeros for the screen; and a BIOS that all fake guests have in common.
 */
export interface GuestShape {
  readonly blocks: readonly { readonly name: string; readonly bytes: number }[];
  readonly pattern: Pattern;
  readonly seed: number;
  /** Of the base image. */
  readonly baseKey: number;
  /** Page numbers where the parts of pc.ram end, and pc.ram itself. */
  readonly workingSet: number;
  readonly privateEnd: number;
  readonly baseEnd: number;
  readonly biosStart: number;
}

const MIB = 2 ** 20;
const RAM = "pc.ram";
const SCREEN = { name: "0000:00:02.0/vga.vram", bytes: MIB };
const BIOS = { name: "pc.bios", bytes: MIB / 4 };
const BIOS_KEY = hashName(BIOS.name);

/** Words of a page that a `counter` write changes: one at a fixed place, one at a place that depends on the page. */
const COUNTER_WORD = 8;

export type ShapeOf = Pick<FakeSpec, "memory" | "pattern" | "seed" | "base" | "private" | "zero" | "workingSet">;

export function guestShape(spec: ShapeOf): GuestShape {
  const ram = spec.memory / PAGE_SIZE;
  return {
    blocks: [{ name: RAM, bytes: spec.memory }, SCREEN, BIOS],
    pattern: spec.pattern,
    seed: spec.seed,
    baseKey: hashName(spec.base),
    workingSet: spec.workingSet / PAGE_SIZE,
    privateEnd: spec.private / PAGE_SIZE,
    baseEnd: ram - pages(spec.zero * spec.memory) / PAGE_SIZE,
    biosStart: ram + SCREEN.bytes / PAGE_SIZE,
  };
}

/** Fills in what a page holds at first. Returns false where that is zeros; then the words are zeros, too. */
export function initialPage(shape: GuestShape, page: number, words: Uint32Array): boolean {
  if (page < shape.privateEnd) {
    const key = mixKey(shape.seed, page, 0);
    if (shape.pattern === "random") fillRandom(words, key);
    else fillText(words, key);
  } else if (page < shape.baseEnd) fillText(words, mixKey(shape.baseKey, page - shape.privateEnd, 0));
  else if (page >= shape.biosStart) fillText(words, mixKey(BIOS_KEY, page - shape.biosStart, 0));
  else {
    words.fill(0);
    return false;
  }
  return true;
}

/** Makes of any earlier version of a page of the working set what it is as this one, from 1. */
export function rewritePage(shape: GuestShape, page: number, version: number, words: Uint32Array): void {
  const key = mixKey(shape.seed, page, version);
  if (shape.pattern === "text") fillText(words, key);
  else if (shape.pattern === "random") fillRandom(words, key);
  else {
    words[COUNTER_WORD] = version;
    words[512 + (mixKey(shape.seed, page, 0) & 511)] = key;
  }
}

/** How often the guest has written to a page after so many writes: it goes round its working set, page by page. */
export function versionAfter(shape: GuestShape, writes: number, page: number): number {
  const { workingSet } = shape;
  if (page >= workingSet || page >= writes) return 0;
  return Math.floor((writes - 1 - page) / workingSet) + 1;
}
