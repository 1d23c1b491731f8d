import { setTimeout as sleep } from "node:timers/promises";
import { abortReason, ShrinkerError } from "../../errors.ts";
import { changeSettings, HOP_PARAMETERS, type HopOptions, hopCapabilities } from "./local-hop.ts";
import { type QmpClient, QmpError } from "./qmp.ts";
import { quitQemu, resumeGuest, runState } from "./run-state.ts";
import { type MigrationStatus, migrationStatus, waitForStatus } from "./status.ts";

const POLL_MS = 20;
/** For QEMU to notice that a stream has gone. */
export const PAUSE_MS = 10_000;

/** A QEMU that waits for a guest. It never lets the guest run before `run`: the source may still have it. */
export class QemuDestination {
  readonly qmp: QmpClient;

  constructor(qmp: QmpClient) {
    this.qmp = qmp;
  }

  /** Makes QEMU's settings those of the source. Rejects with `input` for a QEMU that doesn't wait for a guest, or no more. */
  async prepare(options: HopOptions = {}): Promise<void> {
    const { status } = await runState(this.qmp);
    if (status !== "inmigrate")
      throw this.#unfit(`it does not wait for a guest: it is ${status}; start it with -incoming defer`);
    const { status: migration } = await migrationStatus(this.qmp);
    if (migration !== "none")
      throw this.#unfit(`it has been given a guest before (its migration is ${migration}); start another one`);
    // Without it a QEMU that was started without -S would let the guest run at once, before the source knows.
    await this.qmp.execute("stop");
    await changeSettings(this.qmp, { capabilities: hopCapabilities(options), parameters: HOP_PARAMETERS });
  }

  /** Waits for the guest at `uri`, such as `unix:PATH`, from now on; QEMU listens there when this resolves. */
  async incoming(uri: string): Promise<void> {
    const { major, minor } = this.qmp.version;
    // Since 9.1 a QEMU that can't load a guest can stay and say why; before, it prints that and ends.
    const stays = major > 9 || (major === 9 && minor >= 1);
    await this.qmp.execute("migrate-incoming", stays ? { uri, "exit-on-error": false } : { uri });
  }

  status(): Promise<MigrationStatus> {
    return migrationStatus(this.qmp);
  }

  /**
   * Waits until the guest is there, ready to `run`: all of it, or with post-copy as much as it needs to begin. Rejects as
   * `waitForStatus`, and with `input` where the guest runs already.
   */
  async loaded(signal: AbortSignal): Promise<MigrationStatus> {
    for (;;) {
      const status = await waitForStatus(this.qmp, ["completed", "postcopy-active", "postcopy-paused"], { signal });
      const state = await runState(this.qmp);
      if (state.running) throw this.#unfit("it runs its guest already, which somebody else has started");
      if (state.status !== "inmigrate") return status;
      await sleep(POLL_MS, undefined, { signal }).catch(() => {
        throw abortReason(signal);
      });
    }
  }

  /** Lets the guest run, and makes sure that it does. Rejects with `input` before the guest is `loaded`. */
  async run(): Promise<void> {
    const { status } = await runState(this.qmp);
    // There QEMU would take `cont` as leave to let the guest run as soon as it is loaded.
    if (status === "inmigrate") throw this.#unfit("its guest is not loaded yet");
    await resumeGuest(this.qmp);
  }

  /** Ends QEMU with what it has of the guest, and waits until it has closed its socket. Only of a guest that never ran. */
  discard(): Promise<void> {
    return quitQemu(this.qmp);
  }

  /**
   * Waits at another `uri` for a post-copy whose stream has broken, also where QEMU hasn't noticed yet. It works while QEMU itself
   * waits for a page, when it takes no other command; and again.
   * @param ms milliseconds for QEMU to notice; then rejects with its refusal
   */
  async recover(uri: string, signal = new AbortController().signal, ms = PAUSE_MS): Promise<void> {
    for (const until = performance.now() + ms; ; ) {
      const refused = await this.#outOfBand("migrate-recover", { uri });
      if (!refused) return;
      if (signal.aborted) throw abortReason(signal);
      if (performance.now() > until) throw refused;
      await this.#outOfBand("migrate-pause");
      await sleep(POLL_MS);
    }
  }

  /** Resolves with QEMU's refusal, if it refuses. */
  async #outOfBand(command: string, args = {}): Promise<QmpError | undefined> {
    try {
      await this.qmp.execute(command, args, { outOfBand: true });
      return undefined;
    } catch (error) {
      if (error instanceof QmpError) return error;
      throw error;
    }
  }

  #unfit(why: string): ShrinkerError {
    return new ShrinkerError("input", `Cannot take a guest in at "${this.qmp.path}": ${why}`);
  }
}
