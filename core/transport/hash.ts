import { createHash } from "node:crypto";
import type { Connection } from "./transport.ts";

/** A connection that knows the digest of what was written to it. */
export interface HashedConnection extends Connection {
  /** SHA-256 of all bytes so far; to be asked for when no write is under way. */
  digest(): Buffer;
}

/** Digests what is written to a connection. */
export function hashWrites(connection: Connection): HashedConnection {
  const hash = createHash("sha256");
  return {
    ...connection,
    write(buffers) {
      for (const buffer of buffers) hash.update(buffer);
      return connection.write(buffers);
    },
    digest: () => hash.copy().digest(),
  };
}
