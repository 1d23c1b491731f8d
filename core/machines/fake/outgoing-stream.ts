import { setTimeout as sleep, setImmediate as yieldToEvents } from "node:timers/promises";
import { CHANNEL_ERROR, type Channel, type ChannelAddress, connectChannel } from "./channel.ts";
import type { GuestMemory } from "./memory.ts";
import { ReturnPath } from "./return-path.ts";
import { StreamWriter } from "./stream-writer.ts";

/** How long the processor is kept before timers and sockets have their turn, in milliseconds. */
const TURN_MS = 4;

export interface OutgoingStreamOptions {
  readonly memory: GuestMemory;
  /** Whether the destination is to answer. */
  readonly returnPath: boolean;
  /** The connection is of no more use; told at once, whatever is going on. */
  lost(reason: string): void;
  /** Called now and then while pieces are sent. */
  sent(): void;
}

/** A stream that is written to a socket, as fast as that takes it, and what comes back. */
export class OutgoingStream {
  readonly writer: StreamWriter;
  readonly returnPath: ReturnPath | undefined;
  readonly #options: OutgoingStreamOptions;
  readonly #abort = new AbortController();
  readonly #aborted: Promise<never>;
  #channel: Channel | undefined;
  #failure: string | undefined;
  #lastTurn = performance.now();
  #wake: () => void = () => {};
  /** What the connection does from now on concerns nobody. */
  #over = false;

  constructor(options: OutgoingStreamOptions) {
    this.#options = options;
    this.writer = new StreamWriter(options.memory);
    this.returnPath = options.returnPath ? new ReturnPath() : undefined;
    this.#aborted = new Promise((_, reject) => {
      this.#abort.signal.addEventListener("abort", () => reject(new Error(CHANNEL_ERROR)));
    });
    this.#aborted.catch(() => {});
  }

  /** Rejects in QEMU's words. */
  async connect(address: ChannelAddress): Promise<void> {
    const channel = await connectChannel(address, this.#abort.signal);
    this.#channel = channel;
    channel.onData((bytes) => this.#hear(bytes));
    channel.onEnd(() => {
      if (this.returnPath && !this.returnPath.outcome) this.#lose(CHANNEL_ERROR);
      this.#wake();
    });
  }

  /** Throws once the stream is aborted or lost. */
  check(): void {
    if (this.#abort.signal.aborted || this.#channel?.broken) throw new Error(CHANNEL_ERROR);
    if (this.#failure !== undefined) throw new Error(this.#failure);
  }

  /** Sends what was written, and waits until the socket can take more. */
  async flush(): Promise<void> {
    this.check();
    await this.#channel!.write(this.writer.take());
    if (performance.now() - this.#lastTurn < TURN_MS) return;
    this.#options.sent();
    await yieldToEvents();
    this.#lastTurn = performance.now();
  }

  /** Waits until the destination has the guest; rejects where it says that it hasn't, or nothing. */
  async awaitOutcome(): Promise<void> {
    const { returnPath } = this;
    if (!returnPath) return;
    while (!returnPath.outcome) {
      this.check();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (returnPath.outcome === "failed") throw new Error("The destination could not load the guest");
  }

  /** Rejects where the stream is aborted meanwhile. */
  async wait(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#abort.signal });
  }

  /** Waits for something that may never come, until the stream is aborted; it is not looked at whether it is lost. */
  async until(event: Promise<void>): Promise<void> {
    await Promise.race([event, this.#aborted]);
  }

  /** Takes nothing more from the destination. */
  stall(): void {
    this.#channel?.stall();
  }

  /** Ends it in order. */
  async end(): Promise<void> {
    this.#over = true;
    await this.#channel?.end();
  }

  /** Breaks it off: what waits is rejected. */
  readonly abort = (): void => {
    this.#over = true;
    this.#abort.abort();
    this.#channel?.destroy();
    this.#wake();
  };

  #hear(bytes: Uint8Array): void {
    try {
      this.returnPath?.push(bytes);
    } catch (error) {
      this.#lose((error as Error).message);
      this.#channel?.destroy();
    }
    this.#wake();
  }

  #lose(reason: string): void {
    if (this.#over || this.#failure !== undefined) return;
    this.#failure = reason;
    this.#options.lost(reason);
  }
}
