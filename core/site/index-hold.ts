import type { PrefixTable } from "../index/prefix-table.ts";
import { createHold, listHolds } from "../store/holds.ts";
import type { Layout } from "../store/layout.ts";
import type { Store } from "../store/store.ts";

/** Bytes of an index's digest in the name of its hold. */
const NAME_BYTES = 8;

/** What the hold for an index is called, by the index's digest. */
export function holdName(index: Uint8Array): string {
  return `index-${Buffer.from(index).subarray(0, NAME_BYTES).toString("hex")}`;
}

/** Pins what an index lists of a store, which is open, for some milliseconds from `created` on. Returns the hold's name. */
export async function holdIndexed(
  store: Store,
  index: Uint8Array,
  table: PrefixTable,
  { created, age }: { readonly created: number; readonly age: number },
): Promise<string> {
  const name = holdName(index);
  await createHold(store.layout, { name, created, expires: created + age, table });
  return name;
}

/** Whether what an index lists is still pinned: then it is there, though other contents have been removed since. */
export async function isHeld(layout: Layout, index: Uint8Array): Promise<boolean> {
  const name = holdName(index);
  const holds = await listHolds(layout);
  return holds.some((hold) => hold.name === name && !hold.error && hold.expires > Date.now());
}
