import { PAGE_SIZE } from "../../content/page.ts";
import { SECTION_END, SECTION_PART } from "../../segment/qemu/format.ts";
import { CHANNEL_ERROR, type ChannelAddress } from "./channel.ts";
import { type FaultPoint, LATE_MS } from "./faults.ts";
import { OutgoingStream } from "./outgoing-stream.ts";
import { PageQueue } from "./page-queue.ts";
import { RateWindow } from "./rate-window.ts";
import type { RunState } from "./run-state.ts";
import { encodeState, STATES_TO_KEEP } from "./state.ts";
import { COMMAND_OPEN_RETURN_PATH, COMMAND_PING, describeDevices } from "./stream-writer.ts";
import { MACHINE_TYPE, type VmParts } from "./vm-parts.ts";

/** The longest that a section of pages goes on, in milliseconds. */
const SECTION_MS = 50;

const never = new Promise<never>(() => {});

/** One migration out of a VM: QEMU's migration thread. */
export class OutgoingMigration {
  readonly #vm: VmParts;
  readonly #stream: OutgoingStream;
  readonly #queue: PageQueue;
  /** What the guest did when it was stopped for this. */
  #stateBefore: RunState | undefined;
  /** Whether a fault changes the guest's unchanging page on its way. */
  #flip = false;
  #cancelled = false;
  /** Ends the wait in `pre-switchover`. */
  #goOn: (() => void) | undefined;

  constructor(vm: VmParts) {
    this.#vm = vm;
    this.#queue = new PageQueue(vm.guest.memory.log);
    this.#stream = new OutgoingStream({
      memory: vm.guest.memory,
      returnPath: vm.capabilities.has("return-path"),
      lost: (reason) => {
        vm.migration.error ??= reason;
      },
      sent: () => this.#count(),
    });
  }

  /** Runs to the end, whichever that is. Never rejects. */
  async run(address: ChannelAddress): Promise<void> {
    const { migration, ended } = this.#vm;
    const stream = this.#stream;
    migration.begin();
    ended.addEventListener("abort", stream.abort);
    try {
      await this.#setUp(address);
      await this.#iterate();
      await this.#complete();
    } catch (error) {
      stream.abort();
      this.#fail(this.#cancelled ? CHANNEL_ERROR : (error as Error).message);
    } finally {
      ended.removeEventListener("abort", stream.abort);
    }
    await stream.end();
  }

  cancel(): void {
    this.#cancelled = true;
    this.#vm.migration.set("cancelling");
    this.#stream.abort();
  }

  /** Goes on after `pre-switchover`. */
  goOn(): void {
    this.#goOn?.();
  }

  async #setUp(address: ChannelAddress): Promise<void> {
    const { migration, guest, parameters } = this.#vm;
    const { writer, returnPath } = this.#stream;
    const begun = performance.now();
    migration.ram = {
      total: guest.memory.pages * PAGE_SIZE,
      remaining: guest.memory.pages,
      ...{ transferred: 0, precopyBytes: 0, downtimeBytes: 0, normal: 0, zeros: 0 },
      ...{ syncs: 0, dirtyRate: 0, mbps: 0, pagesPerSecond: 0 },
    };
    migration.expectedDowntime = parameters.downtimeLimit;
    await this.#stream.connect(address);
    writer.begin(MACHINE_TYPE);
    if (returnPath) {
      writer.command(COMMAND_OPEN_RETURN_PATH);
      writer.command(COMMAND_PING, Buffer.of(0, 0, 0, 1));
    }
    await this.#stream.flush();
    await this.#meet("setup");
    this.#beginPass();
    writer.blockList();
    await this.#stream.flush();
    migration.setupTime = Math.round(performance.now() - begun);
    migration.set("active");
    await this.#meet("round", 1);
  }

  /** Sends pages, pass by pass, until what is left takes less time than the guest may be stopped for. */
  async #iterate(): Promise<void> {
    const { parameters, spec, migration } = this.#vm;
    const window = new RateWindow(parameters, migration);
    for (;;) {
      this.#stream.check();
      let left = this.#queue.count * PAGE_SIZE;
      if (left < window.threshold) {
        if (spec.rounds > 0 && migration.ram!.syncs >= spec.rounds) return;
        await this.#sync();
        left = this.#queue.count * PAGE_SIZE;
      }
      if (left === 0 || left < window.threshold) return;
      await this.#sendPart(window);
      this.#count();
      window.update();
      const wait = window.pause();
      if (wait > 0) await this.#stream.wait(wait);
    }
  }

  async #sendPart(window: RateWindow): Promise<void> {
    const { writer } = this.#stream;
    const until = performance.now() + SECTION_MS;
    writer.beginRam(SECTION_PART);
    while (this.#sendPage() && !window.spent(writer.transferred)) {
      if (!writer.full) continue;
      await this.#stream.flush();
      if (performance.now() >= until) break;
    }
    writer.endRam();
    await this.#stream.flush();
  }

  /** Writes the next page that is due; returns whether there was one. */
  #sendPage(): boolean {
    const page = this.#queue.next();
    if (page < 0) return false;
    this.#stream.writer.page(page, this.#flip && page === this.#vm.guest.victim);
    return true;
  }

  /** Stops the guest and sends what is left, with no limit but the connection's. */
  async #complete(): Promise<void> {
    const { migration, run, capabilities, guest, faults } = this.#vm;
    const stream = this.#stream;
    const begun = performance.now();
    this.#stateBefore = run.state;
    if (run.state === "running") run.stop("finish-migrate");
    else run.set("finish-migrate");
    if (capabilities.has("pause-before-switchover")) await this.#pause();
    migration.set("device");
    await this.#meet("switchover");
    if (faults.take("hang", "switchover")) await stream.until(never);
    await this.#sync();
    const before = stream.writer.transferred;
    stream.writer.beginRam(SECTION_END);
    while (this.#sendPage()) if (stream.writer.full) await stream.flush();
    stream.writer.endRam();
    await stream.flush();
    await this.#meet("device");
    const kept = STATES_TO_KEEP.find((state) => state === this.#stateBefore) ?? "paused";
    stream.writer.state(encodeState(guest.state(kept)));
    stream.writer.end(describeDevices());
    await stream.flush();
    this.#count();
    migration.ram!.downtimeBytes = stream.writer.transferred - before;
    await stream.awaitOutcome();
    if (faults.take("late", "device")) await stream.wait(LATE_MS);
    migration.downtime = Math.round(performance.now() - begun);
    run.set("postmigrate");
    migration.error = undefined;
    migration.set("completed");
  }

  /** Waits, without a limit and whatever becomes of the connection, to be told to go on. */
  async #pause(): Promise<void> {
    const told = new Promise<void>((resolve) => {
      this.#goOn = resolve;
    });
    this.#vm.migration.set("pre-switchover");
    await this.#stream.until(told);
  }

  /** Asks which pages were written since the last time, and begins another pass over memory with them. */
  async #sync(): Promise<void> {
    this.#queue.sync();
    this.#vm.migration.ram!.dirtyRate = this.#queue.dirtyRate;
    await this.#meet("round", this.#beginPass());
  }

  #beginPass(): number {
    const { migration } = this.#vm;
    const pass = ++migration.ram!.syncs;
    migration.pass(pass);
    return pass;
  }

  /** Commits the faults that are due. */
  async #meet(point: FaultPoint, round = 0): Promise<void> {
    const { faults, guest } = this.#vm;
    if (faults.take("corrupt", point, round)) {
      this.#flip = true;
      this.#queue.add(guest.victim);
    }
    if (faults.take("die", point, round)) this.#vm.die();
    if (faults.take("stall", point, round)) {
      this.#stream.stall();
      await this.#stream.until(never);
    }
    this.#stream.check();
  }

  #count(): void {
    const ram = this.#vm.migration.ram!;
    const { transferred, normal, zeros } = this.#stream.writer;
    Object.assign(ram, { transferred, normal, zeros, remaining: this.#queue.count });
    if (this.#vm.migration.status === "active") ram.precopyBytes = transferred;
  }

  /** The guest goes on where it was stopped for this. */
  #fail(reason: string): void {
    const { migration, run, ended } = this.#vm;
    if (ended.aborted) return;
    migration.error ??= reason;
    if (!this.#cancelled) migration.set("failed");
    if (this.#stateBefore === "running") run.start();
    else if (this.#stateBefore) run.set(this.#stateBefore);
    if (this.#cancelled) migration.set("cancelled");
  }
}
