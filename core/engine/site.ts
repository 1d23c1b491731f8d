import { ProtocolError, ShrinkerError } from "../errors.ts";
import type { SiteIndex } from "../index/site-index.ts";
import type { SiteInfo } from "../wire/control.ts";
import type { ContentBroker } from "./broker.ts";
import type { ContentKeeper } from "./keeper.ts";

/** What a destination has from before a session, and keeps of it. It belongs to the session, which closes it. */
export interface DestinationSite {
  /** What the source is told; undefined where there is nothing to tell. */
  readonly info: SiteInfo | undefined;
  readonly brokers: readonly ContentBroker[];
  /** Begins to keep what the session brings. */
  begin(session: Uint8Array): Promise<readonly ContentKeeper[]>;
  /** Copies the digests of contents of earlier logs, by their numbers in `info.logs`, to `target` at `at`. */
  past(first: number, count: number, target: Uint8Array, at: number): void;
  /** The encoded filter of what is held, of `bits` bits a content. */
  summary(bits: 8 | 16): Promise<Uint8Array>;
  /** What the session brings must not be told of as its: nobody is known to have sent it. */
  disown(): void;
  /** Makes what was kept last. */
  close(): Promise<void>;
}

/** Of a destination that holds nothing from before, and keeps nothing. */
export const EMPTY_SITE: DestinationSite = {
  info: undefined,
  brokers: [],
  begin: async () => [],
  past(first) {
    throw new ProtocolError(`The peer refers to content ${first} of earlier sessions, of which none is known here`);
  },
  summary: () => Promise.reject(new ShrinkerError("bug", "There is nothing to summarise")),
  disown() {},
  async close() {},
};

/** Contents of earlier sessions that both ends remember. */
export interface PastContents {
  /** The number, in the destination's `info.logs`, of the digest at `words[at]`; or -1. */
  find(words: Int32Array, at: number): number;
}

/** What a source knows of the site that it has met, for the time of a session. */
export interface SiteKnowledge {
  readonly past: PastContents | undefined;
  readonly index: SiteIndex | undefined;
  readonly keepers: readonly ContentKeeper[];
  close(): Promise<void>;
}

/** What a source remembers of sites. */
export interface SiteMemory {
  /**
   * The destination has said who it is.
   * @param session names the session
   * @param summarize has the destination summarise what it holds; its bytes cross the link
   */
  meet(site: SiteInfo, session: Uint8Array, summarize: (bits: 8 | 16) => Promise<Uint8Array>): Promise<SiteKnowledge>;
}
