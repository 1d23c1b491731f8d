import { CancelledError, IntegrityError, ShrinkerError } from "../errors.ts";
import { digestPacked, digestPages, packPages } from "./pages.ts";
import { pageHost, type SharedHost, type WorkHost } from "./worker-host.ts";
import type { WorkReply, WorkRequest } from "./worker-server.ts";

/** Fewer pages are digested here: the way to the thread and back takes longer. */
const MIN_AWAY = 16;
/** Pages that come before a thread is started: the start takes longer than they do. */
const FEW_PAGES = 2048;

/** Pages and their digests, in memory of their own that may be transferred to another thread. */
export interface DigestedPages {
  readonly pages: ArrayBuffer;
  /** 32 bytes a page. */
  readonly digests: ArrayBuffer;
}

/** Pages, their digests, and what they were decompressed from. */
export interface UnpackedPages extends DigestedPages {
  readonly packed: ArrayBuffer;
}

/** Pages, and the zstd frame that they were compressed to. */
export interface PackedPages {
  readonly pages: ArrayBuffer;
  readonly packed: ArrayBuffer;
}

let lastId = 0;

/**
 * Digests, compresses and decompresses pages by hundreds, on a thread beside the one that cuts and looks them up: that is most of what a
 * page costs, and takes more than one core.
 */
export class PageWorker {
  readonly #id = --lastId;
  readonly #shared: SharedHost;
  readonly #away: PromiseWithResolvers<WorkReply>[] = [];
  #host: WorkHost | undefined;
  #entered = false;
  #closed = false;
  #seen = 0;
  #error: Error | undefined;

  /** @param shared the thread, which others may have started; it is started for whoever has much to do */
  constructor(shared = pageHost) {
    this.#shared = shared;
    if (shared.started) this.#enter();
  }

  /**
   * Digests the first `count` pages. Resolves, in the order of the calls, with the same memory: what was given is
   * detached meanwhile. Rejects where the thread has failed or this is closed; the memory is lost then.
   */
  async digest(pages: ArrayBuffer, count: number, digests: ArrayBuffer): Promise<DigestedPages> {
    const host = this.#hostFor(count);
    // Until the thread has started, pages are digested here.
    if (!host || (count < MIN_AWAY && this.#away.length === 0)) {
      digestPages(pages, count, new Uint8Array(digests));
      return { pages, digests };
    }
    return this.#ask(host, { id: this.#id, kind: "pages", pages, count, digests }, "pages");
  }

  /**
   * Decompresses `count` pages from the zstd frame `packed`, whose memory is given away whole and comes back, and digests
   * them. Rejects with an `IntegrityError` where it holds anything else.
   * @param room memory that the pages come back in where it is larger than they are; it is given away as well
   */
  async decode(packed: Uint8Array<ArrayBuffer>, count: number, room?: ArrayBuffer): Promise<UnpackedPages> {
    const host = this.#hostFor(count);
    if (!host) {
      try {
        return { ...digestPacked(packed, count, room), packed: packed.buffer };
      } catch (error) {
        throw undecodable((error as Error).message);
      }
    }
    const { buffer, byteOffset: start, byteLength } = packed;
    const request = {
      id: this.#id,
      kind: "packed",
      packed: buffer,
      start,
      end: start + byteLength,
      count,
      room,
    } as const;
    return this.#ask(host, request, "unpacked");
  }

  /** Compresses the first `count` pages to a zstd frame. The pages come back, as `digest` gives them back. */
  async pack(pages: ArrayBuffer, count: number, level: number): Promise<PackedPages> {
    const host = this.#hostFor(count);
    if (!host) return { pages, packed: packPages(pages, count, level) };
    return this.#ask(host, { id: this.#id, kind: "pack", pages, count, level }, "packed");
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#fail(new CancelledError("the pages' digests are not wanted any more"));
    this.#host?.clients.delete(this.#id);
    if (this.#entered) this.#shared.leave();
  }

  /** The thread for so many more pages, once it runs. Throws where it has failed, or this is closed. */
  #hostFor(count: number): WorkHost | undefined {
    if (this.#error) throw this.#error;
    this.#seen += count;
    if (this.#seen > FEW_PAGES) this.#enter();
    return this.#host;
  }

  #enter(): void {
    if (this.#entered) return;
    this.#entered = true;
    void this.#shared.enter().then((host) => {
      if (this.#error) return;
      this.#host = host;
      host.clients.set(this.#id, { take: (reply) => this.#take(reply), fail: (error) => this.#fail(error) });
    });
  }

  async #ask<K extends WorkReply["kind"]>(
    host: WorkHost,
    request: WorkRequest,
    kind: K,
  ): Promise<Extract<WorkReply, { kind: K }>> {
    const back = Promise.withResolvers<WorkReply>();
    this.#away.push(back);
    host.owe(1);
    host.post(request);
    const reply = await back.promise;
    if (reply.kind !== kind) throw new ShrinkerError("bug", `A thread answers ${kind} with ${reply.kind}`);
    return reply as Extract<WorkReply, { kind: K }>;
  }

  #take(reply: WorkReply): void {
    const back = this.#away.shift();
    if (!back) return;
    this.#host?.owe(-1);
    if (reply.kind === "failed") back.reject(undecodable(reply.message));
    else back.resolve(reply);
  }

  #fail(error: Error): void {
    this.#error ??= error;
    for (const back of this.#away.splice(0)) {
      this.#host?.owe(-1);
      back.promise.catch(() => {});
      back.reject(error);
    }
  }
}

function undecodable(why: string): IntegrityError {
  return new IntegrityError(`Pages can't be decompressed: ${why}`);
}
