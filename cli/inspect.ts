import { constants, open } from "node:fs/promises";
import { AGE_MAGIC } from "../core/age/decrypt.ts";
import { fileError, ShrinkerError } from "../core/errors.ts";
import { segmentFormats } from "../core/segment/registry.ts";
import { MAGIC } from "../core/wire/numbers.ts";
import type { Action } from "./command.ts";
import { asError, exitCode } from "./exit.ts";
import { inspectBundle } from "./inspect-bundle.ts";
import { inspectStream } from "./inspect-stream.ts";
import { readAgeIdentities } from "./key-files.ts";
import { parseChoice } from "./options.ts";
import { readSpoolDir, SPOOL_DIR } from "./settings.ts";

/** Says what files hold: bundles, captured streams, images. A file that is wrong does not keep the others from it. */
export const inspect: Action = async ({ args, options, output, interrupt }) => {
  const { signal } = interrupt;
  if (args.length === 0)
    throw new ShrinkerError("usage", "Nothing to inspect: name bundles, captured streams or images");
  const format = options.read("format", parseChoice([...segmentFormats.keys()]));
  const spoolDir = readSpoolDir(options, SPOOL_DIR);
  const identities = await readAgeIdentities(options);
  const begun = performance.now();
  let first: ShrinkerError | undefined;
  for (const path of args) {
    try {
      const report =
        format === undefined && (await isBundle(path))
          ? await inspectBundle(path, { spoolDir, identities, signal })
          : await inspectStream(path, format, signal);
      output.event(report.event);
      output.result(report.lines);
      if (report.error) throw report.error;
    } catch (thrown) {
      const error = asError(thrown);
      first ??= error;
      output.error(error);
      if (signal.aborted) break;
    }
  }
  const seconds = Math.round(performance.now() - begun) / 1000;
  const failure = first && { code: first.code, message: first.message };
  output.event({ type: "summary", ok: !first, ...failure, files: args.length, seconds });
  return first ? (interrupt.code ?? exitCode(first)) : 0;
};

/** By most of its first bytes: a bundle that is damaged there is still one. What is encrypted is taken for one. */
async function isBundle(path: string): Promise<boolean> {
  if (path === "-") return false;
  const head = Buffer.alloc(AGE_MAGIC.length);
  try {
    // Without waiting for whoever would write to a FIFO.
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!(await file.stat()).isFile()) return false;
    await file.read(head, 0, head.length, 0);
  } catch (error) {
    throw fileError("Cannot read", path, error);
  }
  return head.equals(AGE_MAGIC) || MAGIC.filter((byte, i) => head[i] === byte).length >= MAGIC.length - 2;
}
