import { Worker } from "node:worker_threads";
import { ShrinkerError } from "../errors.ts";
import { serveWork, type WorkReply, type WorkRequest } from "./worker-server.ts";

/** Milliseconds that the thread outlives its last user. */
const LINGER_MS = 1_000;

/** Who asks for work, as the host knows it. */
export interface WorkClient {
  take(reply: WorkReply): void;
  /** The thread is gone, with the buffers that it had. */
  fail(error: Error): void;
}

/** Serves work, on a thread where one can be had. */
export interface WorkHost {
  post(request: WorkRequest): void;
  /** Counts the replies that clients wait for: while there are some, the thread holds the process, and not longer. */
  owe(change: 1 | -1): void;
  readonly clients: Map<number, WorkClient>;
  stop(): void;
}

/** One host that its users share: it starts with the first of them and ends soon after the last. */
export class SharedHost {
  #current: Promise<WorkHost> | undefined;
  #users = 0;
  #lingering: ReturnType<typeof setTimeout> | undefined;

  get started(): boolean {
    return this.#current !== undefined;
  }

  /** Each user ends with `leave`. */
  enter(): Promise<WorkHost> {
    this.#users++;
    clearTimeout(this.#lingering);
    if (this.#current) return this.#current;
    const started = startThread(() => {
      if (this.#current === started) this.#current = undefined;
    });
    this.#current = started;
    return started;
  }

  leave(): void {
    if (--this.#users > 0) return;
    this.#lingering = setTimeout(() => {
      void this.#current?.then((host) => host.stop());
      this.#current = undefined;
    }, LINGER_MS);
    this.#lingering.unref();
  }
}

/** Of the process: SHA-256 of whole streams, digests of pages, and zstd of pages, a thread each; the last helps the second. */
export const plainHost = new SharedHost();
export const pageHost = new SharedHost();
export const packedHost = new SharedHost();

/** Works on this thread: where threads are not allowed, or the program was bundled without the thread's file. */
function serveHere(): WorkHost {
  const clients = new Map<number, WorkClient>();
  const post = serveWork((reply) => clients.get(reply.id)?.take(reply));
  return { post, owe() {}, clients, stop() {} };
}

/**
 * Resolves once the thread has answered, so that nothing is given to one that doesn't start.
 * @param gone called when a thread that had started has ended by itself
 */
function startThread(gone: () => void): Promise<WorkHost> {
  const started = Promise.withResolvers<WorkHost>();
  let worker: Worker;
  try {
    // The thread's file is next to this one: TypeScript in a checkout, JavaScript where it was built.
    const file = `./worker${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`;
    worker = new Worker(new URL(file, import.meta.url));
  } catch {
    started.resolve(serveHere());
    return started.promise;
  }
  const clients = new Map<number, WorkClient>();
  let ready = false;
  let owed = 0;
  const end = (cause?: unknown) => {
    if (!ready) started.resolve(serveHere());
    else gone();
    for (const client of [...clients.values()]) {
      client.fail(new ShrinkerError("bug", "A worker thread of this program ended; run the command again", { cause }));
    }
  };
  worker.on("error", end);
  worker.on("exit", end);
  worker.on("message", (message: WorkReply | "ready") => {
    if (message !== "ready") return clients.get(message.id)?.take(message);
    ready = true;
    worker.unref();
    started.resolve({
      post: (request) => worker.postMessage(request, transferred(request)),
      owe(change) {
        owed += change;
        if (owed === 0) worker.unref();
        else if (owed === 1 && change > 0) worker.ref();
      },
      clients,
      stop: () => void worker.terminate(),
    });
  });
  return started.promise;
}

function transferred(request: WorkRequest): ArrayBuffer[] {
  if (request.kind === "bytes") return [request.buffer];
  if (request.kind === "packed") return request.room ? [request.packed, request.room] : [request.packed];
  if (request.kind === "pack") return [request.pages];
  return request.kind === "pages" ? [request.pages, request.digests] : [];
}
