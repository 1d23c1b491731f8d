import { connect, type Socket } from "node:net";
import * as v from "valibot";
import { abortReason, LinkError, ProtocolError } from "../../errors.ts";
import { number, text } from "../../wire/map.ts";
import { encodeLine, JsonLines } from "./json-lines.ts";
import { QmpAbsent, QmpError, QmpLost, QmpTimeout, silent, unreachable } from "./qmp-errors.ts";
import { checkSocketPath } from "./socket-path.ts";

export { QmpAbsent, QmpError, QmpLost, QmpTimeout };

/** To connect and be greeted, and for a command's reply, unless told otherwise. */
const DEFAULT_MS = 10_000;

const greetingSchema = v.object({
  QMP: v.object({
    version: v.object({ qemu: v.object({ major: number, minor: number, micro: number }) }),
    capabilities: v.array(v.unknown()),
  }),
});
/** Of a message that isn't the greeting. QEMU adds more to some; a field it lacks stays away. */
const messageSchema = v.object({
  event: v.optional(text(256)),
  data: v.optional(v.record(v.string(), v.unknown())),
  id: v.optional(v.unknown()),
  return: v.optional(v.unknown()),
  error: v.optional(v.object({ class: v.string(), desc: v.string() })),
});

export interface QemuVersion {
  readonly major: number;
  readonly minor: number;
  readonly micro: number;
}

/** Something that happened in QEMU. */
export interface QmpEvent {
  /** Such as `MIGRATION`, `STOP`, `BLOCK_JOB_READY`. */
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface ConnectOptions {
  /** Ends the attempt. */
  readonly signal: AbortSignal;
  /** Milliseconds for all of it; 10 s unless given. */
  readonly timeout?: number;
}

export interface ExecuteOptions {
  /** Milliseconds for the reply; 10 s unless given. */
  readonly timeout?: number;
  /** Has the command served at once, where QEMU can, even while its main loop is held up. Few commands allow that. */
  readonly outOfBand?: boolean;
}

interface Pending {
  readonly command: string;
  readonly timer: ReturnType<typeof setTimeout>;
  readonly done: PromiseWithResolvers<unknown>;
}

/**
 * A client of QEMU's machine protocol (QMP): JSON objects, one a line of at most 4 MiB, over a unix socket. QEMU serves one
 * client a socket. Several commands may be under way. What breaks the protocol ends the connection.
 */
export class QmpClient {
  readonly path: string;
  /** Resolves, never rejects, once the connection has ended, for whatever reason. */
  readonly closed: Promise<void>;
  readonly #ended = Promise.withResolvers<void>();
  readonly #socket: Socket;
  readonly #lines = new JsonLines();
  readonly #greeted = Promise.withResolvers<void>();
  readonly #pending = new Map<number, Pending>();
  readonly #listeners = new Set<(event: QmpEvent) => void>();
  #version: QemuVersion | undefined;
  #outOfBand = false;
  #lastId = 0;
  #failure: Error | undefined;

  private constructor(path: string) {
    this.path = path;
    this.closed = this.#ended.promise;
    let connected = false;
    this.#socket = connect({ path });
    this.#socket.on("connect", () => {
      connected = true;
    });
    this.#socket.on("data", (piece: Uint8Array) => this.#take(piece));
    this.#socket.on("error", (error) => this.#fail(connected ? new QmpLost(path, error) : unreachable(path, error)));
    for (const event of ["end", "close"]) this.#socket.on(event, () => this.#fail(new QmpLost(path)));
  }

  /**
   * Connects to the socket of `-qmp unix:PATH,server=on,wait=off` and waits until QEMU takes commands. Rejects with `usage`
   * for what can't be such a path, a `QmpAbsent` where no QEMU listens there, `input` where that can't be told, a `LinkError` where it is silent or serves somebody
   * else, a `ProtocolError` for what isn't QMP.
   */
  static async connect(path: string, { signal, timeout = DEFAULT_MS }: ConnectOptions): Promise<QmpClient> {
    checkSocketPath(path);
    if (signal.aborted) throw abortReason(signal);
    const client = new QmpClient(path);
    const onAbort = () => client.#fail(abortReason(signal));
    const timer = setTimeout(() => client.#fail(silent(path, timeout)), timeout);
    signal.addEventListener("abort", onAbort);
    try {
      await client.#greeted.promise;
      await client.execute("qmp_capabilities", client.#outOfBand ? { enable: ["oob"] } : {}, { timeout });
      return client;
    } catch (error) {
      await client.close();
      throw error;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Whether the connection has ended. */
  get isClosed(): boolean {
    return this.#failure !== undefined;
  }

  get version(): QemuVersion {
    return this.#version!;
  }

  /**
   * What a command returns, unchecked; integers beyond 2^53 as bigints, where the runtime can. Rejects with a `QmpError`
   * where QEMU refuses, a `QmpTimeout` where it doesn't answer in time, a `QmpLost` once QEMU is gone, and a `LinkError` after `close`.
   */
  execute(
    command: string,
    args: Readonly<Record<string, unknown>> = {},
    options: ExecuteOptions = {},
  ): Promise<unknown> {
    if (this.#failure) return Promise.reject(this.#failure);
    const { timeout = DEFAULT_MS, outOfBand = false } = options;
    const id = ++this.#lastId;
    const done = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      done.reject(new QmpTimeout(command, this.path, timeout));
    }, timeout);
    this.#pending.set(id, { command, timer, done });
    const how = outOfBand && this.#outOfBand ? "exec-oob" : "execute";
    this.#socket.write(encodeLine({ [how]: command, arguments: args, id }));
    return done.promise;
  }

  /** Calls `listener` with every event from now on, in order; it must not throw. Returns what ends that. */
  onEvent(listener: (event: QmpEvent) => void): () => void {
    // Not the listener itself: one that is added twice is two.
    const own = (event: QmpEvent) => listener(event);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** Ends the connection at once, not QEMU. What waits for a reply is rejected. */
  async close(): Promise<void> {
    this.#fail(new LinkError(`The QMP connection at "${this.path}" is closed`));
    await this.closed;
  }

  #take(piece: Uint8Array): void {
    if (this.#failure) return;
    try {
      this.#lines.push(piece, (value) => this.#handle(value));
    } catch (cause) {
      if (!(cause instanceof ProtocolError)) throw cause;
      const hint = this.#version ? "" : "; give the path of a -qmp socket, without pretty=on";
      this.#fail(new ProtocolError(`What is at "${this.path}" does not speak QMP: ${cause.message}${hint}`, { cause }));
    }
  }

  #handle(value: unknown): void {
    if (this.#failure) return;
    if (!this.#version) {
      this.#greet(value);
      return;
    }
    const parsed = v.safeParse(messageSchema, value);
    if (!parsed.success) throw new ProtocolError("a message is neither a reply nor an event");
    const { event, data = {}, id, error, return: returned } = parsed.output;
    if (event !== undefined) {
      for (const listener of [...this.#listeners]) listener({ event, data });
      return;
    }
    // A reply that came too late has an id that nobody knows any more.
    const pending = typeof id === "number" ? this.#pending.get(id) : undefined;
    if (!pending || typeof id !== "number") return;
    this.#pending.delete(id);
    clearTimeout(pending.timer);
    if (error) pending.done.reject(new QmpError(pending.command, error.class, error.desc));
    else pending.done.resolve(returned);
  }

  #greet(value: unknown): void {
    const parsed = v.safeParse(greetingSchema, value);
    if (!parsed.success) throw new ProtocolError("it does not greet as QEMU does");
    const { version, capabilities } = parsed.output.QMP;
    this.#version = version.qemu;
    this.#outOfBand = capabilities.includes("oob");
    this.#greeted.resolve();
  }

  #fail(reason: Error): void {
    if (this.#failure) return;
    this.#failure = reason;
    this.#socket.destroy();
    this.#greeted.reject(reason);
    for (const { timer, done } of this.#pending.values()) {
      clearTimeout(timer);
      done.reject(reason);
    }
    this.#pending.clear();
    this.#listeners.clear();
    this.#ended.resolve();
  }
}
