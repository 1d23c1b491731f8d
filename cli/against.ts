import type { SourceOptions } from "../core/engine/source-session.ts";
import { ShrinkerError } from "../core/errors.ts";
import { prefixIndex } from "../core/index/prefix-table.ts";
import type { Options } from "./options.ts";
import { openIndex } from "./sources.ts";

/** What `--against FILE` says: a bundle leaves out what the index lists, and names it. */
export async function readAgainst(
  options: Options,
  domain: string,
  recorded: boolean,
): Promise<Pick<SourceOptions, "against" | "site">> {
  const path = options.text("against");
  if (path === undefined) return {};
  if (!recorded) {
    const message = "--against is for bundles: over a link the destination says itself what it holds";
    throw new ShrinkerError("usage", message);
  }
  const { meta, table, digest } = await openIndex(path, domain);
  const seeds = meta.seeds.map(({ name, size }) => ({ name, size }));
  const site = meta.site && { site: meta.site };
  const generation = meta.generation && { generation: meta.generation };
  return {
    against: { index: digest, ...site, ...generation, seeds },
    site: { index: prefixIndex(table), past: undefined },
  };
}
