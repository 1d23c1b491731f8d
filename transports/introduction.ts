import { refusal } from "../core/engine/told.ts";
import { LinkError, ProtocolError, ShrinkerError } from "../core/errors.ts";
import { PROOF_HEAD, proofLength } from "../core/identity/proof.ts";
import type { ProofChecker } from "../core/identity/proof-checker.ts";
import { paceInput, tokenBucket } from "../core/transport/limit.ts";
import type { Connection, PeerIdentity } from "../core/transport/transport.ts";
import { within } from "../core/within.ts";

/** What a peer has to introduce itself. */
export const INTRODUCTION_MS = 15_000;
/** What a peer may send at once after a pause, in milliseconds of its rate. */
const BURST_MS = 200;
/** To tell a peer why it is refused. */
const REFUSAL_MS = 1000;

/**
 * Awaits a peer's proof of its identity. Resolves with the connection as it is from there on, or with undefined where the
 * peer was refused: then it has been told why, and the connection is dropped. Never rejects.
 */
export async function introduce(
  connection: Connection,
  checker: ProofChecker,
  pace: Pace,
  timeoutMs = INTRODUCTION_MS,
): Promise<Connection | undefined> {
  const input = connection.input[Symbol.asyncIterator]();
  const timer = setTimeout(() => void connection.destroy(new LinkError("The peer did not say who it is")), timeoutMs);
  try {
    const { proof, rest } = await readProofBytes(input);
    const identity = await checker.check(proof);
    return introduced(connection, identity, joined(rest, input), pace);
  } catch (error) {
    await refuse(connection, input, error);
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}

/** The proof, and what has come behind it. */
async function readProofBytes(input: AsyncIterator<Uint8Array>): Promise<{ proof: Buffer; rest: Buffer }> {
  let bytes = Buffer.alloc(0);
  for (let needed = PROOF_HEAD; ; ) {
    while (bytes.length < needed) {
      const { value, done } = await input.next();
      if (done) throw new LinkError("The peer closed the connection before it said who it is");
      bytes = bytes.length === 0 ? Buffer.from(value) : Buffer.concat([bytes, value]);
    }
    if (needed > PROOF_HEAD) return { proof: bytes.subarray(0, needed), rest: bytes.subarray(needed) };
    needed += proofLength(bytes);
  }
}

/** How fast a peer may send, over all of its connections. */
export type Pace = (identity: PeerIdentity) => { rate: number; wait: ReturnType<typeof tokenBucket> } | undefined;

/** For the peers of a listener. */
export function paces(): Pace {
  const buckets = new Map<string, ReturnType<typeof tokenBucket>>();
  return ({ name, permissions: { rate } }) => {
    if (rate === undefined) return undefined;
    const key = `${name} ${rate}`;
    const wait = buckets.get(key) ?? tokenBucket(rate, BURST_MS);
    buckets.set(key, wait);
    return { rate, wait };
  };
}

function introduced(
  connection: Connection,
  identity: PeerIdentity,
  input: AsyncIterable<Uint8Array>,
  pace: Pace,
): Connection {
  const { reset } = connection;
  const paced = pace(identity);
  const dropped = new AbortController();
  return {
    ...connection,
    identity,
    input: paced ? paceInput(input, paced.rate, paced.wait, dropped.signal) : input,
    destroy(reason) {
      dropped.abort();
      return connection.destroy(reason);
    },
    ...(reset && {
      reset(reason?: Error) {
        dropped.abort();
        return reset(reason);
      },
    }),
  };
}

async function* joined(rest: Buffer, input: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (rest.length > 0) yield rest;
  for (let next = await input.next(); !next.done; next = await input.next()) yield next.value;
}

/** Says why, in the words of any session, and waits a moment for the peer to take that in. */
async function refuse(connection: Connection, input: AsyncIterator<Uint8Array>, error: unknown): Promise<void> {
  if (error instanceof LinkError) return connection.destroy(error);
  // Only what is meant for a peer: of anything else it learns that it is refused.
  const known = error instanceof ShrinkerError && (error.code === "refused" || error.code === "link");
  const why =
    known || error instanceof ProtocolError ? error : new ShrinkerError("refused", "This receiver can't take you");
  const saying = async () => {
    await connection.write([refusal(why)]);
    await connection.end();
    // A connection that is dropped with bytes unread would take the words back.
    while (!(await input.next()).done);
  };
  await within(
    saying().catch(() => {}),
    REFUSAL_MS,
  );
  await connection.destroy(why as Error);
}
