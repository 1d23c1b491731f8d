/**
 * A long way for datagrams (QUIC's, of WebTransport too): it passes on what each client sends to the other end, and back, a while
 * later, and loses what it is told to lose or has no room for, as a real one does.
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { Path } from "./path.ts";

type Place = { readonly host: string; readonly port: number };

export interface DatagramWanOptions {
  readonly listen: Place;
  readonly to: Place;
  /** Milliseconds each way. */
  readonly delay: number;
  /** Bytes a second in each direction, of all clients together. */
  readonly rate: number;
  /** The part of the datagrams that is lost, 0 to 1. */
  readonly loss?: number;
  readonly random?: () => number;
}

export interface DatagramWan {
  readonly port: number;
  /** Datagrams that were lost, or found no room. */
  readonly dropped: number;
  /** Bytes from clients that were passed on. */
  readonly carried: number;
  /**
   * Loses all that comes from and for the clients that there are, for longer than a link waits for a sign of life. Bun's QUIC dials
   * from one port all the time, so that they may come back by then.
   */
  cut(): void;
  /** They are heard again at once. */
  mend(): void;
  close(): Promise<void>;
}

const CUT_MS = 7000;
/** What waits for longer is dropped. */
const QUEUE_MS = 50;
/** Clients at once; the datagrams of further ones are dropped. */
const MAX_CLIENTS = 64;
/** Of IPv4 and UDP: a link carries them, too. */
const HEADERS = 28;

interface Client {
  readonly upstream: Socket;
  cut: boolean;
}

/** One direction: calls what is sent when it arrives. */
function startWay(rate: number, delay: number, lost: () => boolean) {
  const path = new Path(rate, delay);
  const flight: { readonly due: number; arrive(): void }[] = [];
  let timer: NodeJS.Timeout | undefined;
  function act(): void {
    for (let next = flight[0]; next; next = flight[0]) {
      const left = next.due - performance.now();
      if (left > 0) {
        timer = setTimeout(act, Math.ceil(left));
        return;
      }
      flight.shift();
      next.arrive();
    }
    timer = undefined;
  }
  return {
    /** False where it is lost. */
    send(bytes: number, arrive: () => void): boolean {
      const now = performance.now();
      if (path.wait(now) > QUEUE_MS || lost()) return false;
      flight.push({ due: path.send(bytes + HEADERS, now), arrive });
      if (timer === undefined) act();
      return true;
    },
    stop(): void {
      clearTimeout(timer);
      flight.length = 0;
    },
  };
}

/** Starts to listen. Rejects where it cannot. */
export async function startDatagramWan(options: DatagramWanOptions): Promise<DatagramWan> {
  const { listen, to, delay, rate, loss = 0, random = Math.random } = options;
  const lost = () => loss > 0 && random() < loss;
  const [up, down] = [startWay(rate, delay, lost), startWay(rate, delay, lost)];
  const clients = new Map<string, Client>();
  let dropped = 0;
  let carried = 0;
  const near = createSocket("udp4");

  function meet(address: string, port: number): Client | undefined {
    if (clients.size >= MAX_CLIENTS) return undefined;
    const upstream = createSocket("udp4");
    const client: Client = { upstream, cut: false };
    upstream.on("error", () => {});
    upstream.on("message", (bytes) => {
      const arrive = () => client.cut || near.send(bytes, port, address);
      if (client.cut || !down.send(bytes.length, arrive)) dropped++;
    });
    clients.set(`${address} ${port}`, client);
    return client;
  }

  near.on("error", () => {});
  near.on("message", (bytes, { address, port }) => {
    const client = clients.get(`${address} ${port}`) ?? meet(address, port);
    const arrive = () => client?.cut || client?.upstream.send(bytes, to.port, to.host);
    if (client === undefined || client.cut || !up.send(bytes.length, arrive)) dropped++;
    else carried += bytes.length;
  });
  near.bind(listen.port, listen.host);
  await once(near, "listening");
  const cut = () => {
    for (const [name, client] of clients) {
      if (client.cut) continue;
      client.upstream.close();
      client.cut = true;
      setTimeout(() => {
        if (clients.get(name) === client) clients.delete(name);
      }, CUT_MS).unref();
    }
  };
  const mend = () => {
    for (const [name, client] of clients) if (client.cut) clients.delete(name);
  };
  return {
    port: near.address().port,
    get dropped() {
      return dropped;
    },
    get carried() {
      return carried;
    },
    cut,
    mend,
    async close() {
      cut();
      up.stop();
      down.stop();
      const closed = once(near, "close");
      near.close();
      await closed;
    },
  };
}
