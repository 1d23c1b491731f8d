import { fileError, LinkError, ShrinkerError, systemCode } from "../core/errors.ts";
import type { Connection } from "../core/transport/transport.ts";
import { within } from "../core/within.ts";
import { STUCK_MS, writeAll } from "./fd.ts";
import { guard } from "./guard.ts";
import type { Target } from "./target.ts";

async function* nothing(): AsyncGenerator<Uint8Array> {}

/**
 * What a bundle is written through: `end` syncs and names it, `destroy` before that leaves nothing behind.
 * @param name the file, for messages
 */
export function bundleWriter(name: string, peer: string, target: Target): Connection {
  let ending: Promise<void> | undefined;
  let dropping: Promise<unknown> | undefined;
  let pending: Promise<unknown> = Promise.resolve();
  const work = guard();

  function explain(error: unknown): Error {
    return systemCode(error) === "EPIPE"
      ? new LinkError(`Cannot write "${name}": its reader has gone; its own messages say why`, { cause: error })
      : fileError("Cannot write", name, error);
  }
  /** Runs one call on the file. A connection that is destroyed doesn't wait for it. */
  function run(call: () => Promise<void>): Promise<void> {
    if (work.failure) return Promise.reject(work.failure);
    const result = call();
    pending = result.catch((error) => work.fail(explain(error)));
    return work.wait(result).catch(() => {
      throw work.failure;
    });
  }

  return {
    peer,
    duplex: false,
    input: nothing(),
    async write(buffers) {
      if (work.failure === undefined && ending !== undefined)
        throw new ShrinkerError("bug", `Wrote to ${peer} after the end`);
      await run(() => writeAll(target.fd, buffers));
    },
    end() {
      ending ??= run(() =>
        target.finish(() => {
          if (work.failure) throw work.failure;
        }),
      );
      return ending;
    },
    async destroy(reason = new LinkError(`The bundle "${name}" was given up`)) {
      work.fail(reason);
      // The descriptor is closed only once nothing uses it, or another file would take its number.
      dropping ??= pending.then(() => target.discard());
      await within(dropping, STUCK_MS);
    },
  };
}
