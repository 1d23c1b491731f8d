import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { fileError, ShrinkerError } from "../core/errors.ts";
import type { Arrival, ArrivalContext, WaitingMachine } from "../core/handover/arrival.ts";
import { Arrivals } from "../core/handover/arrivals.ts";
import { needsState } from "../core/handover/journal.ts";
import { checkStreamName } from "../core/machines/image/name.ts";
import { launch } from "../core/machines/qemu/launch.ts";
import { QmpClient } from "../core/machines/qemu/qmp.ts";
import { findTransport } from "./addresses.ts";
import { makeSocketFolder } from "./live-machines.ts";
import type { Options } from "./options.ts";
import type { Output } from "./output.ts";
import { readState } from "./settings.ts";

const KINDS = ["qmp", "launch"] as const;

/** A place for a guest, as `--vm` names it. */
interface VmSpec {
  readonly name: string;
  readonly kind: (typeof KINDS)[number];
  readonly rest: string;
}

/** What `--vm` says of the guests that may come; undefined where it says nothing. Ends with the signal. */
export async function openArrivals(options: Options, output: Output, signal: AbortSignal) {
  const specs = parseVms(options.all("vm"));
  if (specs.length === 0) return undefined;
  const state = readState(options);
  if (state === undefined) throw needsState();
  const sockets = await makeSocketFolder();
  const context: ArrivalContext = {
    state,
    sockets: sockets.path,
    signal,
    machine: async ({ name }, signal) => {
      const spec = specs.find((spec) => spec.name === name);
      if (spec) return openVm(spec, state, signal);
      throw new ShrinkerError(
        "refused",
        `No guest "${name}" is expected here: start the receiver with --vm ${name}=qmp:SOCKET`,
      );
    },
    onState: (arrival) => tell(arrival, output),
  };
  const arrivals = new Arrivals(context, (address, signal) => {
    const local = findTransport(address);
    return local.transport.dial(local.address, { signal });
  });
  for (const note of await arrivals.recover()) output.note(note);
  return {
    arrivals,
    async [Symbol.asyncDispose]() {
      await arrivals.close();
      await sockets[Symbol.asyncDispose]();
    },
  };
}

function tell({ name, state, error }: Arrival, output: Output): void {
  output.event({ type: "guest", name, state, ...(error && { code: error.code, message: error.message }) });
  if (error) output.note(`${name}: ${state === "ended" ? "not taken" : state}: ${error.message}`);
  else if (state !== "ended") output.note(`${name}: ${state}`);
}

async function openVm({ name, kind, rest }: VmSpec, state: string, signal: AbortSignal): Promise<WaitingMachine> {
  if (kind === "qmp") return { qmp: await QmpClient.connect(rest, { signal }), pid: undefined };
  // The guest outlives this process, and so does its socket.
  const folder = join(state, "qmp");
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fileError("Cannot make the folder", folder, error);
  }
  const socket = join(folder, `${name.slice(0, 20).replace(/[^\w.-]/g, "_")}-${randomBytes(4).toString("hex")}`);
  const { qmp, pid } = await launch({ command: rest, socket, signal });
  return { qmp, pid };
}

function parseVms(texts: readonly string[]): VmSpec[] {
  const specs = texts.map(parseVm);
  const twice = specs.find(({ name }, i) => specs.findIndex((other) => other.name === name) < i);
  if (twice) throw new ShrinkerError("usage", `Two places are for "${twice.name}": give each guest one`);
  return specs;
}

function parseVm(text: string): VmSpec {
  const match = /^([^=]+)=([a-z]+):(.+)$/s.exec(text);
  const kind = KINDS.find((known) => known === match?.[2]);
  if (!match || !kind)
    throw new ShrinkerError("usage", `Cannot parse "${text}": expected NAME=qmp:SOCKET or NAME=launch:COMMAND`);
  return { name: checkStreamName(match[1]!), kind, rest: match[3]! };
}
