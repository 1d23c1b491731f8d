import { fileError, LinkError, ShrinkerError, systemCode } from "../core/errors.ts";
import type { Connection } from "../core/transport/transport.ts";
import { STUCK_MS, writeAll } from "./fd.ts";
import type { Target } from "./target.ts";
import { within } from "./within.ts";

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** What a bundle is written through: `end` syncs and names it, `destroy` before that leaves nothing behind. */
export function bundleWriter(path: string, peer: string, target: Target): Connection {
  let failure: Error | undefined;
  let ending: Promise<void> | undefined;
  let dropping: Promise<unknown> | undefined;
  let pending: Promise<unknown> = Promise.resolve();
  const failed = Promise.withResolvers<never>();
  failed.promise.catch(() => {});

  function explain(error: unknown): Error {
    return systemCode(error) === "EPIPE"
      ? new LinkError(`Cannot write "${path}": its reader has gone; its own messages say why`, { cause: error })
      : fileError("Cannot write", path, error);
  }
  /** Runs one call on the file. A connection that is destroyed doesn't wait for it. */
  function run(call: () => Promise<void>): Promise<void> {
    if (failure !== undefined) return Promise.reject(failure);
    const result = call().catch((error) => {
      failure ??= explain(error);
      throw failure;
    });
    pending = result.catch(() => {});
    return Promise.race([result, failed.promise]);
  }

  return {
    peer,
    duplex: false,
    input: nothing(),
    async write(buffers) {
      if (failure === undefined && ending !== undefined)
        throw new ShrinkerError("bug", `Wrote to ${peer} after the end`);
      await run(() => writeAll(target.fd, buffers));
    },
    end() {
      ending ??= run(() =>
        target.finish(() => {
          if (failure !== undefined) throw failure;
        }),
      );
      return ending;
    },
    async destroy(reason = new LinkError(`The bundle "${path}" was given up`)) {
      failure ??= reason;
      failed.reject(failure);
      // The descriptor is closed only once nothing uses it, or another file would take its number.
      dropping ??= pending.then(() => target.discard());
      await within(dropping, STUCK_MS);
    },
  };
}
