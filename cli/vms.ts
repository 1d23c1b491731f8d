import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileError, ShrinkerError } from "../core/errors.ts";
import type { Arrival, ArrivalContext } from "../core/handover/destination/arrival.ts";
import { Arrivals } from "../core/handover/destination/arrivals.ts";
import type { WaitingMachine } from "../core/handover/destination/waiting-machine.ts";
import { checkStreamName } from "../core/machines/image/name.ts";
import { launch } from "../core/machines/qemu/launch.ts";
import { QmpClient } from "../core/machines/qemu/qmp.ts";
import { findTransport } from "./addresses.ts";
import { FakePlaces } from "./fakes.ts";
import { startKeeper } from "./keeping.ts";
import { absoluteSocket, makeSocketFolder } from "./live-machines.ts";
import type { Options } from "./options.ts";
import type { Output } from "./output.ts";
import { needState } from "./settings.ts";

const KINDS = ["qmp", "launch", "fake"] as const;

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
  const state = needState(options);
  await using open = new AsyncDisposableStack();
  const sockets = open.use(await makeSocketFolder());
  const fakes = open.use(new FakePlaces(sockets.path, output));
  const context: ArrivalContext = {
    state,
    sockets: sockets.path,
    signal,
    keep: startKeeper,
    machine: async ({ name, machine }, signal) => {
      const spec = specs.find((spec) => spec.name === name);
      if (spec?.kind === "fake") return fakes.open(name, machine, signal);
      if (spec) return openVm(spec, state, signal);
      throw new ShrinkerError(
        "refused",
        `No guest "${name}" is expected here: start the receiver with --vm ${name}=qmp:SOCKET`,
      );
    },
    onState: (arrival) => tell(arrival, output),
    onRefused(name, { code, message }) {
      output.event({ type: "guest", name, state: "refused", code, message });
      output.note(`${name}: refused: ${message}`);
    },
  };
  const arrivals = new Arrivals(context, (address, signal) => {
    const local = findTransport(address);
    return local.transport.dial(local.address, { signal });
  });
  open.defer(() => arrivals.close());
  for (const note of await arrivals.recover()) output.note(note);
  const kept = open.move();
  return { arrivals, [Symbol.asyncDispose]: () => kept[Symbol.asyncDispose]() };
}

function tell({ name, state, error, qmp, runs }: Arrival, output: Output): void {
  // Of a QEMU that was started here nobody else knows where it is spoken to.
  const here = state === "running" && { qmp, runs };
  output.event({ type: "guest", name, state, ...here, ...(error && { code: error.code, message: error.message }) });
  if (error) output.note(`${name}: ${state === "ended" ? "not taken" : state}: ${error.message}`);
  else if (state === "running") output.note(`${name}: ${runs ? "runs here" : "is here, paused"}, QMP at ${qmp}`);
  else if (state === "loaded") output.note(`${name}: loaded`);
}

async function openVm({ name, kind, rest }: VmSpec, state: string, signal: AbortSignal): Promise<WaitingMachine> {
  if (kind === "qmp") return { qmp: await QmpClient.connect(rest, { signal }) };
  // The guest outlives this process, and so does its socket.
  const folder = join(state, "qmp");
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fileError("Cannot make the folder", folder, error);
  }
  const socket = join(
    resolve(folder),
    `${name.slice(0, 20).replace(/[^\w.-]/g, "_")}-${randomBytes(4).toString("hex")}`,
  );
  return launch({ command: rest, socket, signal });
}

function parseVms(texts: readonly string[]): VmSpec[] {
  const specs = texts.map(parseVm);
  const twice = specs.find(({ name }, i) => specs.findIndex((other) => other.name === name) < i);
  if (twice) throw new ShrinkerError("usage", `Two places are for "${twice.name}": give each guest one`);
  return specs;
}

function parseVm(text: string): VmSpec {
  const [, name, scheme, rest = ""] = /^([^=]+)=([a-z]+):(.*)$/s.exec(text) ?? [];
  const kind = KINDS.find((known) => known === scheme);
  // What a fake guest is like it brings along.
  if (name === undefined || !kind || (rest === "") !== (kind === "fake"))
    throw new ShrinkerError(
      "usage",
      `Cannot parse "${text}": expected NAME=qmp:SOCKET, NAME=launch:COMMAND or NAME=fake:`,
    );
  return { name: checkStreamName(name), kind, rest: kind === "qmp" ? absoluteSocket(rest) : rest };
}
