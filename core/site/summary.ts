import { createHash } from "node:crypto";
import { buildFuseFilter } from "../index/fuse-filter.ts";
import { PREFIX_SIZE, type PrefixTable } from "../index/prefix-table.ts";
import type { Identity } from "../store/layout.ts";
import type { Store } from "../store/store.ts";
import type { Seeds } from "./seeds.ts";

const ID_BYTES = 16;

/** Who a destination is to its sources: its store, or, without one, its seeds; and in which state. */
export function combineIdentity(
  store: Identity | undefined,
  seeds: Seeds | undefined,
): { id: Buffer; generation: Buffer } {
  if (store && !seeds) return { id: store.site, generation: store.generation };
  const hash = createHash("sha256");
  if (store) hash.update(store.generation);
  const generation = hash.update(seeds!.key).digest().subarray(0, ID_BYTES);
  return { id: store?.site ?? seeds!.key.subarray(0, ID_BYTES), generation };
}

/** A filter of all digests that are held, encoded. Takes 40 bytes of memory a digest while it is made. */
export async function summarize(store: Store | undefined, seeds: Seeds | undefined, bits: 8 | 16): Promise<Uint8Array> {
  const tables: readonly PrefixTable[] = [...(store?.tables() ?? []), ...(seeds?.tables ?? [])];
  const keys = new Uint32Array(2 * tables.reduce((sum, { count }) => sum + count, 0));
  let end = 0;
  for (const { records, payloadSize } of tables) {
    const view = new DataView(records.buffer, records.byteOffset, records.byteLength);
    for (let at = 0; at < records.byteLength; at += PREFIX_SIZE + payloadSize) {
      keys[end++] = view.getUint32(at, true);
      keys[end++] = view.getUint32(at + 4, true);
    }
  }
  return Buffer.concat(buildFuseFilter(keys, bits).encode());
}
