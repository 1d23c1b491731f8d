import type { Decrypter } from "age-encryption";
import { IntegrityError, ShrinkerError } from "../errors.ts";
import type { Connection } from "../transport/transport.ts";
import type { AgeIdentity } from "./keys.ts";

/** What a file in the age format begins with. */
export const AGE_MAGIC = Buffer.from("age-encryption.org/v1\n");
/** A header is not longer, and has no more recipients: the library bounds neither, and tries each key on each of them. */
const MAX_HEADER = 256 << 10;
const MAX_STANZAS = 128;

/** A bundle that is read, encrypted or not. */
export interface Opened {
  readonly connection: Connection;
  /** Whether it is encrypted; known once the first bytes were read. */
  readonly encrypted: boolean;
}

/**
 * Decrypts what a connection that only gives bytes (a bundle) begins to give in the age format; all else passes as it is.
 * Its input rejects with `input` where none of the keys opens it, and with an `IntegrityError` where it is not what was
 * written, or cut short: no byte is given out that was not proved to be where it was.
 */
export function openAge(connection: Connection, identities: readonly AgeIdentity[]): Opened {
  let encrypted = false;

  async function* plain(): AsyncGenerator<Uint8Array> {
    const pieces = connection.input[Symbol.asyncIterator]();
    const head = await readHead(pieces);
    encrypted = head.subarray(0, AGE_MAGIC.length).equals(AGE_MAGIC);
    if (!encrypted) {
      yield head;
      yield* { [Symbol.asyncIterator]: () => pieces };
      return;
    }
    try {
      const header = await readHeader(head, pieces, connection.peer);
      const decrypter = await openDecrypter(identities, connection.peer);
      yield* await decrypter.decrypt(streamOf(header, pieces));
    } catch (error) {
      if (error instanceof ShrinkerError) throw error;
      const message = `${connection.peer} is encrypted, and is damaged or cut short: copy it again`;
      throw new IntegrityError(message, { cause: error });
    }
  }

  return {
    connection: { ...connection, input: plain() },
    get encrypted() {
      return encrypted;
    },
  };
}

async function openDecrypter(identities: readonly AgeIdentity[], peer: string): Promise<Decrypter> {
  // Loaded when it is needed, as in keys.ts.
  const { Decrypter } = await import("age-encryption");
  const decrypter = new Decrypter();
  for (const { secret } of identities) decrypter.addIdentity(secret);
  // The last that is tried: no other could open it.
  decrypter.addIdentity({
    unwrapFileKey() {
      const why =
        identities.length === 0
          ? "is encrypted: give the file of your age key, --age-identity FILE"
          : "is encrypted to other keys than those of --age-identity, or with a passphrase (age -d FILE decrypts that)";
      throw new ShrinkerError("input", `${peer} ${why}`);
    },
  });
  return decrypter;
}

/** The first bytes, at least as many as tell the format, fewer where there are no more. */
async function readHead(pieces: AsyncIterator<Uint8Array>): Promise<Buffer> {
  let head: Buffer = Buffer.alloc(0);
  while (head.length < AGE_MAGIC.length) {
    const { done, value } = await pieces.next();
    if (done) break;
    head = head.length === 0 ? Buffer.from(value.buffer, value.byteOffset, value.length) : Buffer.concat([head, value]);
  }
  return head;
}

/** The bytes up to the end of age's header, and maybe more. Throws an `IntegrityError` where that end does not come. */
async function readHeader(head: Buffer, pieces: AsyncIterator<Uint8Array>, peer: string): Promise<Buffer[]> {
  const header = Buffer.alloc(MAX_HEADER);
  const parts: Buffer[] = [];
  let length = 0;
  let footer = -1;
  for (let piece = head; ; ) {
    parts.push(piece);
    const from = Math.max(0, length - 5);
    length += piece.copy(header, length);
    const seen = header.subarray(0, length);
    if (footer < 0) footer = seen.indexOf("\n--- ", from);
    if (footer >= 0 && seen.indexOf("\n", Math.max(from, footer + 5)) >= 0) break;
    if (length === MAX_HEADER) throw new IntegrityError(`${peer} has an age header of more than ${MAX_HEADER} bytes`);
    const { done, value } = await pieces.next();
    if (done) throw new IntegrityError(`${peer} ends within its age header: it is cut short`);
    piece = Buffer.from(value.buffer, value.byteOffset, value.length);
  }
  const stanzas = header.subarray(0, footer).toString("latin1").split("\n-> ").length - 1;
  if (stanzas > MAX_STANZAS)
    throw new IntegrityError(`${peer} is encrypted to ${stanzas} recipients: ${MAX_STANZAS} are read at most`);
  return parts;
}

/** Bytes as the library takes them: read when it asks for them. */
function streamOf(first: readonly Buffer[], pieces: AsyncIterator<Uint8Array>): ReadableStream<Uint8Array> {
  const head = first.values();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = head.next();
        const next = done ? await pieces.next() : { done, value };
        if (next.done) controller.close();
        else controller.enqueue(next.value);
      },
    },
    { highWaterMark: 0 },
  );
}
