/**
 * A long way between two ends of TCP or unix sockets: it listens, dials on for each that comes, and delivers what either end
 * sends a while later, in order. What is on its way is bounded by rate x delay, as on a real link, so that whoever sends faster is
 * held back. Its own buffers in the kernel come on top: both ends should be near.
 */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export type Direction = "up" | "down";
type Place = { readonly host: string; readonly port: number } | { readonly path: string };

export interface WanOptions {
  readonly listen: Place;
  /** Where the other end listens. */
  readonly to: Place;
  /** Milliseconds each way: half of what a round trip takes longer. */
  readonly delay: number;
  /** Bytes a second that the way is meant for: with the delay, it bounds what is on its way in each direction of a connection. */
  readonly rate: number;
  /** Called before each delivery with the bytes of that direction, this delivery's included, over all connections: to act at a certain byte. */
  readonly onDelivery?: (direction: Direction, bytes: number) => void;
}

export interface Wan {
  /** Where it listens; 0 for a unix socket. */
  readonly port: number;
  /** The most bytes that were on their way at once in one direction of a connection. */
  readonly peak: number;
  /** Drops the connections that there are, and what is on its way; new ones are made as before. */
  cut(): void;
  /** Silent while on: nothing is delivered either way, and nothing breaks. */
  stall(on: boolean): void;
  close(): Promise<void>;
}

/** Below this a queue would hold a sender back before a delay does. */
const LEAST_BYTES = 64 << 10;

interface Link {
  drop(): void;
  /** Delivers what is due both ways, unless the far end or a stall holds it back. */
  deliver(): void;
}

/** Starts to listen. Rejects where it cannot. */
export async function startWan({ listen, to, delay, rate, onDelivery }: WanOptions): Promise<Wan> {
  const capacity = Math.max(LEAST_BYTES, (rate * delay) / 1000);
  const bytes = { up: 0, down: 0 };
  const open = new Set<Link>();
  let stalled = false;
  let peak = 0;

  function pass(from: Socket, into: Socket, direction: Direction): () => void {
    const queue: { readonly due: number; readonly piece: Buffer | undefined }[] = [];
    let held = 0;
    let blocked = false;
    let timer: NodeJS.Timeout | undefined;
    const arrive = (piece: Buffer | undefined) => {
      queue.push({ due: performance.now() + delay, piece });
      held += piece?.length ?? 0;
      peak = Math.max(peak, held);
      if (held >= capacity) from.pause();
      deliver();
    };
    const deliver = () => {
      clearTimeout(timer);
      for (let next = queue[0]; next && !blocked && !stalled && !into.destroyed; next = queue[0]) {
        const left = next.due - performance.now();
        if (left > 0) {
          timer = setTimeout(deliver, Math.ceil(left));
          return;
        }
        queue.shift();
        if (next.piece === undefined) into.end();
        else send(next.piece);
      }
    };
    const send = (piece: Buffer) => {
      bytes[direction] += piece.length;
      onDelivery?.(direction, bytes[direction]);
      if (into.destroyed) return; // The caller has cut it.
      blocked = !into.write(piece);
      held -= piece.length;
      if (held < capacity) from.resume();
    };
    from.on("data", arrive).on("end", () => arrive(undefined));
    into.on("close", () => clearTimeout(timer));
    into.on("drain", () => {
      blocked = false;
      deliver();
    });
    return deliver;
  }

  function link(near: Socket): void {
    const far = connect({ ...to, allowHalfOpen: true });
    const ends = [near, far];
    const ways = [pass(near, far, "up"), pass(far, near, "down")];
    const one: Link = {
      drop: () => ends.forEach((end) => void end.destroy()),
      deliver: () => ways.forEach((deliver) => void deliver()),
    };
    open.add(one);
    for (const end of ends) {
      end.setNoDelay(true);
      end.on("error", one.drop);
      // The first to close may have bytes under way to the other, which closes after them.
      end.on("close", () => {
        if (near.closed && far.closed) open.delete(one);
      });
    }
  }

  const server = createServer({ allowHalfOpen: true }, link);
  server.listen(listen);
  await once(server, "listening");
  const cut = () => {
    for (const one of open) one.drop();
  };
  const address = server.address();
  return {
    port: typeof address === "object" && address ? address.port : 0,
    get peak() {
      return peak;
    },
    cut,
    stall(on) {
      stalled = on;
      if (!on) for (const one of open) one.deliver();
    },
    async close() {
      const closed = once(server, "close");
      server.close();
      cut();
      await closed;
    },
  };
}
