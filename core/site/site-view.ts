import { DIGEST_SIZE } from "../content/page.ts";
import { scanContents } from "../engine/scan.ts";
import type { PrefixTable } from "../index/prefix-table.ts";
import type { Piece, StreamInfo } from "../machines/machine.ts";
import { segmentFormats } from "../segment/registry.ts";
import { ContentSet } from "./content-set.ts";
import { PlaceTable } from "./place-table.ts";

/** What a site holds, to compare with. */
export interface SiteView {
  readonly tables: readonly PrefixTable[];
  /** Where the contents of a stream lie, where the site has such a stream. */
  placesOf(info: StreamInfo): PlaceTable | undefined;
}

/** A site that is a list of contents. */
export function listView(tables: readonly PrefixTable[]): SiteView {
  return { tables, placesOf: () => undefined };
}

/** Reads the streams that a site holds: 20 bytes of memory a distinct content (45 meanwhile), and 22 a place. */
export class StreamView implements SiteView {
  readonly #set = new ContentSet();
  readonly #streams: { readonly info: StreamInfo; readonly places: PlaceTable }[] = [];

  async read(info: StreamInfo, pieces: AsyncIterable<Piece>): Promise<void> {
    const format = segmentFormats.get(info.format)!;
    const places = new PlaceTable(format.keyed);
    this.#streams.push({ info, places });
    await scanContents(format.create(), pieces, (block) => {
      places.put(block);
      for (let i = 0; i < block.count; i++) this.#set.add(block.digests, i * DIGEST_SIZE);
    });
  }

  get tables(): readonly PrefixTable[] {
    return [this.#set.table()];
  }

  /** The only stream, or, of several, the one of the same name; where its format is the same. */
  placesOf({ name, format }: StreamInfo): PlaceTable | undefined {
    const only = this.#streams.length === 1 ? this.#streams[0] : undefined;
    const found = only ?? this.#streams.find(({ info }) => info.name === name);
    return found?.info.format === format ? found.places : undefined;
  }
}
