import { openPlainDigest } from "../../content/plain-digest.ts";
import { fileError, ShrinkerError, systemCode } from "../../errors.ts";
import type { StreamTarget } from "../machine.ts";
import { countLength } from "./length.ts";

const ZEROS = new Uint8Array(1 << 20);

/** Where bytes go; `process.stdout` is one. */
export interface OutputStream {
  readonly isTTY?: boolean;
  write(bytes: Uint8Array, done: (error?: Error | null) => void): boolean;
  on(event: "error", listener: (error: Error) => void): unknown;
  off(event: "error", listener: (error: Error) => void): unknown;
}

/**
 * Gives the one stream that arrives to standard output. What was given can't be taken back: `abort` leaves it there, and
 * the exit code tells. Rejects a second stream, and a terminal, with `refused`.
 */
export function standardOutputTarget(output: OutputStream = process.stdout): StreamTarget {
  let opened = false;
  return {
    async open(info) {
      if (opened) {
        throw new ShrinkerError("refused", `Standard output takes one stream only, not "${info.name}" as well`);
      }
      if (output.isTTY) {
        throw new ShrinkerError("refused", `"${info.name}" is not text for a terminal: redirect standard output`);
      }
      opened = true;
      const digest = await openPlainDigest();
      const length = countLength(info);
      let result: Promise<Uint8Array> | undefined;
      // Errors come to the callbacks; without a listener they would end the process as well.
      const ignore = () => {};
      output.on("error", ignore);

      const put = (bytes: Uint8Array) =>
        new Promise<void>((resolve, reject) => {
          output.write(bytes, (error) => {
            if (!error) resolve();
            else if (systemCode(error) === "EPIPE") {
              const message = "Cannot write standard output: the program that reads it has ended";
              reject(new ShrinkerError("input", message, { cause: error }));
            } else reject(fileError("Cannot write", "standard output", error));
          });
        });

      return {
        async write(piece) {
          try {
            length.advance(piece.bytes.length);
            await put(piece.bytes);
          } catch (error) {
            piece.release?.();
            throw error;
          }
          await digest.update(piece.bytes, piece.release && ((buffer) => piece.release?.(buffer)));
        },
        async zeros(count) {
          length.advance(count);
          digest.zeros(count);
          for (let left = count; left > 0; left -= ZEROS.length) await put(ZEROS.subarray(0, left));
        },
        async finish() {
          length.finish();
          result = digest.digest();
          void result.catch(() => {}).then(() => digest.close());
          output.off("error", ignore);
        },
        plainDigest: () => result ?? Promise.reject(new ShrinkerError("bug", `"${info.name}" is not finished`)),
        async commit() {},
        async abort() {
          digest.close();
          output.off("error", ignore);
        },
      };
    },
  };
}
