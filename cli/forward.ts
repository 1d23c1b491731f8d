import type { Sender } from "../core/engine/sender.ts";
import type { ShrinkerError } from "../core/errors.ts";
import type { Connection, Listener } from "../core/transport/transport.ts";
import type { TunnelEntrance } from "../core/tunnel/entrance.ts";
import { asError } from "./exit.ts";
import type { Output } from "./output.ts";
import type { ServiceSpec } from "./services.ts";

export interface ForwardOptions {
  readonly entrance: TunnelEntrance;
  readonly sender: Sender;
  readonly output: Output;
}

/** A service and where its connections come from. */
export type Entry = readonly [ServiceSpec, Listener];

/** Accepts connections to services and carries them through a session. */
export class Forwarder {
  /** How many there were, and how many of them broke. */
  readonly counts = { connections: 0, failed: 0 };
  /** What broke the first one that broke. */
  failure: ShrinkerError | undefined;
  /** Rejects when nothing can be accepted any more, with why. */
  readonly accepting: Promise<unknown>;
  readonly #options: ForwardOptions;
  readonly #entries: readonly Entry[];
  readonly #running = new Set<Promise<void>>();
  readonly #idle = Promise.withResolvers<void>();
  #ending = false;

  constructor(entries: readonly Entry[], options: ForwardOptions) {
    this.#options = options;
    this.#entries = entries;
    this.accepting = Promise.all(entries.map((entry) => this.#accept(entry)));
    this.accepting.catch(() => {});
  }

  /** Resolves when none is left, once there was one. */
  get idle(): Promise<void> {
    return this.#idle.promise;
  }

  /** Takes no more. Resolves when those that are carried have ended. */
  async end(): Promise<void> {
    this.#ending = true;
    await Promise.all(this.#entries.map(([, listener]) => listener.close()));
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  async #accept([service, listener]: Entry): Promise<void> {
    const { entrance } = this.#options;
    for (;;) {
      const local = await listener.accept();
      if (!local) return;
      while (entrance.full && !this.#ending) await entrance.left();
      if (this.#ending) {
        await local.destroy();
        continue;
      }
      const carried = this.#carry(service, local);
      this.#running.add(carried);
      void carried.then(() => {
        this.#running.delete(carried);
        if (this.#running.size === 0) this.#idle.resolve();
      });
    }
  }

  async #carry({ name, format }: ServiceSpec, local: Connection): Promise<void> {
    const { entrance, sender, output } = this.#options;
    const number = ++this.counts.connections;
    const about = { service: name, connection: number };
    output.event({ type: "connection", ...about });
    try {
      await entrance.carry(sender, local, { service: name, format });
      output.event({ type: "closed", ...about });
    } catch (thrown) {
      const error = asError(thrown);
      this.counts.failed++;
      this.failure ??= error;
      output.note(`${name}: connection ${number} broke: ${error.message}`);
      output.event({ type: "broken", ...about, code: error.code, message: error.message });
    }
  }
}
