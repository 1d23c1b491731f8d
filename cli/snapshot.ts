import { existsSync } from "node:fs";
import type { CodecPolicy } from "../core/engine/codec-policy.ts";
import { ShrinkerError } from "../core/errors.ts";
import type { SiteIndex } from "../core/index/site-index.ts";
import { segmentFormats } from "../core/segment/registry.ts";
import { snapshotPath } from "../core/site/manifest.ts";
import { Store } from "../core/store/store.ts";
import type { Connection } from "../core/transport/transport.ts";
import { CODEC } from "../core/wire/numbers.ts";
import { bundle } from "../transports/bundle.ts";
import type { Action } from "./command.ts";
import { closeMachines, openMachines } from "./machines.ts";
import { parseChoice } from "./options.ts";
import { send, totalSize } from "./send.ts";
import { readDomain, readLogLimit, readStoreDir, WINDOW_LOG } from "./settings.ts";
import { formatBytes } from "./units.ts";
import { software } from "./version.ts";

const MIN_LOG_LIMIT = 4 * 2 ** 30;

/** Whatever is asked for is in the store by then. */
const everything: SiteIndex = {
  async lookup(_digests, count, held) {
    held.fill(1, 0, count);
  },
  async insert() {},
  async close() {},
};

/** What is left of a manifest without its contents is small and compresses well. */
const codec: CodecPolicy = { compresses: false, fillsWindow: false, wantsXors: false, next: () => CODEC.ZSTD };

/** Puts machines into a store, under a name: a bundle whose every content is left to the store. */
export const snapshot: Action = async (invocation) => {
  const { args, options, output, interrupt } = invocation;
  const { signal } = interrupt;
  if (args.length === 0) throw new ShrinkerError("usage", "No machine to keep: name files, as in the help's examples");
  const name = options.text("name");
  if (name === undefined) throw new ShrinkerError("usage", "Under which name? Give --name NAME");
  const force = options.flag("force");
  const domain = readDomain(options);
  const dir = readStoreDir(options);
  const format = options.read("format", parseChoice([...segmentFormats.keys()]));
  const sources = await openMachines(args, { format, digest: options.flag("sha256"), signal });
  await using open = new AsyncDisposableStack();
  open.defer(() => closeMachines(sources));
  const total = totalSize(sources);
  const store = await Store.open(dir, { domain, write: true, warn: output.note });
  try {
    const path = snapshotPath(store.layout, name);
    if (!force && existsSync(path)) {
      const message = `The store "${dir}" has a snapshot "${name}": give another name, or replace it with --force`;
      throw new ShrinkerError("exists", message);
    }
    const dial = async (): Promise<Connection> => {
      const address = { scheme: "file", rest: path, text: `file:${path}` };
      const manifest = await bundle.dial(address, { signal, force });
      const end = async () => {
        // The packs and the index last before anything names what is in them.
        await store.flush();
        await manifest.end();
      };
      return { ...manifest, peer: store.name, end };
    };
    const logLimit = readLogLimit(options, Math.max(MIN_LOG_LIMIT, 2 * (total ?? 0)));
    const site = { index: everything, past: undefined };
    const session = { domain, windowLog: WINDOW_LOG, software, signal, spoolDir: dir, codec, logLimit };
    return await send(
      {
        sources,
        total,
        dial,
        options: { ...session, site, keepers: [store] },
        parallel: 1,
        dryRun: false,
        wireName: "in the manifest",
        more: () => ({ store: store.added }),
        note: () => `${formatBytes(store.added.bytes)} added to the store`,
      },
      invocation,
    );
  } finally {
    await store.close();
  }
};
