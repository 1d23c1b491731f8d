import { ShrinkerError } from "../core/errors.ts";
import { segmentFormats } from "../core/segment/registry.ts";
import type { Action } from "./command.ts";
import { writeIndex } from "./index-write.ts";
import { closeMachines } from "./machines.ts";
import { type Options, parseChoice } from "./options.ts";
import { readDomain } from "./settings.ts";
import { reportSharing } from "./sharing.ts";
import { openSources, type SourceContext } from "./sources.ts";

/** Says what sources share, or, with `--out`, writes what they hold to an index file. */
export const index: Action = async ({ args, options, output, interrupt }) => {
  const { signal } = interrupt;
  const context: SourceContext = {
    options,
    domain: readDomain(options),
    format: options.read("format", parseChoice([...segmentFormats.keys()])),
    output,
    signal,
  };
  const begun = performance.now();
  const sources = await openSources(withStore(args, options), context);
  await using open = new AsyncDisposableStack();
  open.defer(() => closeMachines(sources.flatMap((source) => (source.kind === "machine" ? [source.source] : []))));
  const out = options.text("out");
  if (out === undefined && options.given("hold"))
    throw new ShrinkerError("usage", "--hold keeps what an index lists: name that with --out FILE");
  const summary = out === undefined ? await reportSharing(sources, context) : await writeIndex(out, sources, context);
  const seconds = Math.round(performance.now() - begun) / 1000;
  output.event({ type: "summary", ok: true, ...summary, seconds });
  return 0;
};

/** With `--store`, all that the store holds is a source as well, unless the others say which of its snapshots are. */
function withStore(args: readonly string[], options: Options): readonly string[] {
  const store = options.text("store");
  const whole = store !== undefined && (options.given("store") || args.length === 0);
  const texts = [...new Set(args)];
  if (whole && !texts.some((text) => text.startsWith("snapshot:") || text === `store:${store}`))
    texts.push(`store:${store}`);
  if (texts.length > 0) return texts;
  throw new ShrinkerError(
    "usage",
    "Nothing to index: name machines, snapshot:NAME or store:DIR, as in the help's examples",
  );
}
