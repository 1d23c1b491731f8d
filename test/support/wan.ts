/**
 * A long way between two ends of TCP or unix sockets: it listens, dials on for each that comes, and delivers what either end
 * sends a while later, in order. Its connections share the rate in each direction, as those over a real link. It ends the
 * connections at either side, so that delay and losses do to them what `path.ts` says, not what a kernel would do; where the
 * kernel has netem, that is better. Its own buffers in the kernel come on top: both ends should be near.
 */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { Path, TcpFlow } from "./path.ts";

export type Direction = "up" | "down";
type Place = { readonly host: string; readonly port: number } | { readonly path: string };

export interface WanOptions {
  readonly listen: Place;
  /** Where the other end listens. */
  readonly to: Place;
  /** Milliseconds each way: half of what a round trip takes longer. */
  readonly delay: number;
  /** Bytes a second in each direction, of all connections together. */
  readonly rate: number;
  /**
   * Bytes that one connection may have on its way, once it has grown to that as TCP does. Without it a connection has twice what
   * fills the way, from its beginning: with no more than that, each millisecond by which this process is late would be lost.
   */
  readonly window?: number;
  /** The part of the packets that is lost; only with a `window`. */
  readonly loss?: number;
  /** Called before each delivery with the bytes of that direction, this delivery's included, over all connections: to act at a certain byte. */
  readonly onDelivery?: (direction: Direction, bytes: number) => void;
}

export interface Wan {
  /** Where it listens; 0 for a unix socket. */
  readonly port: number;
  /** The most bytes that were here at once in one direction of a connection. */
  readonly peak: number;
  /** Drops the connections that there are, and what is on its way; new ones are made as before. */
  cut(): void;
  /** Silent while on: nothing is delivered either way, and nothing breaks. */
  stall(on: boolean): void;
  close(): Promise<void>;
}

/** What may wait to be sent; and a way has no less on it. */
const LEAST_BYTES = 64 << 10;

interface Link {
  drop(): void;
  /** Delivers what is due both ways, unless the far end or a stall holds it back. */
  deliver(): void;
}

/** What a connection that fills the way from its beginning may have on it. */
function fixed(window: number): Pick<TcpFlow, "room" | "sent" | "acknowledged"> {
  let inFlight = 0;
  return {
    get room() {
      return Math.max(0, window - inFlight);
    },
    sent(bytes) {
      inFlight += bytes;
      return 0;
    },
    acknowledged(bytes) {
      inFlight -= bytes;
    },
  };
}

/** Starts to listen. Rejects where it cannot. */
export async function startWan({ listen, to, delay, rate, window, loss = 0, onDelivery }: WanOptions): Promise<Wan> {
  const roundTrip = 2 * delay;
  const paths = { up: new Path(rate, delay), down: new Path(rate, delay) };
  const newFlow = () =>
    window === undefined
      ? fixed(Math.max(LEAST_BYTES, (2 * rate * roundTrip) / 1000))
      : new TcpFlow({ window, loss, roundTrip, random: Math.random });
  const bytes = { up: 0, down: 0 };
  const open = new Set<Link>();
  let stalled = false;
  let peak = 0;

  function pass(from: Socket, into: Socket, direction: Direction): () => void {
    const flow = newFlow();
    const unsent: Buffer[] = [];
    const flight: { readonly due: number; readonly piece: Buffer }[] = [];
    const acknowledgements: { readonly due: number; readonly bytes: number }[] = [];
    let waiting = 0;
    let held = 0;
    let last = 0;
    let ended = false;
    let blocked = false;
    let timer: NodeJS.Timeout | undefined;

    function send(now: number): void {
      for (let next = unsent[0]; next && flow.room > 0; next = unsent[0]) {
        const part = next.subarray(0, Math.max(1, Math.floor(flow.room)));
        if (part.length < next.length) unsent[0] = next.subarray(part.length);
        else unsent.shift();
        waiting -= part.length;
        const late = flow.sent(part.length, now);
        last = Math.max(last, paths[direction].send(part.length, now) + late);
        flight.push({ due: last, piece: part });
      }
      if (waiting < LEAST_BYTES) from.resume();
      else from.pause();
    }
    function deliver(now: number): void {
      for (let next = flight[0]; next && next.due <= now && !blocked && !stalled; next = flight[0]) {
        flight.shift();
        const { piece } = next;
        bytes[direction] += piece.length;
        onDelivery?.(direction, bytes[direction]);
        if (into.destroyed) return; // The caller has cut it.
        blocked = !into.write(piece);
        held -= piece.length;
        acknowledgements.push({ due: now + delay, bytes: piece.length });
      }
    }
    function act(): void {
      clearTimeout(timer);
      if (into.destroyed) return;
      const now = performance.now();
      while (acknowledgements[0] && acknowledgements[0].due <= now) flow.acknowledged(acknowledgements.shift()!.bytes);
      send(now);
      deliver(now);
      if (into.destroyed) return;
      const dues = [acknowledgements[0]?.due, blocked || stalled ? undefined : flight[0]?.due];
      const due = Math.min(...dues.filter((time) => time !== undefined));
      if (due < Number.POSITIVE_INFINITY) timer = setTimeout(act, Math.max(1, Math.ceil(due - now)));
      if (ended && held === 0) into.end();
    }

    from.on("data", (piece: Buffer) => {
      unsent.push(piece);
      waiting += piece.length;
      held += piece.length;
      peak = Math.max(peak, held);
      act();
    });
    // An end takes its time, too.
    from.on("end", () => {
      setTimeout(() => {
        ended = true;
        act();
      }, delay);
    });
    into.on("close", () => clearTimeout(timer));
    into.on("drain", () => {
      blocked = false;
      act();
    });
    return act;
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
