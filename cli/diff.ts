import { ShrinkerError } from "../core/errors.ts";
import { segmentFormats } from "../core/segment/registry.ts";
import { type Difference, SiteDifference } from "../core/site/diff.ts";
import { listView, type SiteView, StreamView } from "../core/site/site-view.ts";
import { Store } from "../core/store/store.ts";
import type { Action } from "./command.ts";
import { differenceEvent, differenceLines } from "./diff-report.ts";
import { closeMachines } from "./machines.ts";
import { parseChoice } from "./options.ts";
import { readDomain } from "./settings.ts";
import { type ContentSource, openSources, readStreams, type SourceContext } from "./sources.ts";
import { parseRate } from "./units.ts";

/** Says what moving a machine to a site that holds something would cost. */
export const diff: Action = async ({ args, options, output, interrupt }) => {
  const [a, b, ...more] = args;
  if (a === undefined || b === undefined || more.length > 0)
    throw new ShrinkerError("usage", "Give what is to move and what the site holds: shrinker diff A B");
  const context: SourceContext = {
    options,
    domain: readDomain(options),
    format: options.read("format", parseChoice([...segmentFormats.keys()])),
    output,
    signal: interrupt.signal,
  };
  const bandwidth = options.read("bandwidth", parseRate);
  if (a === "-" && b === "-") throw new ShrinkerError("usage", 'Standard input, "-", can be only one of both');
  const begun = performance.now();
  await using open = new AsyncDisposableStack();
  // One by one: both may have the same name.
  const [moving, there] = [await find(a, context, open), await find(b, context, open)];
  if (moving.kind === "store" || moving.kind === "index")
    throw new ShrinkerError(
      "usage",
      `"${a}" is a list of contents, and can't be moved: name a machine, or snapshot:NAME`,
    );
  const difference = await compare(moving, await viewOf(there, context), context);
  output.result(differenceLines(difference, bandwidth));
  const seconds = Math.round(performance.now() - begun) / 1000;
  output.event({ type: "summary", ok: true, a, b, ...differenceEvent(difference, bandwidth), seconds });
  return 0;
};

async function find(text: string, context: SourceContext, open: AsyncDisposableStack): Promise<ContentSource> {
  const [source] = await openSources([text], context);
  if (source!.kind === "machine") open.defer(() => closeMachines([source.source]));
  return source!;
}

async function viewOf(there: ContentSource, context: SourceContext): Promise<SiteView> {
  if (there.kind === "index") return listView([there.file.table]);
  if (there.kind === "store") {
    const store = await Store.open(there.dir, { domain: context.domain, warn: context.output.note });
    try {
      return listView(store.tables());
    } finally {
      await store.close();
    }
  }
  const view = new StreamView();
  await readStreams(there, context, (info, pieces) => view.read(info, pieces));
  return view;
}

async function compare(
  moving: Extract<ContentSource, { kind: "machine" | "snapshot" }>,
  view: SiteView,
  context: SourceContext,
): Promise<Difference> {
  const difference = new SiteDifference(view);
  try {
    await readStreams(moving, context, (info, pieces) => difference.read(info, pieces));
    return await difference.result();
  } finally {
    difference.close();
  }
}
