import { openPlainDigest } from "../core/content/plain-digest.ts";
import { ShrinkerError } from "../core/errors.ts";
import { checkStreamName } from "../core/machines/image/name.ts";
import type { StreamTarget } from "../core/machines/machine.ts";
import type { Connection } from "../core/transport/transport.ts";

/** A connection for a dry run: it takes everything and keeps nothing. */
export function discardingConnection(): Connection {
  return {
    peer: "dry run",
    duplex: false,
    input: (async function* () {})(),
    async write() {},
    async end() {},
    async destroy() {},
  };
}

/** A target for a dry run: it checks what a folder would, names and digests, and keeps nothing. */
export function discardingTarget(): StreamTarget {
  return {
    async open({ name }) {
      checkStreamName(name);
      const digest = await openPlainDigest();
      let result: Promise<Uint8Array> | undefined;
      return {
        write: ({ bytes, release }) => digest.update(bytes, release && ((buffer) => release(buffer))),
        async zeros(length) {
          digest.zeros(length);
        },
        async finish() {
          result = digest.digest();
          await result.finally(() => digest.close());
        },
        plainDigest: () => result ?? Promise.reject(new ShrinkerError("bug", `"${name}" is not finished`)),
        async commit() {},
        async abort() {
          digest.close();
        },
      };
    },
  };
}
