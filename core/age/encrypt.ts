import type { Connection } from "../transport/transport.ts";
import type { AgeRecipient } from "./keys.ts";

/** The cipher works on this thread: what it is given at once is what the rest of the program waits for. */
const PART = 256 << 10;

/**
 * Encrypts what is written to a connection that only takes bytes (a bundle), in the age format (age-encryption.org/v1).
 * It holds a part of a write, and what the connection has not taken of it. Fails as the connection does.
 * @param recipients who can read it; at least one
 */
export async function encryptTo(connection: Connection, recipients: readonly AgeRecipient[]): Promise<Connection> {
  // Loaded when it is needed, as in keys.ts.
  const { Encrypter } = await import("age-encryption");
  const encrypter = new Encrypter();
  for (const { text } of recipients) encrypter.addRecipient(text);
  const plain = new TransformStream<Uint8Array, Uint8Array>();
  const writer = plain.writable.getWriter();
  // What its promises reject with is the failure below.
  writer.closed.catch(() => {});
  writer.ready.catch(() => {});
  const sealed = await encrypter.encrypt(plain.readable);
  let failure: Error | undefined;
  let ending: Promise<void> | undefined;
  const fail = (error: unknown) => {
    failure ??= error as Error;
    void writer.abort(failure).catch(() => {});
  };
  const written = (async () => {
    for await (const piece of sealed) {
      try {
        await connection.write([piece]);
      } catch (error) {
        // Before the loop is left, which ends the streams between without a reason.
        fail(error);
        throw error;
      }
    }
  })().catch(fail);
  /** Whatever the streams between say, the first failure is told. */
  const settle = async (work: Promise<void>) => {
    await work.catch(fail);
    if (failure) throw failure;
  };

  return {
    ...connection,
    async write(buffers) {
      for (const buffer of buffers) {
        for (let at = 0; at < buffer.length; at += PART) {
          // A copy: the streams may hold it for longer than the write takes.
          await settle(writer.write(Buffer.from(buffer.subarray(at, at + PART))));
        }
      }
    },
    end() {
      ending ??= (async () => {
        await settle(writer.close());
        await settle(written);
        await connection.end();
      })();
      return ending;
    },
    async destroy(reason) {
      const dropped = connection.destroy(reason);
      fail(reason ?? new Error(`${connection.peer} was given up`));
      await dropped;
    },
  };
}
