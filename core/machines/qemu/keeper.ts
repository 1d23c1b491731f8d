import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import * as v from "valibot";
import { fileError } from "../../errors.ts";
import { text } from "../../wire/map.ts";
import { encodeLine, JsonLines, MAX_LINE } from "./json-lines.ts";
import { type ExecuteOptions, type QmpClient, QmpError } from "./qmp.ts";
import { checkSocketPath } from "./socket-path.ts";
import { migrationStatus } from "./status.ts";

/** Commands that QEMU has not answered. At eight, those of earlier clients too, it would read none any more, not even out of band. */
const MAX_PENDING = 4;
/** A command may wait as long as the guest does; timers can't have more. */
const PATIENCE_MS = 2 ** 31 - 1;
/** Bytes that wait for a client that doesn't read. */
const MAX_UNREAD = 2 * MAX_LINE;
/** How often it is looked whether this is still needed; and how often QEMU has to say in a row that there is no post-copy. */
export const POLL_MS = 500;
const QUIET_POLLS = 4;
const FIRST_POLLS = 20;
/** Statuses of a migration for which nobody can do anything any more. */
const OVER: ReadonlySet<string> = new Set(["completed", "failed", "cancelled"]);

const requestSchema = v.object({
  execute: v.optional(text(256)),
  "exec-oob": v.optional(text(256)),
  arguments: v.optional(v.record(v.string(), v.unknown()), {}),
  id: v.optional(v.unknown()),
});

export interface KeeperOptions {
  /** Where it listens: a path that is made, in a folder that nobody else may enter, and removed. */
  readonly socket: string;
  /** Whether a client may still come. */
  readonly wanted: () => boolean;
  /** Milliseconds from one look at QEMU to the next while there is no client: 500 unless given. */
  readonly pollMs?: number;
}

/**
 * Serves a connection to QEMU to one client after the other, as QEMU itself serves a socket. QEMU's main loop waits where it
 * needs a page of a guest that post-copy has not brought yet; then it takes no new client, as it can't agree on capabilities
 * with it, but still does what comes out of band over a connection from before. This is such a one, which outlives its clients.
 */
export class QmpKeeper {
  /** Resolves, never rejects, once it is over: QEMU has closed the connection, or nobody needs this one any more. */
  readonly closed: Promise<void>;
  readonly #qmp: QmpClient;
  readonly #socket: string;
  readonly #wanted: () => boolean;
  readonly #pollMs: number;
  readonly #server: Server;
  readonly #ended = Promise.withResolvers<void>();
  #client: Socket | undefined;
  /** One whose predecessor has not gone yet. */
  #next: Socket | undefined;
  #pending = 0;
  #looking: Promise<void> | undefined;
  /** How often in a row there was neither a client nor a post-copy; the first client gets some time more. */
  #quiet = -FIRST_POLLS;
  #listens = false;
  #over = false;

  private constructor(qmp: QmpClient, { socket, wanted, pollMs = POLL_MS }: KeeperOptions) {
    this.closed = this.#ended.promise;
    this.#qmp = qmp;
    this.#socket = socket;
    this.#wanted = wanted;
    this.#pollMs = pollMs;
    this.#server = createServer((client) => this.#greet(client));
    qmp.onEvent(({ event, data }) => this.#tell(this.#client, { event, data }));
    void qmp.closed.then(() => this.#end());
  }

  /** @param qmp a connection that is nobody else's; closed in the end. Rejects with why it can't listen. */
  static async start(qmp: QmpClient, options: KeeperOptions): Promise<QmpKeeper> {
    const { socket } = options;
    checkSocketPath(socket);
    const keeper = new QmpKeeper(qmp, options);
    const listening = Promise.withResolvers<void>();
    keeper.#server.on("error", (cause) => listening.reject(fileError("Cannot listen at", socket, cause)));
    keeper.#server.on("listening", () => {
      keeper.#listens = true;
      listening.resolve();
    });
    // The runtimes bind within this call, so the socket is this user's alone from its first moment on.
    const mask = process.umask(0o177);
    try {
      keeper.#server.listen(socket);
    } finally {
      process.umask(mask);
    }
    try {
      await listening.promise;
    } catch (error) {
      keeper.#end();
      throw error;
    }
    void keeper.#watch();
    return keeper;
  }

  #greet(client: Socket): void {
    client.on("error", () => {});
    client.on("close", () => this.#left(client));
    if (this.#client) {
      this.#next?.destroy();
      this.#next = client;
    } else this.#serve(client);
  }

  #serve(client: Socket): void {
    this.#client = client;
    this.#quiet = 0;
    const lines = new JsonLines();
    client.on("data", (piece: Uint8Array) => {
      try {
        lines.push(piece, (value) => void this.#run(client, v.parse(requestSchema, value)));
      } catch {
        client.destroy();
      }
    });
    this.#tell(client, { QMP: { version: { qemu: this.#qmp.version, package: "" }, capabilities: ["oob"] } });
  }

  #left(client: Socket): void {
    if (client === this.#next) this.#next = undefined;
    if (client !== this.#client) return;
    const next = this.#next;
    this.#client = this.#next = undefined;
    if (next) this.#serve(next);
    else this.#look();
  }

  /** Runs a command and passes the reply on. What is one too many is not answered, as by a QEMU that waits. */
  async #run(client: Socket, request: v.InferOutput<typeof requestSchema>): Promise<void> {
    const { execute, "exec-oob": atOnce, arguments: args, id } = request;
    const command = atOnce ?? execute;
    if (command === undefined) return void client.destroy();
    if (command === "qmp_capabilities") return this.#tell(client, { return: {}, id });
    if (atOnce === undefined && this.#pending >= MAX_PENDING) return;
    try {
      const returned = await this.#execute(command, args, { outOfBand: atOnce !== undefined });
      this.#tell(client, { return: returned, id });
    } catch (error) {
      // Otherwise the connection has ended, and so does this.
      if (error instanceof QmpError) this.#tell(client, { error: { class: error.class, desc: error.desc }, id });
    }
  }

  async #execute(command: string, args: Readonly<Record<string, unknown>>, options: ExecuteOptions): Promise<unknown> {
    if (!options.outOfBand) this.#pending++;
    try {
      return await this.#qmp.execute(command, args, { ...options, timeout: PATIENCE_MS });
    } finally {
      if (!options.outOfBand) this.#pending--;
    }
  }

  #tell(client: Socket | undefined, message: object): void {
    if (!client || client !== this.#client || client.destroyed) return;
    client.write(encodeLine(message));
    if (client.writableLength > MAX_UNREAD) client.destroy();
  }

  /** While nobody is connected: ends where nobody will be, or where QEMU takes clients itself. */
  async #watch(): Promise<void> {
    for (; !this.#over; await sleep(this.#pollMs)) {
      this.#look();
      if (this.#quiet >= QUIET_POLLS) this.#end();
    }
  }

  #look(): void {
    if (this.#client || this.#over) return;
    if (!this.#wanted()) this.#end();
    else if (!this.#looking) this.#looking = this.#ask().finally(() => (this.#looking = undefined));
  }

  /** Asks how the migration is, which may take until QEMU has a page that it waits for. Never rejects. */
  async #ask(): Promise<void> {
    if (this.#pending >= MAX_PENDING) return;
    this.#pending++;
    try {
      const { status } = await migrationStatus(this.#qmp, { timeout: PATIENCE_MS });
      this.#quiet = this.#client || status.startsWith("postcopy") ? 0 : this.#quiet + 1;
      if (!this.#client && OVER.has(status)) this.#end();
    } catch {
      // It has ended, and so does this.
    } finally {
      this.#pending--;
    }
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#server.close();
    for (const client of [this.#client, this.#next]) client?.destroy();
    // Not every runtime does. What was there before is another's.
    if (this.#listens) rmSync(this.#socket, { force: true });
    void this.#qmp.close().then(() => this.#ended.resolve());
  }
}
