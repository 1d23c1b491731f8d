import { ShrinkerError } from "../../errors.ts";
import { Capabilities } from "./capabilities.ts";
import type { ChannelAddress } from "./channel.ts";
import { EventLog, type FakeEvent } from "./events.ts";
import { FaultPlan } from "./faults.ts";
import { Guest } from "./guest.ts";
import { IncomingMigration } from "./incoming.ts";
import { type MigrationChange, MigrationRecord } from "./migration-record.ts";
import { OutgoingMigration } from "./outgoing.ts";
import { Parameters } from "./parameters.ts";
import { readAddress } from "./qmp-arguments.ts";
import { QmpError } from "./qmp-error.ts";
import { type QmpServer, serveQmp } from "./qmp-server.ts";
import { RunControl, type RunState } from "./run-state.ts";
import type { FakeSpec } from "./spec.ts";
import type { VmParts } from "./vm-parts.ts";

export interface FakeOptions {
  /** Where QMP is served: a unix socket. */
  readonly qmpPath: string;
  /** Waits for a guest: `true` or `defer` until `migrate-incoming`, or at once at this URI (`unix:PATH`, `tcp:HOST:PORT`). */
  readonly incoming?: boolean | string;
  /** QEMU's `-S`: neither a new guest nor one that has come in runs before `cont`. */
  readonly paused?: boolean;
  /** Told what QEMU would print on stderr. */
  log?(line: string): void;
  /** Told of each state that a migration comes to, whether or not QMP's events are on. */
  onMigration?(change: MigrationChange, vm: FakeVm): void;
}

/** How long a guest takes to shut down when it is asked to, in milliseconds. */
const POWERDOWN_MS = 100;

/** How a fake VM ended: in order, as a process that is killed, or because the guest that came in could not be loaded. */
export type FakeEnd = "quit" | "killed" | ShrinkerError;

/** A fake VM in this process; everything else goes by its QMP. */
export class FakeVm implements AsyncDisposable {
  readonly parts: VmParts;
  /** Resolves once it has ended: by `quit`, `system_powerdown`, `close`, a fault, or an incoming migration that failed. */
  readonly ended: Promise<FakeEnd>;
  readonly #finish: (end: FakeEnd) => void;
  readonly #end = new AbortController();
  readonly #awaitsGuest: boolean;
  #incoming: IncomingMigration | undefined;
  #outgoing: OutgoingMigration | undefined;
  #server: QmpServer | undefined;
  #closing: Promise<void> | undefined;
  #powerDown: ReturnType<typeof setTimeout> | undefined;

  /** Use `startFake`. */
  constructor(spec: FakeSpec, options: Omit<FakeOptions, "qmpPath">) {
    const { incoming = false, paused = false, log = () => {}, onMigration = () => {} } = options;
    const { promise, resolve } = Promise.withResolvers<FakeEnd>();
    this.ended = promise;
    this.#finish = resolve;
    this.#awaitsGuest = incoming !== false;
    const events = new EventLog();
    const capabilities = new Capabilities();
    const guest = new Guest(spec, this.#awaitsGuest);
    this.parts = {
      spec,
      guest,
      events,
      capabilities,
      run: new RunControl(guest, events, this.#awaitsGuest ? "inmigrate" : "prelaunch"),
      parameters: new Parameters(),
      faults: new FaultPlan(spec.faults),
      migration: new MigrationRecord(
        events,
        () => capabilities.has("events"),
        (change) => onMigration(change, this),
      ),
      autostart: !paused,
      ended: this.#end.signal,
      die: () => this.#die(),
      fail: (error) => void this.#exit(error),
      log,
    };
    if (!this.#awaitsGuest && !paused) this.parts.run.start();
  }

  /** Goes up every 20 ms while the guest runs, on whichever VM. */
  get sequence(): number {
    return this.parts.guest.sequence;
  }

  get runState(): RunState {
    return this.parts.run.state;
  }

  /** The last 1000, oldest first. */
  get events(): readonly FakeEvent[] {
    return this.parts.events.list;
  }

  /** Compares all of the guest's memory with what it should be, page by page. */
  check(): { pages: number; wrong: number } {
    return this.parts.guest.check();
  }

  /** Serves QMP and, where it is to, waits for a guest. Called once, by `startFake`. */
  async serve({ qmpPath, incoming }: FakeOptions): Promise<void> {
    this.#server = await serveQmp(this, qmpPath);
    if (typeof incoming !== "string" || incoming === "defer") return;
    try {
      await this.migrateIncoming(readAddress({ uri: incoming }), true);
    } catch (error) {
      throw error instanceof QmpError ? new ShrinkerError("usage", error.message, { cause: error }) : error;
    }
  }

  /** Begins to send the guest. Throws a `QmpError` where it can't be sent. */
  migrate(address: ChannelAddress): void {
    const { migration, faults } = this.parts;
    if (this.runState === "inmigrate") throw new QmpError("Guest is waiting for an incoming migration");
    if (this.runState === "postmigrate")
      throw new QmpError("Can't migrate the vm that was paused due to previous migration");
    if (migration.busy) throw new QmpError("There's a migration process in progress");
    if (faults.take("refuse", "setup")) throw new QmpError("Refused on purpose: fail=refuse@setup");
    migration.address = undefined;
    this.#outgoing = new OutgoingMigration(this.parts);
    void this.#outgoing.run(address);
  }

  /** Waits for the guest, once. Throws a `QmpError` where it doesn't wait for one, and as `listenAt` does. */
  async migrateIncoming(address: ChannelAddress, exitOnError: boolean): Promise<void> {
    if (!this.#awaitsGuest) throw new QmpError("'-incoming' was not specified on the command line");
    if (this.#incoming) throw new QmpError("The incoming migration has already been started");
    if (this.parts.faults.take("refuse", "setup")) throw new QmpError("Refused on purpose: fail=refuse@setup");
    const incoming = new IncomingMigration(this.parts, exitOnError);
    this.#incoming = incoming;
    try {
      await incoming.listen(address);
    } catch (error) {
      this.#incoming = undefined;
      throw error;
    }
  }

  cancelMigration(): void {
    const { migration } = this.parts;
    if (migration.busy && migration.address === undefined && migration.status !== "cancelling")
      this.#outgoing?.cancel();
  }

  /** Goes on after `pre-switchover`. Throws a `QmpError` where the migration is in another state than `expected`. */
  continueMigration(expected: string): void {
    const { migration, faults } = this.parts;
    if (migration.status !== expected || expected !== "pre-switchover")
      throw new QmpError(`Migration not in expected state: ${migration.status}`);
    if (faults.take("refuse", "switchover")) throw new QmpError("Refused on purpose: fail=refuse@switchover");
    this.#outgoing?.goOn();
  }

  /** Asks the guest to shut down, which it does unless it is stopped. */
  powerDown(): void {
    this.parts.events.emit("POWERDOWN");
    this.#powerDown ??= setTimeout(() => {
      this.#powerDown = undefined;
      if (this.runState === "running") this.shutDown(true, "guest-shutdown");
    }, POWERDOWN_MS);
  }

  /** Ends in order. */
  shutDown(guest: boolean, reason: string): void {
    this.parts.events.emit("SHUTDOWN", { guest, reason });
    void this.#exit("quit");
  }

  /** Ends everything, and resolves once its sockets are gone. */
  close(): Promise<void> {
    return this.#exit("quit");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #exit(end: FakeEnd): Promise<void> {
    this.#closing ??= this.#stop(end);
    return this.#closing;
  }

  /** Lets the answer to the last command go out first. */
  async #stop(end: FakeEnd): Promise<void> {
    this.parts.run.set("shutdown");
    clearTimeout(this.#powerDown);
    this.#end.abort();
    await new Promise((resolve) => setImmediate(resolve));
    await this.#server?.close();
    this.#finish(end);
  }

  #die(): void {
    this.#closing ??= Promise.resolve();
    this.parts.run.set("shutdown");
    clearTimeout(this.#powerDown);
    this.#end.abort();
    this.#server?.destroy();
    this.#finish("killed");
  }
}

/** Starts a fake VM. Rejects with `usage`, `exists`, `input` or `link` where its sockets can't be made. */
export async function startFake(spec: FakeSpec, options: FakeOptions): Promise<FakeVm> {
  const vm = new FakeVm(spec, options);
  try {
    await vm.serve(options);
    return vm;
  } catch (error) {
    await vm.close();
    throw error;
  }
}
