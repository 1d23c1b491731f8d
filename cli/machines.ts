import { ShrinkerError } from "../core/errors.ts";
import { parseMachine } from "../core/machines/image/name.ts";
import { openImage } from "../core/machines/image/source.ts";
import type { StreamSource } from "../core/machines/machine.ts";

/**
 * Opens the machines of a command line, all of them before anything is dialled. Rejects with `usage` or `refused` for
 * names, two of which must not be alike, and `input` for what can't be read.
 * @param digest whether to compute the SHA-256 of their plain bytes
 */
export async function openMachines(
  texts: readonly string[],
  format: string | undefined,
  digest = true,
): Promise<StreamSource[]> {
  const specs = texts.map(parseMachine);
  for (const { spec } of specs) {
    const scheme = /^([a-z][a-z0-9+.-]*):/.exec(spec)?.[1];
    if (scheme) throw new ShrinkerError("usage", `Unknown machine "${spec}": for a file of that name write ./${spec}`);
  }
  if (specs.filter(({ spec }) => spec === "-").length > 1)
    throw new ShrinkerError("usage", 'Standard input, "-", can be only one machine');
  const sources: StreamSource[] = [];
  const paths = new Map<string, string>();
  for (const { name, spec } of specs) {
    const source = await openImage({ path: spec, digest, ...(name && { name }), ...(format && { format }) });
    const other = paths.get(source.info.name);
    if (other !== undefined) {
      const message = `Both "${other}" and "${spec}" are called "${source.info.name}": name one of them, as NAME=PATH`;
      throw new ShrinkerError("usage", message);
    }
    paths.set(source.info.name, spec);
    sources.push(source);
  }
  return sources;
}
