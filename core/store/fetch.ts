import { compareBytes } from "../content/compare.ts";
import { copyBytes } from "../content/copy.ts";
import { DIGEST_SIZE, PAGE_SIZE } from "../content/page.ts";
import type { GroupPages } from "./group.ts";
import type { Place } from "./pack-writer.ts";

/** Where a content lies: its group, and its number in that. */
export interface Located {
  readonly place: Place;
  readonly slot: number;
}

/** What is looked for, as a broker is asked for it. */
export interface Wanted {
  readonly digests: Uint8Array;
  readonly count: number;
  readonly found: Uint8Array;
  readonly pages: Uint8Array;
}

/** Has `use` copy from a group; it must not keep any of it. Rejects where the group can't be read. */
export type UseGroup = (place: Place, use: (group: GroupPages) => void) => Promise<void>;

/**
 * Copies what is wanted out of its groups. What was put together is mostly wanted together and in the same order, so the run
 * from the first content on and the run up to the last are taken without looking up what is between them. A group that can't
 * be read holds nothing.
 */
export async function fetchContents(
  wanted: Wanted,
  locate: (index: number) => Promise<Located | undefined>,
  useGroup: UseGroup,
): Promise<void> {
  const { found, count } = wanted;
  const first = found.indexOf(0);
  if (first < 0 || first >= count) return;
  let last = count - 1;
  while (found[last] !== 0) last--;
  const take = (at: Located | undefined, use: (group: GroupPages, slot: number) => void) =>
    at && useGroup(at.place, (group) => use(group, at.slot)).catch(() => {});
  const ends = await Promise.all([locate(first), first === last ? undefined : locate(last)]);
  await Promise.all([
    take(ends[0], (group, slot) => takeForward(wanted, group, first, slot)),
    take(ends[1], (group, slot) => takeBackward(wanted, group, last, slot)),
  ]);
  const groups = new Map<string, { place: Place; slots: number[] }>();
  for (let i = first; i <= last; i++) {
    if (found[i] !== 0) continue;
    const at = await locate(i);
    if (!at) continue;
    const key = `${at.place.pack}:${at.place.offset}`;
    const group = groups.get(key);
    if (group) group.slots.push(i, at.slot);
    else groups.set(key, { place: at.place, slots: [i, at.slot] });
  }
  await Promise.all(
    [...groups.values()].map(({ place, slots }) =>
      take({ place, slot: 0 }, (group) => {
        for (let k = 0; k < slots.length; k += 2) {
          if (isAt(wanted, group, slots[k]!, slots[k + 1]!)) copyRun(wanted, group, slots[k]!, slots[k + 1]!, 1);
        }
      }),
    ),
  );
}

function takeForward(wanted: Wanted, group: GroupPages, first: number, slot: number): void {
  let run = 0;
  while (first + run < wanted.count && isAt(wanted, group, first + run, slot + run)) run++;
  copyRun(wanted, group, first, slot, run);
}

function takeBackward(wanted: Wanted, group: GroupPages, last: number, slot: number): void {
  let run = 0;
  while (run <= last && run <= slot && isAt(wanted, group, last - run, slot - run)) run++;
  copyRun(wanted, group, last - run + 1, slot - run + 1, run);
}

/** Whether content `index`, which is still looked for, is the one in `slot`. */
function isAt({ digests, found }: Wanted, group: GroupPages, index: number, slot: number): boolean {
  return (
    found[index] === 0 &&
    (slot + 1) * DIGEST_SIZE <= group.digests.length &&
    compareBytes(group.digests, slot * DIGEST_SIZE, digests, index * DIGEST_SIZE, DIGEST_SIZE) === 0
  );
}

function copyRun({ found, pages }: Wanted, group: GroupPages, index: number, slot: number, run: number): void {
  copyBytes(group.pages, pages, index * PAGE_SIZE, slot * PAGE_SIZE, (slot + run) * PAGE_SIZE);
  found.fill(1, index, index + run);
}
