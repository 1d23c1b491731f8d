import { IntegrityError, ShrinkerError } from "../core/errors.ts";
import { type FakeVm, startFake } from "../core/machines/fake/fake-vm.ts";
import type { MigrationChange } from "../core/machines/fake/migration-record.ts";
import { FAKE_PARAMETERS, type FakeSpec, readFakeSpec, splitFakeSpec } from "../core/machines/fake/spec.ts";
import type { Action } from "./command.ts";
import type { Options } from "./options.ts";
import type { Output } from "./output.ts";
import { parseSize } from "./units.ts";

/** How often the sequence number is told, in milliseconds. */
const TELL_MS = 1000;

/** Runs a fake VM until it is told to quit, or a signal comes. */
export const fake: Action = async ({ args, options, output, interrupt }) => {
  const spec = readSpec(args, options);
  const qmpPath = readSocketPath(options.text("qmp") ?? "");
  if (qmpPath === "") throw new ShrinkerError("usage", "Give --qmp PATH: the socket at which QMP is served");
  const incoming = options.text("incoming");
  const begun = performance.now();
  const failure = Promise.withResolvers<never>();
  failure.promise.catch(() => {});
  const vm = await startFake(spec, {
    qmpPath,
    paused: options.flag("paused"),
    ...(incoming !== undefined && { incoming }),
    log: (line) => output.note(`${spec.name}: ${line}`),
    onMigration: (change, vm) => {
      if (!tellMigration(change, vm, output) || change.direction !== "in" || !options.flag("check")) return;
      // Not now: the source still waits to be told.
      setImmediate(() => {
        const { pages, wrong } = vm.check();
        output.event({ type: "check", pages, wrong });
        output.note(`${spec.name}: ${wrong} of ${pages} pages are wrong`);
        if (wrong > 0) failure.reject(new IntegrityError(`${wrong} of ${pages} pages of "${spec.name}" are wrong`));
      });
    },
  });
  output.event({ type: "ready", name: spec.name, qmp: qmpPath, status: vm.runState });
  output.note(`fake VM "${spec.name}" is ${vm.runState}, QMP at ${qmpPath}`);
  const stop = tellSequence(vm, output);
  const unlisten = tellRuns(vm, output);
  const interrupted = () => vm.shutDown(false, "host-signal");
  interrupt.signal.addEventListener("abort", interrupted);
  try {
    if (interrupt.signal.aborted) interrupted();
    const end = await Promise.race([vm.ended, failure.promise]);
    if (end === "killed") process.kill(process.pid, "SIGKILL");
    if (end instanceof ShrinkerError) throw end;
  } finally {
    stop();
    unlisten();
    await vm.close();
  }
  const seconds = Math.round(performance.now() - begun) / 1000;
  output.event({ type: "summary", ok: true, name: spec.name, sequence: vm.sequence, seconds });
  return interrupt.code ?? 0;
};

/** A path, or what QEMU's `-qmp` takes: `unix:PATH,server=on,wait=off`, with commas of the path doubled. */
function readSocketPath(text: string): string {
  if (!text.startsWith("unix:")) return text;
  const path = /^unix:((?:[^,]|,,)*)(?:,[a-z]+=(?:on|off))*$/.exec(text)?.[1];
  if (path === undefined)
    throw new ShrinkerError("usage", `Cannot parse "${text}" of --qmp: expected PATH or unix:PATH`);
  return path.replaceAll(",,", ",");
}

/** By NAME or NAME?PARAMETERS, and by options, which count more. */
function readSpec(args: readonly string[], options: Options): FakeSpec {
  const [text, ...more] = args;
  if (text === undefined || more.length > 0)
    throw new ShrinkerError("usage", "Name one fake VM: its name, or NAME?memory=256M&...");
  const { name, values } = splitFakeSpec(text);
  const merged = new Map(values);
  for (const parameter of FAKE_PARAMETERS) {
    const said = parameter === "fail" ? options.all(parameter) : [options.text(parameter) ?? []].flat();
    if (said.length > 0) merged.set(parameter, said);
  }
  return readFakeSpec({ name, values: merged }, { size: parseSize });
}

/** Returns whether the migration is complete. */
function tellMigration({ direction, status, error }: MigrationChange, vm: FakeVm, output: Output): boolean {
  const ok = status === "completed";
  if (!ok && status !== "failed" && status !== "cancelled") return false;
  const { name } = vm.parts.spec;
  const { sequence } = vm;
  output.event({ type: "migrated", direction, ok, status, sequence, ...(!ok && error && { message: error }) });
  output.note(`${name}: migration ${direction} ${status} at SEQ ${sequence}${!ok && error ? `: ${error}` : ""}`);
  return ok;
}

/** Tells when the guest stands still and when it goes on, from where; returns what ends that. */
function tellRuns(vm: FakeVm, output: Output): () => void {
  return vm.parts.events.listen(({ event, timestamp: { seconds, microseconds } }) => {
    if (event !== "STOP" && event !== "RESUME") return;
    const at = seconds * 1000 + microseconds / 1000;
    output.event({ type: event === "STOP" ? "stopped" : "resumed", sequence: vm.sequence, at });
  });
}

/** Tells the sequence number when it has changed, once a second; returns what ends that. */
function tellSequence(vm: FakeVm, output: Output): () => void {
  let told = vm.sequence;
  const timer = setInterval(() => {
    const { sequence } = vm;
    if (sequence === told) return;
    told = sequence;
    output.event({ type: "sequence", sequence });
    output.result([`SEQ ${sequence}`]);
  }, TELL_MS);
  return () => clearInterval(timer);
}
