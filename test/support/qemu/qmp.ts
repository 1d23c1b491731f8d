/** A client of QEMU's machine protocol (QMP): one JSON object a line over a unix socket. For the tests' own use. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";

export interface QmpEvent {
  readonly event: string;
  readonly data: Record<string, unknown>;
  /** QEMU's own time, in milliseconds since 1970. */
  readonly at: number;
}

export interface Qmp {
  /** Runs a command and gives what it returns; throws with QEMU's own words where it refuses. */
  execute<T = unknown>(command: string, parameters?: Record<string, unknown>): Promise<T>;
  /** All events so far, in order. */
  readonly history: readonly QmpEvent[];
  /** How many have come so far. */
  readonly events: number;
  /** The first event of that name and data, among those to come and those that came after the first `after`. */
  event(name: string, matches?: (data: QmpEvent["data"]) => boolean, after?: number): Promise<QmpEvent>;
  close(): void;
}

interface Message {
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly id?: number;
  readonly event?: string;
  readonly data?: Record<string, unknown>;
  readonly timestamp?: { readonly seconds: number; readonly microseconds: number };
}

/** Speaks with the QEMU that listens at `path` and waits until it takes commands. */
export async function connectQmp(path: string): Promise<Qmp> {
  const socket: Socket = connect(path);
  await once(socket, "connect");
  const events: QmpEvent[] = [];
  const replies = new Map<number, PromiseWithResolvers<unknown>>();
  const waiting = new Set<{ matches: (event: QmpEvent) => boolean; found: PromiseWithResolvers<QmpEvent> }>();
  let last = 0;
  let closed: Error | undefined;

  const onLine = (line: string) => {
    const message = JSON.parse(line) as Message;
    if (message.event !== undefined) {
      const { seconds = 0, microseconds = 0 } = message.timestamp ?? {};
      const event = { event: message.event, data: message.data ?? {}, at: seconds * 1000 + microseconds / 1000 };
      events.push(event);
      for (const waiter of waiting) if (waiter.matches(event)) waiter.found.resolve(event);
    } else if (message.id !== undefined) {
      const reply = replies.get(message.id);
      replies.delete(message.id);
      if (message.error) reply?.reject(new Error(message.error.desc));
      else reply?.resolve(message.return);
    }
  };
  const onClose = () => {
    closed = new Error(`QEMU closed its QMP connection at ${path}`);
    for (const reply of replies.values()) reply.reject(closed);
    for (const { found } of waiting) found.reject(closed);
  };
  // A QEMU that is killed may reset the connection; what waits on it learns so from "close".
  createInterface({ input: socket })
    .on("line", onLine)
    .on("error", () => {});
  socket.on("error", () => {}).on("close", onClose);

  const execute = async <T>(command: string, parameters: Record<string, unknown> = {}): Promise<T> => {
    if (closed) throw closed;
    const id = ++last;
    const reply = Promise.withResolvers<unknown>();
    replies.set(id, reply);
    socket.write(`${JSON.stringify({ execute: command, arguments: parameters, id })}\n`);
    try {
      return (await reply.promise) as T;
    } catch (cause) {
      throw new Error(`${command}: ${(cause as Error).message}`, { cause });
    }
  };
  const event: Qmp["event"] = async (name, matchesData = () => true, after = 0) => {
    const matches = (one: QmpEvent) => one.event === name && matchesData(one.data);
    const seen = events.slice(after).find(matches);
    if (seen) return seen;
    if (closed) throw closed;
    const waiter = { matches, found: Promise.withResolvers<QmpEvent>() };
    waiting.add(waiter);
    return await waiter.found.promise.finally(() => waiting.delete(waiter));
  };

  await execute("qmp_capabilities");
  return {
    execute,
    event,
    history: events,
    get events() {
      return events.length;
    },
    close: () => void socket.destroy(),
  };
}
