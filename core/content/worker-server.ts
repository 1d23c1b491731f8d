import { createHash, type Hash } from "node:crypto";
import { digestPacked, digestPages, packPages } from "./pages.ts";

/** What is asked for the client `id`. Requests of one stream's digest are served in order. */
export type WorkRequest =
  | {
      readonly id: number;
      readonly kind: "bytes";
      readonly buffer: ArrayBuffer;
      readonly start: number;
      readonly end: number;
    }
  | { readonly id: number; readonly kind: "zeros"; readonly length: number }
  | { readonly id: number; readonly kind: "digest" }
  | { readonly id: number; readonly kind: "drop" }
  /** Served at once, whatever waits: the digests of the first `count` pages of `pages`, into `digests`. */
  | {
      readonly id: number;
      readonly kind: "pages";
      readonly pages: ArrayBuffer;
      readonly count: number;
      readonly digests: ArrayBuffer;
    }
  /** The same for pages that are to be decompressed first: the zstd frame in `packed[start, end)`. */
  | {
      readonly id: number;
      readonly kind: "packed";
      readonly packed: ArrayBuffer;
      readonly start: number;
      readonly end: number;
      readonly count: number;
      /** Memory for them that is there already. */
      readonly room?: ArrayBuffer | undefined;
    }
  /** Compresses the first `count` pages to a zstd frame. */
  | {
      readonly id: number;
      readonly kind: "pack";
      readonly pages: ArrayBuffer;
      readonly count: number;
      readonly level: number;
    };

/**
 * What comes back: each buffer once it is hashed, in order, the 32 bytes of a digest that was asked for, pages with their
 * digests, or why there are none.
 */
export type WorkReply =
  | { readonly id: number; readonly kind: "buffer"; readonly buffer: ArrayBuffer }
  | { readonly id: number; readonly kind: "digest"; readonly digest: Uint8Array }
  | { readonly id: number; readonly kind: "pages"; readonly pages: ArrayBuffer; readonly digests: ArrayBuffer }
  | {
      readonly id: number;
      readonly kind: "unpacked";
      readonly pages: ArrayBuffer;
      readonly digests: ArrayBuffer;
      readonly packed: ArrayBuffer;
    }
  | { readonly id: number; readonly kind: "packed"; readonly pages: ArrayBuffer; readonly packed: ArrayBuffer }
  | { readonly id: number; readonly kind: "failed"; readonly message: string };

/** Requests that are queued: those of one digest, in order. */
type Queued = Exclude<WorkRequest, { kind: "drop" | "pages" | "packed" | "pack" }>;

interface Job {
  readonly hash: Hash;
  readonly queue: Queued[];
  /** How much of the run of zeros at the head of the queue is hashed. */
  zeros: number;
}

const ZEROS = new Uint8Array(1 << 20);
/** Zeros hashed in one turn: about 10 ms, so that a terabyte of them holds up nobody else. */
const ZERO_TURN = 16 << 20;

/** Hashes many streams, a piece of each in turn, and serves pages at once. Returns what takes a request. */
export function serveWork(reply: (reply: WorkReply, transfer: ArrayBuffer[]) => void) {
  const jobs = new Map<number, Job>();
  let turning = false;

  function step(id: number, job: Job): void {
    const request = job.queue[0]!;
    if (request.kind === "zeros") {
      const stop = Math.min(request.length, job.zeros + ZERO_TURN);
      while (job.zeros < stop) {
        const length = Math.min(ZEROS.length, stop - job.zeros);
        job.hash.update(length === ZEROS.length ? ZEROS : ZEROS.subarray(0, length));
        job.zeros += length;
      }
      if (job.zeros < request.length) return;
      job.zeros = 0;
    } else if (request.kind === "bytes") {
      job.hash.update(new Uint8Array(request.buffer, request.start, request.end - request.start));
      reply({ id, kind: "buffer", buffer: request.buffer }, [request.buffer]);
    } else {
      const digest = new Uint8Array(job.hash.digest());
      reply({ id, kind: "digest", digest }, [digest.buffer]);
      jobs.delete(id);
    }
    job.queue.shift();
  }

  function turn(): void {
    let left = false;
    for (const [id, job] of jobs) {
      if (job.queue.length > 0) step(id, job);
      left ||= job.queue.length > 0;
    }
    turning = left;
    if (left) setImmediate(turn);
  }

  return (request: WorkRequest): void => {
    if (request.kind === "pages") {
      const { id, pages, count, digests } = request;
      digestPages(pages, count, new Uint8Array(digests));
      reply({ id, kind: "pages", pages, digests }, [pages, digests]);
      return;
    }
    if (request.kind === "pack") {
      const { id, pages, count, level } = request;
      const packed = packPages(pages, count, level);
      reply({ id, kind: "packed", pages, packed }, [pages, packed]);
      return;
    }
    if (request.kind === "packed") {
      const { id, packed, start, end, count, room } = request;
      try {
        const { pages, digests } = digestPacked(new Uint8Array(packed, start, end - start), count, room);
        reply({ id, kind: "unpacked", pages, digests, packed }, [pages, digests, packed]);
      } catch (error) {
        reply({ id, kind: "failed", message: (error as Error).message }, []);
      }
      return;
    }
    let job = jobs.get(request.id);
    if (request.kind === "drop") {
      // Who waits for a buffer gets it, hashed or not.
      for (const queued of job?.queue ?? []) {
        if (queued.kind === "bytes") reply({ id: queued.id, kind: "buffer", buffer: queued.buffer }, [queued.buffer]);
      }
      jobs.delete(request.id);
      return;
    }
    if (!job) {
      job = { hash: createHash("sha256"), queue: [], zeros: 0 };
      jobs.set(request.id, job);
    }
    job.queue.push(request);
    if (!turning) turn();
  };
}
