import { tmpdir } from "node:os";
import { resolve } from "node:path";
import { ShrinkerError } from "../core/errors.ts";
import { makeOwnFolder, type OwnFolder } from "../core/files/own-folder.ts";
import { type NamedSpec, parseMachine } from "../core/machines/image/name.ts";

const SCHEMES = ["qmp:", "fake:"] as const;

/** A guest that runs, as the command line names it. */
export interface LiveSpec {
  readonly name: string | undefined;
  readonly kind: "qmp" | "fake";
  /** The path of the QMP socket, or what is behind `fake:`. */
  readonly rest: string;
}

/** The guests among the machines; undefined where there are none. Throws `usage` where there are others as well. */
export function parseLive(texts: readonly string[]): LiveSpec[] | undefined {
  const specs = texts.map(parseMachine);
  const live = specs.flatMap(liveSpec);
  if (live.length === 0) return undefined;
  const other = specs.find((spec) => liveSpec(spec).length === 0);
  if (other)
    throw new ShrinkerError(
      "usage",
      `"${other.spec}" is a file, and others are guests that run: move them one after the other`,
    );
  return live;
}

function liveSpec({ name, spec }: NamedSpec): LiveSpec[] {
  const scheme = SCHEMES.find((known) => spec.startsWith(known));
  if (!scheme) return [];
  const rest = spec.slice(scheme.length);
  if (rest === "") throw new ShrinkerError("usage", `Nothing behind "${scheme}": expected qmp:SOCKET or fake:NAME`);
  return [scheme === "qmp:" ? { name, kind: "qmp", rest: absoluteSocket(rest) } : { name, kind: "fake", rest }];
}

/** Journals name a guest by its socket, and may be read from another folder. */
export function absoluteSocket(path: string): string {
  return resolve(path);
}

/** A folder for sockets: for this user alone, with a short path, as a socket's may have only 107 bytes. */
export function makeSocketFolder(): Promise<OwnFolder> {
  const runtime = process.env.XDG_RUNTIME_DIR;
  return makeOwnFolder(runtime?.startsWith("/") ? runtime : tmpdir()).catch(() => makeOwnFolder(tmpdir()));
}
