/** A link between two processes that a test can cut, stall and spoil: it listens, and dials on for each that comes. */
import { ShrinkerError } from "../../core/errors.ts";
import { type Connection, parseAddress } from "../../core/transport/transport.ts";
import { transports } from "../../transports/registry.ts";
import { type Fault, faulty, stall } from "./faults.ts";

export interface RelayOptions {
  /** Where the other end listens. */
  readonly to: string;
  readonly listen?: string;
  /** Makes the faults of a link, by its number from 0: `up` from who dials, `down` back to them. */
  faults?(link: number): { up?: readonly Fault[]; down?: readonly Fault[] };
}

export interface Relay {
  readonly address: string;
  /** Links so far. */
  readonly links: number;
  /** Breaks the links that there are; new ones are made as before. */
  cut(): Promise<void>;
  /** Silent while on: nothing is delivered either way, and nothing breaks. */
  stall(on: boolean): void;
  /** New links are broken at once while on. */
  refuse(on: boolean): void;
  close(): Promise<void>;
}

/** Copies one direction to its end. */
export async function pump(from: Connection, to: Connection): Promise<void> {
  for await (const piece of from.input) await to.write([piece]);
  await to.end();
}

/** Joins two connections until both directions have ended, or one breaks: then both are dropped. */
export async function join(one: Connection, two: Connection): Promise<void> {
  await Promise.all([pump(one, two), pump(two, one)]).catch(() => {});
  await Promise.all([one.destroy(), two.destroy()]);
}

export async function startRelay({ to, listen = "tcp://127.0.0.1:0", faults }: RelayOptions): Promise<Relay> {
  const closing = new AbortController();
  const open = new Set<Promise<void>>();
  const ends = new Set<Connection>();
  const silence = stall();
  let links = 0;
  let refusing = false;
  const from = parseAddress(listen, transports);
  const target = parseAddress(to, transports);
  const options = { signal: closing.signal, insecure: true };
  const listener = await transports.get(from.scheme)!.listen(from, options);

  async function link(near: Connection, number: number): Promise<void> {
    const far = refusing
      ? undefined
      : await transports
          .get(target.scheme)!
          .dial(target, options)
          .catch(() => undefined);
    if (far === undefined) return near.destroy(new ShrinkerError("refused", "The relay refuses links"));
    const { up = [], down = [] } = faults?.(number) ?? {};
    const spoiled = faulty(far, { output: [...up, silence.fault], input: [...down, silence.fault] });
    for (const end of [near, spoiled]) ends.add(end);
    await join(near, spoiled);
    for (const end of [near, spoiled]) ends.delete(end);
  }
  async function serve(): Promise<void> {
    for (;;) {
      const near = await listener.accept();
      if (near === undefined) return;
      const done = link(near, links++).finally(() => open.delete(done));
      open.add(done);
    }
  }
  const serving = serve().catch(() => {});
  const cut = async () => {
    await Promise.all([...ends].map((end) => end.destroy()));
  };
  return {
    address: listener.address,
    get links() {
      return links;
    },
    cut,
    stall: (on) => (on ? silence.on() : silence.off()),
    refuse(on) {
      refusing = on;
    },
    async close() {
      closing.abort();
      await cut();
      silence.off();
      await Promise.all([serving, ...open]);
    },
  };
}
