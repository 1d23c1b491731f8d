/** Runs a row of a table of live migrations, and says what is wrong with what came of it. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Passing, startHandoverRelay } from "../handover-relay.ts";
import { connectQmp } from "../qemu/qmp.ts";
import { journals, twoAtOnce } from "./history.ts";
import { leftOf, processesOf } from "./processes.ts";
import type { End, GuestRow, Row, Step } from "./row.ts";
import { startTool, type Tool, type ToolEvent } from "./tool.ts";
import type { LiveVm, Machines } from "./vm.ts";

const ONE: readonly GuestRow[] = [{ name: "web" }];
/** A step, at most. */
const STEP_MS = 30_000;
/** What may take a moment once the tool has ended. */
const SOON_MS = 5000;

/** Runs a row; rejects with what is wrong, and what all of its processes have said. */
export async function runRow(row: Row, machines: Machines): Promise<void> {
  await using run = await Run.begin(row, machines);
  try {
    await run.steps();
    await run.check();
  } catch (error) {
    throw new Error(`${(error as Error).message}\n\n${run.said()}`);
  }
}

class Run implements AsyncDisposable {
  readonly #row: Row;
  readonly #machines: Machines;
  readonly #folder: string;
  readonly #guests: readonly GuestRow[];
  readonly #stack = new AsyncDisposableStack();
  readonly #vms: LiveVm[] = [];
  readonly #launchers = new Map<GuestRow, ReturnType<Machines["launcher"]>>();
  readonly #tools: { readonly part: "migrate" | "receive"; readonly tool: Tool }[] = [];
  readonly #notes: string[] = [];
  readonly #begun = performance.now();
  #relay!: Awaited<ReturnType<typeof startHandoverRelay>>;
  #migrateEnded = false;
  /** Tools that were told to end. */
  readonly #ending = new Set<Tool>();

  private constructor(row: Row, machines: Machines) {
    this.#row = row;
    this.#machines = machines;
    this.#guests = row.guests ?? ONE;
    this.#folder = mkdtempSync(join(tmpdir(), "rows-"));
    for (const name of ["a", "b", "run-a", "run-b"]) mkdirSync(this.#path(name));
    this.#stack.defer(() => rmSync(this.#folder, { recursive: true, force: true }));
    this.#stack.defer(() => this.#killRest());
    this.#stack.defer(async () => void (await Promise.all(this.#tools.map(({ tool }) => tool[Symbol.asyncDispose]()))));
  }

  static async begin(row: Row, machines: Machines): Promise<Run> {
    const run = new Run(row, machines);
    try {
      await run.#start();
      return run;
    } catch (error) {
      await run[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { relay: rules = [], latency = 0, place = "qmp", fromFake = false } = this.#row;
    const vms = fromFake ? [] : this.#guests.map((guest) => this.#startVm(guest, "source"));
    if (place === "qmp") vms.push(...this.#guests.map((guest) => this.#startVm(guest, "destination")));
    const starting = [this.#receive(), ...vms] as const;
    // Where one fails the others are to be known, so that they can be ended.
    await Promise.allSettled(starting);
    const [port] = await Promise.all(starting);
    this.#relay = await startHandoverRelay({ to: port, rules, latency });
    this.#stack.defer(() => this.#relay.close());
    this.#migrate();
  }

  async steps(): Promise<void> {
    for (const step of this.#row.steps ?? [])
      await within(this.#step(step), STEP_MS, `the step ${JSON.stringify(step)}`);
    if (!this.#migrateEnded) await within(this.#step({ ends: 0 }), STEP_MS, "migrate");
  }

  /** What must be so after every row. */
  async check(): Promise<void> {
    const { where = "destination", left = {}, keepsSource = false, paused = false, place } = this.#row;
    const wrong = this.#relay.unmet.map((at) => `the relay has met no "${at}"`);
    if (!paused) await this.#runs(where);
    const tool = this.#last("migrate");
    const summary = tool.events.at(-1);
    for (const [key, value] of Object.entries(this.#row.summary ?? {}))
      if (JSON.stringify(summary?.[key]) !== JSON.stringify(value))
        wrong.push(`the summary's ${key} is ${JSON.stringify(summary?.[key])}`);
    wrong.push(...(await this.#leftBehind(left)));
    this.#last("receive").signal("SIGTERM");
    await this.#last("receive").result;
    for (const end of ["a", "b"] as const) {
      const folders = readdirSync(this.#path(`run-${end}`));
      if (folders.length > 0 && !left.sockets) wrong.push(`sockets are left: ${folders.join()}`);
    }
    const sources = this.#vms.filter(({ end }) => end === "source");
    const gone = where === "destination" && !keepsSource;
    // It closes its sockets, by which the tool knows, a little before it has ended.
    if (gone) await within(Promise.all(sources.map((vm) => vm.gone())), SOON_MS, "the end of a VM").catch(() => {});
    for (const vm of where === "nobody" ? [] : sources)
      if (gone !== vm.ended)
        wrong.push(`the VM of "${vm.guest}" at the source ${gone ? "is still there" : "has ended"}`);
    const wire = this.#tools.map(({ tool, part }) => (part === "migrate" ? wireOf(tool.events.at(-1)) : 0));
    const crossed = wire.reduce((sum, bytes) => sum + bytes, 0);
    if (this.#row.wire && !this.#row.wire(crossed)) wrong.push(`${crossed} bytes crossed`);
    for (const { name } of this.#guests) {
      const vms = this.#allVms().filter(({ guest }) => guest === name);
      wrong.push(...twoAtOnce(vms), ...(await this.#machines.history(vms, place === "fake" ? {} : this.#row)));
      if (place === "fake") wrong.push(...this.#checkOwn(name));
      const checked = vms.some((vm) => vm.end === "destination" && vm.wrong() !== undefined);
      if (where === "destination" && !checked && place !== "fake") wrong.push("its memory was not looked at");
    }
    await Promise.all(this.#allVms().map((vm) => vm[Symbol.asyncDispose]()));
    for (const { pid, command } of await leftOf(this.#folder, SOON_MS))
      wrong.push(`process ${pid} is left: ${command}`);
    if (wrong.length > 0) throw new Error(`${wrong.join("\n")}\n`);
  }

  said(): string {
    const words = this.#relay?.passed ?? [];
    const passed = `passed: ${words.filter((word, i) => word !== words[i - 1]).join(", ")}`;
    return [
      ...this.#notes,
      passed,
      ...this.#tools.map(({ tool }) => tool.said()),
      ...this.#allVms().map((vm) => vm.said()),
    ].join("\n\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  // Steps

  async #step(step: Step): Promise<void> {
    this.#notes.push(`${Math.round(performance.now() - this.#begun)} ms: ${JSON.stringify(step)}`);
    const tool = this.#last("migrate");
    if ("at" in step) await this.#at(step.at);
    else if ("phase" in step) await this.#until("migrate", { type: "guest", phase: step.phase });
    else if ("round" in step)
      await tool.until(({ type, round }) => type === "round" && Number(round) >= step.round, "such a round");
    else if ("guest" in step)
      await this.#eachVm(step.guest === "stopped" ? "source" : "destination", (vm) => vm[step.guest]());
    else if ("gone" in step) await this.#eachVm(step.gone, (vm) => vm.gone());
    else if ("journal" in step) await this.#journal(step.of, step.journal);
    else if ("event" in step) await this.#until(step.of, step.event);
    else if ("sleep" in step) await sleep(step.sleep);
    else if ("kill" in step) await this.#kill(step.kill);
    else if ("signal" in step) this.#signal(this.#last(step.to), step.signal);
    else if ("link" in step) this.#link(step.link);
    else if ("relay" in step) this.#relay[step.relay]();
    else if ("ends" in step) await this.#ends([step.ends].flat());
    else if ("start" in step) await this.#restart(step.start);
    else if ("again" in step) {
      await this.#locksFreed();
      this.#migrate(step.with);
      await this.#ends([step.again]);
    } else if ("resolve" in step) await this.#resolve(step.resolve, step.as, step.code ?? 0);
    else if ("stall" in step) await this.#eachVm(step.stall, (vm) => vm.stall());
    else if ("qmp" in step) await this.#eachVm(step.to, (vm) => execute(vm.qmp, step.qmp));
    else await this.#runs(step.runs);
  }

  async #journal(end: End, phase: string): Promise<void> {
    const folder = this.#path(end === "source" ? "a" : "b");
    while (journals(folder).phases !== phase) await sleep(20);
  }

  async #at(word: Passing): Promise<void> {
    await this.#relay.acted(word);
  }

  async #until(of: "migrate" | "receive", wanted: Readonly<Record<string, unknown>>): Promise<void> {
    const matches = (event: ToolEvent) => Object.entries(wanted).every(([key, value]) => event[key] === value);
    await this.#last(of).until(matches, JSON.stringify(wanted));
  }

  async #kill(part: "migrate" | "receive" | End): Promise<void> {
    if (part === "source" || part === "destination") await this.#eachVm(part, (vm) => vm.kill());
    else await this.#last(part).kill();
    if (part === "migrate") this.#migrateEnded = true;
  }

  #signal(tool: Tool, signal: NodeJS.Signals): void {
    tool.signal(signal);
    if (signal === "SIGTERM") this.#ending.add(tool);
  }

  /** Who watched over a tool that was killed has done its work, and a tool that was told to end has: a journal is for one at a time. */
  async #locksFreed(): Promise<void> {
    await Promise.all([...this.#ending].map(({ result }) => result));
    if (this.#last("migrate").endedAt === undefined) return;
    const guarded = () => processesOf(this.#folder).some(({ command }) => command.includes("guardian.ts"));
    for (const end = performance.now() + SOON_MS; guarded() && performance.now() < end; ) await sleep(100);
  }

  #link(state: "cut" | "down" | "up" | "silent" | "heard"): void {
    if (state === "up" || state === "down") this.#relay.refuse(state === "down");
    if (state === "cut" || state === "down") this.#relay.cut();
    if (state === "silent" || state === "heard") this.#relay.silence(state === "silent");
  }

  async #ends(codes: readonly number[]): Promise<void> {
    const { code, stderr } = await this.#last("migrate").result;
    this.#migrateEnded = true;
    if (code === null || !codes.includes(code)) throw new Error(`migrate ended with ${code}, not ${codes}: ${stderr}`);
  }

  async #restart(part: "receive" | "destination"): Promise<void> {
    if (part === "receive") this.#relay.retarget(await this.#receive());
    // Faults are of the first.
    else await Promise.all(this.#guests.map((guest) => this.#startVm(withoutFaults(guest), "destination")));
  }

  async #resolve(end: End, as: End, expected: number): Promise<void> {
    await this.#locksFreed();
    for (const { name } of this.#guests) {
      const tool = this.#tool("migrate", end, ["resolve", name, "--as", as], false);
      const { code, stderr } = await tool.result;
      if (code !== expected) throw new Error(`resolve ended with ${code}: ${stderr}`);
    }
  }

  async #runs(where: End | "nobody"): Promise<void> {
    for (const { name } of this.#guests) {
      let now: string[] = [];
      for (const end = performance.now() + SOON_MS; ; await sleep(10)) {
        now = this.#allVms().flatMap((vm) => (vm.guest === name && vm.running ? [vm.end] : []));
        if (now.join() === (where === "nobody" ? "" : where)) break;
        // Of one in the receiver's own process there are only the receiver's words.
        if (this.#row.place === "fake" && where === "destination" && now.length === 0) {
          await this.#until("receive", { type: "guest", name, state: "running" });
          break;
        }
        if (performance.now() > end) throw new Error(`"${name}" runs at "${now}", not at "${where}"`);
      }
    }
  }

  // What a row starts

  #path(...names: string[]): string {
    return join(this.#folder, ...names);
  }

  async #startVm(guest: GuestRow, end: End): Promise<void> {
    this.#vms.push(await this.#machines.start(guest, end, this.#folder));
  }

  #tool(part: "migrate" | "receive", end: End, args: readonly string[], kept = true): Tool {
    const side = end === "source" ? "a" : "b";
    const env = { XDG_RUNTIME_DIR: this.#path(`run-${side}`) };
    const tool = startTool([...args, "--state", this.#path(side)], { env });
    if (kept) this.#tools.push({ part, tool });
    return tool;
  }

  #migrate(options: readonly string[] = this.#row.migrate ?? []): void {
    const { fromFake } = this.#row;
    const machines = this.#guests.map(({ name }) =>
      fromFake ? `fake:${name}?memory=8M` : `${name}=qmp:${this.#path(`s-${name}`)}`,
    );
    this.#tool("migrate", "source", ["migrate", ...machines, "--to", this.#relay.address, ...options]);
    this.#migrateEnded = false;
  }

  /** Resolves with the port at which it listens. */
  async #receive(): Promise<number> {
    const { place = "qmp", receive = [] } = this.#row;
    const places = this.#guests.flatMap((guest) => {
      const { name } = guest;
      if (place === "fake") return ["--vm", `${name}=fake:`];
      if (place === "qmp") return ["--vm", `${name}=qmp:${this.#path(`d-${name}`)}`];
      const launcher = this.#launchers.get(guest) ?? this.#machines.launcher(guest, this.#folder);
      this.#launchers.set(guest, launcher);
      const { command } = launcher;
      return ["--vm", `${name}=launch:${command}`];
    });
    const listen = ["receive", "--listen", "tcp://127.0.0.1:0", ...places, ...receive];
    const tool = this.#tool("receive", "destination", listen);
    const { address } = await tool.until(({ type }) => type === "listening", "listening");
    return Number(/:(\d+)$/.exec(String(address))![1]);
  }

  // What it looks at

  #last(part: "migrate" | "receive"): Tool {
    return this.#tools.findLast((one) => one.part === part)!.tool;
  }

  /** Those at the source first, each end's in the order of their start. */
  #allVms(): LiveVm[] {
    const all = [...this.#vms, ...[...this.#launchers.values()].flatMap(({ vms }) => vms())];
    return all.sort((a, b) => Number(a.end === "destination") - Number(b.end === "destination"));
  }

  async #eachVm(end: End, act: (vm: LiveVm) => Promise<void>): Promise<void> {
    const live = this.#allVms().filter((vm) => vm.end === end && !vm.ended);
    await Promise.all(live.map(act));
  }

  /** Journals that are there though they should not be, and the other way round. */
  async #leftBehind({ source = [], destination = [] }: NonNullable<Row["left"]>): Promise<string[]> {
    const wanted = { a: [...source].sort().join(), b: [...destination].sort().join() };
    for (const end = performance.now() + SOON_MS; ; await sleep(20)) {
      const found = { a: journals(this.#path("a")), b: journals(this.#path("b")) };
      const wrong = (["a", "b"] as const).filter((side) => found[side].phases !== wanted[side]);
      const locks = (["a", "b"] as const).filter((side) => wanted[side] === "" && found[side].files.length > 0);
      if (wrong.length + locks.length === 0) return [];
      if (performance.now() < end) continue;
      return [...wrong, ...locks].map((side) => `journals at ${side}: "${found[side].phases}" (${found[side].files})`);
    }
  }

  /** Of a VM in the receiver's process there is what that has said. */
  #checkOwn(name: string): string[] {
    const check = this.#last("receive").events.find((event) => event.type === "check" && event.name === name);
    const stopped =
      this.#vms
        .find(({ guest }) => guest === name)
        ?.changes()
        .at(-1)?.sequence ?? 0;
    if (!check || Number(check.sequence) < stopped)
      return [`"${name}" is not looked at, or went back: ${check?.sequence}`];
    return check.wrong === (this.#row.corrupt ? 1 : 0) ? [] : [`${check.wrong} pages of "${name}" are wrong`];
  }

  async #killRest(): Promise<void> {
    for (const { pid } of processesOf(this.#folder)) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended meanwhile.
      }
    }
    await leftOf(this.#folder, SOON_MS);
  }
}

function withoutFaults({ destination: { fail: _, ...destination } = {}, ...guest }: GuestRow): GuestRow {
  return { ...guest, destination };
}

/** All that crossed the link, as a summary has it. */
function wireOf(event: ToolEvent | undefined): number {
  const bytes = event?.bytes;
  return typeof bytes === "object" && bytes !== null && "wire" in bytes ? Number(bytes.wire) : 0;
}

/** By QMP; what it does may end the VM before it answers. */
async function execute(path: string, command: string): Promise<void> {
  const qmp = await connectQmp(path);
  try {
    await qmp.execute(command);
  } finally {
    qmp.close();
  }
}

async function within(promise: Promise<unknown>, ms: number, what: string): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`${what} takes too long`)), ms);
  try {
    await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
