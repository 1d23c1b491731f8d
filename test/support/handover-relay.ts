/**
 * A link between the two ends of hand-overs that acts exactly at a word: it reads the frames of both directions as they pass, and
 * cuts, holds or loses the link before or after the one that a rule names.
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type DestinationWord,
  decodeDestinationWord,
  decodeSourceWord,
  type SourceWord,
} from "../../core/wire/handover.ts";
import { FRAME, FRAME_HEADER_BYTES, PREFACE_BYTES } from "../../core/wire/numbers.ts";

/** What passes: the words of a hand-over, and the frames of its streams, those of the destination with ` back`. */
export type Passing =
  | SourceWord["type"]
  | DestinationWord["type"]
  | `${"open" | "batch" | "close"}${"" | " back"}`
  | "other";

/**
 * `cut` breaks the link instead of delivering; `deliver and cut` does so behind the word; `hold` keeps it, and all behind it in its
 * direction, until `release`; `drop` loses it alone; `hush` loses all that comes from then on in both directions, and breaks nothing.
 */
export type Deed = "cut" | "deliver and cut" | "hold" | "drop" | "hush";

export interface Rule {
  readonly at: Passing;
  readonly do: Deed;
  /** How often; once unless given. */
  readonly times?: number;
  /** Whether no link is made any more afterwards, until `refuse(false)`. */
  readonly forGood?: boolean;
  /** Holds only once `arm` was called: for what has no word of its own, such as the first batch after the guest's stop. */
  readonly armed?: boolean;
  /** Whether the word may never come. */
  readonly optional?: boolean;
}

export interface HandoverRelayOptions {
  /** Port of the other end, on this host. */
  readonly to: number;
  readonly rules?: readonly Rule[];
  /** Milliseconds from a frame's arrival until it is delivered. */
  readonly latency?: number;
}

export interface HandoverRelay {
  /** `tcp://...`, for who dials. */
  readonly address: string;
  /** Links so far. */
  readonly links: number;
  /** All that has passed or was kept from it, but for `other`, with the link's number. */
  readonly passed: readonly string[];
  /** Words of rules that have not acted so far. */
  readonly unmet: readonly Passing[];
  /** Where new links go from now on. */
  retarget(port: number): void;
  /** Resolves once a rule about this has acted. */
  acted(at: Passing): Promise<void>;
  arm(): void;
  /** Delivers what is held; nothing is held any more. */
  release(): void;
  /** Breaks the links that there are. */
  cut(): void;
  /** While on, new links are broken at once. */
  refuse(on: boolean): void;
  /** While on, nothing is delivered either way, and nothing breaks. */
  silence(on: boolean): void;
  close(): Promise<void>;
}

type Direction = "up" | "down";

/** What may be on its way in a direction of a link, in bytes and a frame: all latencies leave a link of 20 MB/s. */
const LEAST_ON_WAY = 1 << 20;
const BYTES_PER_MS = 20_000;
/** For the far end to take note of a word before the link breaks. */
const FLUSH_MS = 5;

export async function startHandoverRelay({
  to,
  rules = [],
  latency = 0,
}: HandoverRelayOptions): Promise<HandoverRelay> {
  let target = to;
  const left = rules.map((rule) => ({ rule, times: rule.times ?? 1 }));
  const acts = new Map<Passing, PromiseWithResolvers<void>>();
  const links = new Set<Link>();
  const passed: string[] = [];
  let count = 0;
  let refusing = false;
  let armed = false;
  let holding = true;
  const gate = new Gate();

  const act = (at: Passing) => {
    const found = acts.get(at) ?? Promise.withResolvers<void>();
    acts.set(at, found);
    return found;
  };
  /** What is to be done about a frame; undefined where nothing. */
  const due = (at: Passing): Rule | undefined => {
    const entry = left.find(({ rule, times }) => rule.at === at && times > 0 && (armed || !rule.armed));
    if (!entry || (entry.rule.do === "hold" && !holding)) return undefined;
    entry.times--;
    return entry.rule;
  };

  const server = createServer({ allowHalfOpen: true }, (near) => {
    const number = count++;
    if (refusing) return void near.on("error", () => {}).destroy();
    const link = new Link(near, connect({ port: target, host: "127.0.0.1", allowHalfOpen: true }), {
      latency,
      gate,
      async meet(at, link) {
        if (at !== "other") passed.push(`${number} ${at}`);
        const rule = due(at);
        if (!rule) return "deliver";
        if (rule.forGood) refusing = true;
        act(at).resolve();
        if (rule.do === "hold") await link.held(released.promise);
        if (rule.do === "hush") link.hush();
        return rule.do === "hold" ? "deliver" : rule.do;
      },
    });
    links.add(link);
    void link.over.then(() => links.delete(link));
  });
  const released = Promise.withResolvers<void>();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    for (const link of links) link.drop();
  };
  return {
    address: `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get links() {
      return count;
    },
    passed,
    get unmet() {
      return left.flatMap(({ rule, times }) => (!rule.optional && times === (rule.times ?? 1) ? [rule.at] : []));
    },
    retarget(port) {
      target = port;
    },
    acted: (at) => act(at).promise,
    arm() {
      armed = true;
    },
    release() {
      holding = false;
      released.resolve();
    },
    cut,
    refuse(on) {
      refusing = on;
    },
    silence: (on) => gate.shut(on),
    async close() {
      const closed = once(server, "close");
      server.close();
      cut();
      await closed;
    },
  };
}

/** Lets everybody through unless it is shut. */
class Gate {
  #open: PromiseWithResolvers<void> | undefined;

  shut(on: boolean): void {
    if (on) this.#open ??= Promise.withResolvers<void>();
    else {
      this.#open?.resolve();
      this.#open = undefined;
    }
  }

  get opened(): Promise<void> | undefined {
    return this.#open?.promise;
  }
}

interface LinkOptions {
  readonly latency: number;
  readonly gate: Gate;
  meet(at: Passing, link: Link): Promise<"deliver" | Exclude<Deed, "hold">>;
}

class Link {
  readonly over: Promise<unknown>;
  readonly #ends: readonly [Socket, Socket];
  readonly #options: LinkOptions;
  readonly #closed = Promise.withResolvers<void>();
  readonly #hush = new Gate();

  constructor(near: Socket, far: Socket, options: LinkOptions) {
    this.#ends = [near, far];
    this.#options = options;
    for (const end of this.#ends) {
      end.setNoDelay(true);
      end.on("error", () => this.drop());
    }
    const ways = [this.#pass(near, far, "up"), this.#pass(far, near, "down")];
    this.over = Promise.all(ways.map((way) => way.catch(() => this.drop())));
  }

  drop(): void {
    this.#closed.resolve();
    for (const end of this.#ends) end.destroy();
  }

  hush(): void {
    this.#hush.shut(true);
  }

  /** Until then, or until the link is gone. */
  async held(until: Promise<void>): Promise<void> {
    await Promise.race([until, this.#closed.promise]);
  }

  async #pass(from: Socket, into: Socket, direction: Direction): Promise<void> {
    const { latency, gate } = this.#options;
    const most = Math.max(LEAST_ON_WAY, latency * BYTES_PER_MS);
    const frames = new FrameSplitter(direction);
    const queue: { readonly due: number; readonly frame: Passed }[] = [];
    let held = 0;
    let ended = false;
    let wake = () => {};
    // Not `for await`: that would drop the other direction with this one's end.
    from.on("data", (piece: Buffer) => {
      for (const frame of frames.push(piece)) {
        queue.push({ due: performance.now() + latency, frame });
        held += frame.bytes.length;
      }
      if (held > most) from.pause();
      wake();
    });
    from.on("end", () => {
      ended = true;
      wake();
    });
    for (;;) {
      const next = queue.shift();
      if (!next && ended) break;
      if (!next) {
        await Promise.race([new Promise<void>((resolve) => (wake = resolve)), this.#closed.promise]);
        if (into.destroyed) return;
        continue;
      }
      const wait = next.due - performance.now();
      if (wait > 0) await sleep(wait);
      const { at, bytes } = next.frame;
      const deed = await this.#options.meet(at, this);
      for (let shut = this.#hush.opened ?? gate.opened; shut; shut = this.#hush.opened ?? gate.opened)
        await Promise.race([shut, this.#closed.promise.then(() => Promise.reject(new Error("gone")))]);
      if (into.destroyed || deed === "cut") return this.drop();
      held -= bytes.length;
      if (held <= most) from.resume();
      if (deed === "drop") continue;
      if (!into.write(bytes)) await Promise.race([once(into, "drain"), this.#closed.promise]);
      if (deed !== "deliver and cut") continue;
      // What is written arrives before the end; a reset could overtake it.
      into.end();
      await sleep(FLUSH_MS);
      return this.drop();
    }
    into.end();
  }
}

interface Passed {
  readonly at: Passing;
  readonly bytes: Buffer;
}

const STREAMS = new Map<number, "open" | "batch" | "close">([
  [FRAME.OPEN, "open"],
  [FRAME.BATCH, "batch"],
  [FRAME.CLOSE, "close"],
]);

/** Cuts a direction into its preface and frames; checksums are the ends' business. */
class FrameSplitter {
  readonly #direction: Direction;
  #pieces: Buffer[] = [];
  #length = 0;
  #begun = false;

  constructor(direction: Direction) {
    this.#direction = direction;
  }

  push(piece: Buffer): Passed[] {
    this.#pieces.push(piece);
    this.#length += piece.length;
    const frames: Passed[] = [];
    for (let next = this.#next(); next; next = this.#next()) frames.push(next);
    return frames;
  }

  #next(): Passed | undefined {
    if (!this.#begun) {
      if (this.#length < PREFACE_BYTES) return undefined;
      this.#begun = true;
      return { at: "other", bytes: this.#take(PREFACE_BYTES) };
    }
    if (this.#length < FRAME_HEADER_BYTES) return undefined;
    if (this.#pieces[0]!.length < FRAME_HEADER_BYTES) this.#pieces = [Buffer.concat(this.#pieces)];
    const length = FRAME_HEADER_BYTES + this.#pieces[0]!.readUInt32LE(0);
    if (this.#length < length) return undefined;
    const bytes = this.#take(length);
    return { at: this.#name(bytes.readUInt8(4), bytes.subarray(FRAME_HEADER_BYTES)), bytes };
  }

  #take(length: number): Buffer {
    const all = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces);
    this.#length -= length;
    this.#pieces = this.#length === 0 ? [] : [all.subarray(length)];
    return all.subarray(0, length);
  }

  #name(type: number, payload: Buffer): Passing {
    const up = this.#direction === "up";
    if (type === FRAME.TELL) return wordOf(payload, up);
    const stream = STREAMS.get(type);
    return stream === undefined ? "other" : up ? stream : `${stream} back`;
  }
}

/** What is no word is the ends' business. */
function wordOf(payload: Buffer, up: boolean): Passing {
  try {
    return (up ? decodeSourceWord : decodeDestinationWord)(payload).type;
  } catch {
    return "other";
  }
}
