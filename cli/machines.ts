import { ShrinkerError } from "../core/errors.ts";
import { parseMachine } from "../core/machines/image/name.ts";
import { openImage } from "../core/machines/image/source.ts";
import type { StreamSource } from "../core/machines/machine.ts";
import { openNbd } from "../core/machines/nbd/source.ts";

/** A disk by its content, in whatever format the image is. */
const NBD = "nbd:";

export interface MachineOptions {
  /** The segmenter's name; else told by the first bytes. */
  readonly format?: string | undefined;
  /** Whether to compute the SHA-256 of their plain bytes; the default. */
  readonly digest?: boolean;
  readonly signal?: AbortSignal;
}

/**
 * Opens the machines of a command line, all of them before anything is dialled; to be closed. Rejects with `usage` or
 * `refused` for names, two of which must not be alike, and `input` for what can't be read.
 */
export async function openMachines(texts: readonly string[], options: MachineOptions = {}): Promise<StreamSource[]> {
  const specs = texts.map(parseMachine);
  for (const { spec } of specs) {
    const scheme = /^([a-z][a-z0-9+.-]*:)/.exec(spec)?.[1];
    if (scheme !== undefined && scheme !== NBD)
      throw new ShrinkerError("usage", `Unknown machine "${spec}": for a file of that name write ./${spec}`);
    if (spec === NBD) throw new ShrinkerError("usage", `No image in "${spec}": expected nbd:PATH`);
  }
  if (specs.filter(({ spec }) => spec === "-").length > 1)
    throw new ShrinkerError("usage", 'Standard input, "-", can be only one machine');
  const sources: StreamSource[] = [];
  const paths = new Map<string, string>();
  try {
    for (const { name, spec } of specs) {
      const source = await openMachine(spec, name, options);
      sources.push(source);
      const other = paths.get(source.info.name);
      if (other !== undefined) {
        const message = `Both "${other}" and "${spec}" are called "${source.info.name}": name one of them, as NAME=PATH`;
        throw new ShrinkerError("usage", message);
      }
      paths.set(source.info.name, spec);
    }
  } catch (error) {
    await closeMachines(sources);
    throw error;
  }
  return sources;
}

function openMachine(
  spec: string,
  name: string | undefined,
  { format, digest = true, signal }: MachineOptions,
): Promise<StreamSource> {
  const named = { digest, ...(name && { name }) };
  if (spec.startsWith(NBD)) return openNbd({ path: spec.slice(NBD.length), ...named, ...(signal && { signal }) });
  return openImage({ path: spec, ...named, ...(format && { format }) });
}

/** Frees what machines still hold. Never rejects. */
export async function closeMachines(sources: readonly StreamSource[]): Promise<void> {
  await Promise.all(sources.map((source) => source.close?.()));
}
