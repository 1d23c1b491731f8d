/** Packs for tests, written as a store writes them. */
import { readFileSync } from "node:fs";
import { encodeGroup } from "../../../core/store/group.ts";
import { packPath, type ScannedGroup, scanPack } from "../../../core/store/pack.ts";
import { PackWriter } from "../../../core/store/pack-writer.ts";
import { contents } from "./contents.ts";

export async function groupOf(numbers: readonly number[]): Promise<Uint8Array[]> {
  const { digests, pages } = contents(numbers);
  return encodeGroup(digests, pages, 1);
}

/** Writes groups of these contents to a new pack. Returns where each begins, and where the last one ends. */
export async function writePack(folder: string, number: number, groups: readonly (readonly number[])[]) {
  const writer = new PackWriter(folder, number, 0);
  const offsets: number[] = [];
  for (const numbers of groups) offsets.push((await writer.append(await groupOf(numbers))).offset);
  await writer.sync();
  await writer.close();
  return [...offsets, writer.position.offset];
}

export interface Scanned {
  readonly groups: readonly Pick<ScannedGroup, "offset" | "whole">[];
  /** Of all groups, in order. */
  readonly digests: Buffer;
  readonly end: number;
  readonly size: number;
}

export async function scan(path: string, start = 0): Promise<Scanned> {
  const read = { end: -1, size: -1 };
  const groups: Pick<ScannedGroup, "offset" | "whole">[] = [];
  const parts: Buffer[] = [];
  for await (const { offset, whole, digests } of scanPack(path, start, read)) {
    groups.push({ offset, whole });
    parts.push(Buffer.from(digests));
  }
  return { groups, digests: Buffer.concat(parts), ...read };
}

export function digestsOf(groups: readonly (readonly number[])[]): Uint8Array {
  return contents(groups.flat()).digests;
}

export function packBytes(folder: string, number: number): Buffer {
  return readFileSync(packPath(folder, number));
}
