/** What a long link does to bytes, as arithmetic on times: for relays that delay what they pass on. All times are in milliseconds. */

/** Bytes of a packet that TCP fills. */
const PACKET = 1460;
/** What a connection may send at first (RFC 6928). */
const FIRST_WINDOW = 10 * PACKET;
const LEAST_WINDOW = 2 * PACKET;

/** One direction of a link: what is sent waits for what was sent before, goes at the rate, and is there after the delay. */
export class Path {
  readonly #rate: number;
  readonly #delay: number;
  #free = Number.NEGATIVE_INFINITY;

  /** @param rate bytes a second */
  constructor(rate: number, delay: number) {
    this.#rate = rate;
    this.#delay = delay;
  }

  /** Sends now. Returns when it arrives. */
  send(bytes: number, now: number): number {
    this.#free = Math.max(this.#free, now) + (bytes * 1000) / this.#rate;
    return this.#free + this.#delay;
  }

  /** How long what is sent now would wait. */
  wait(now: number): number {
    return Math.max(0, this.#free - now);
  }
}

export interface FlowOptions {
  /** The most bytes that may be on their way. */
  readonly window: number;
  /** The part of packets that is lost, 0 to 1. */
  readonly loss: number;
  /** Milliseconds that a packet takes to arrive and its acknowledgement to come back. */
  readonly roundTrip: number;
  readonly random: () => number;
}

/**
 * What a TCP connection may have on its way: slow start, then a packet more each round trip, and half at each loss (RFC 5681). A relay
 * that ends the connections at either side can't lose packets of theirs; this is what losing them would do.
 */
export class TcpFlow {
  readonly #options: FlowOptions;
  #window = FIRST_WINDOW;
  #threshold = Number.POSITIVE_INFINITY;
  #inFlight = 0;
  /** Losses until then are of the round trip that has paid for one already. */
  #paidUntil = Number.NEGATIVE_INFINITY;

  constructor(options: FlowOptions) {
    this.#options = options;
    this.#window = Math.min(FIRST_WINDOW, options.window);
  }

  /** Bytes that may be sent now. */
  get room(): number {
    return Math.max(0, this.#window - this.#inFlight);
  }

  /** Sends. Returns how much later than others it arrives: a round trip where a packet of it has to be sent again. */
  sent(bytes: number, now: number): number {
    const { loss, random, roundTrip } = this.#options;
    this.#inFlight += bytes;
    if (loss === 0 || random() < (1 - loss) ** Math.ceil(bytes / PACKET)) return 0;
    if (now >= this.#paidUntil) {
      this.#window = Math.max(LEAST_WINDOW, this.#window / 2);
      this.#threshold = this.#window;
      this.#paidUntil = now + roundTrip;
    }
    return roundTrip;
  }

  acknowledged(bytes: number): void {
    this.#inFlight -= bytes;
    const more = this.#window < this.#threshold ? bytes : (PACKET * bytes) / this.#window;
    this.#window = Math.min(this.#options.window, this.#window + more);
  }
}
