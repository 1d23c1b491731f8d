/** What may wait in buffers beyond a round trip. */
const QUEUE_MS = 50;
/** The same while somebody stands still until what comes behind it has arrived. */
const SHORT_QUEUE_MS = 10;
/** The limit grows from here, by acknowledgement, as long as the link takes more. */
const MIN_IN_FLIGHT = 256 << 10;
/** Probing: the limit is this much above what was delivered, so that a faster link is found. */
const GAIN = 1.25;
/** The best rate, and the shortest round trip, of the last while count. */
const RATE_MEMORY_MS = 2000;
const RATE_MEMORY_ROUND_TRIPS = 4;
const ROUND_TRIP_MEMORY_MS = 10_000;
/** A link that has been empty within this time is not what everything waits for. */
const EMPTY_MS = 100;

/**
 * Bounds what is on the way by the time it takes to drain (a round trip and at most 50 ms), not by what buffers would take, and
 * measures the link on the way: the rate is what was acknowledged between a frame's sending and its acknowledgement.
 * The estimators follow Cardwell et al. (BBR, ACM Queue 2016).
 */
export class Flow {
  readonly #now: () => number;
  readonly #sent: SentFrame[] = [];
  #inFlight = 0;
  #delivered = 0;
  #deliveredAt: number;
  #rate = 0;
  #rateAt = 0;
  #roundTrip = Number.POSITIVE_INFINITY;
  #roundTripAt = 0;
  #emptyAt = Number.NEGATIVE_INFINITY;
  /** What is on the way drains, so that one frame can tell the round trip without a queue. */
  #probing = false;
  #waiting: (() => void)[] = [];
  #paused = false;
  #closed = false;
  #queueMs = QUEUE_MS;
  /** Milliseconds that senders spent waiting for room. */
  waited = 0;

  /** @param now milliseconds of a monotonic clock */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#deliveredAt = now();
  }

  /** Bytes a second, as last measured; 0 before the first acknowledgement. */
  get rate(): number {
    return this.#rate * 1000;
  }

  /** Bytes a second that the link has been seen to take while it was not what everything waits for; 0 where it is. */
  get spare(): number {
    return this.#now() - this.#emptyAt < EMPTY_MS ? this.rate : 0;
  }

  /** Milliseconds, the shortest of late; infinite before the first acknowledgement. */
  get roundTrip(): number {
    return this.#roundTrip;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Bytes that may be on the way. */
  get limit(): number {
    if (this.#probing) return 1;
    if (this.#rate === 0) return MIN_IN_FLIGHT;
    return Math.max(MIN_IN_FLIGHT, this.#rate * (this.#roundTrip + this.#queueMs) * GAIN);
  }

  /** @param on whether little is to wait in buffers, as somebody stands still until what comes next has arrived */
  hurry(on: boolean): void {
    this.#queueMs = on ? SHORT_QUEUE_MS : QUEUE_MS;
    this.#wake();
  }

  /** Resolves when another frame may be sent, or the flow is closed. */
  async ready(): Promise<void> {
    if (this.#open) return;
    const since = this.#now();
    while (!this.#open) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.waited += this.#now() - since;
  }

  sent(sequence: number, bytes: number): void {
    const at = this.#now();
    const alone = this.#inFlight === 0;
    if (alone) this.#deliveredAt = at;
    const idle = this.#probing || this.#inFlight + bytes < this.limit;
    this.#sent.push({
      sequence,
      bytes,
      at,
      alone,
      idle,
      deliveredThen: this.#delivered,
      deliveredAt: this.#deliveredAt,
    });
    this.#inFlight += bytes;
  }

  /** The peer has every frame up to `sequence`. */
  acknowledged(sequence: number): void {
    const now = this.#now();
    let newest: SentFrame | undefined;
    // Numbers go on with 0 after 2^32 - 1: what counts is how far one is from another.
    while (this.#sent.length > 0 && ((this.#sent[0]!.sequence - sequence) | 0) <= 0) {
      newest = this.#sent.shift()!;
      this.#inFlight -= newest.bytes;
      this.#delivered += newest.bytes;
    }
    if (!newest) return;
    this.#deliveredAt = now;
    if (this.#inFlight === 0) this.#emptyAt = now;
    this.#measureRoundTrip(now, newest);
    const took = now - newest.deliveredAt;
    const rate = took > 0 ? (this.#delivered - newest.deliveredThen) / took : 0;
    const memory = Math.max(RATE_MEMORY_MS, RATE_MEMORY_ROUND_TRIPS * this.#roundTrip);
    // A sender that had little to send does not tell how fast the link is.
    if (rate >= this.#rate || (now - this.#rateAt > memory && !newest.idle)) {
      this.#rate = rate;
      this.#rateAt = now;
    }
    this.#wake();
  }

  /** There is no connection: nothing is on the way any more, and nothing may be sent. */
  pause(): void {
    this.#paused = true;
    this.#sent.length = 0;
    this.#inFlight = 0;
  }

  /** There is a connection again. What is sent again counts from then on: the time without one says nothing of the link. */
  resume(): void {
    this.#paused = false;
    this.#wake();
  }

  /** Lets everybody go who waits: the link is gone. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  /**
   * The shortest round trip of late. When it is old, the next may include this sender's own queue, which would then count
   * as a part of the link and let the queue grow again and again: so one is measured without.
   */
  #measureRoundTrip(now: number, { at, alone }: SentFrame): void {
    const roundTrip = now - at;
    const old = now - this.#roundTripAt > ROUND_TRIP_MEMORY_MS;
    if (roundTrip <= this.#roundTrip || (old && alone)) {
      this.#roundTrip = roundTrip;
      this.#roundTripAt = now;
      this.#probing = false;
    } else if (old) this.#probing = true;
  }

  get #open(): boolean {
    return this.#closed || (!this.#paused && this.#inFlight < this.limit);
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}

interface SentFrame {
  readonly sequence: number;
  readonly bytes: number;
  readonly at: number;
  /** Nothing else was on the way. */
  readonly alone: boolean;
  /** There was room for more. */
  readonly idle: boolean;
  /** Bytes delivered in all when it was sent, and when the last of them were. */
  readonly deliveredThen: number;
  readonly deliveredAt: number;
}
