import { setTimeout as sleep } from "node:timers/promises";
import { abortReason, ShrinkerError } from "../../errors.ts";
import { changeSettings, HOP_PARAMETERS, type HopOptions, hopCapabilities } from "./local-hop.ts";
import type { QmpClient } from "./qmp.ts";
import { quitQemu, resumeGuest, runState } from "./run-state.ts";
import { type MigrationStatus, migrationStatus, waitForStatus } from "./status.ts";

const POLL_MS = 20;

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

  /** Takes QEMU from a post-copy's stream that has broken, also where it hasn't noticed; then the status is `postcopy-paused`. */
  async pausePostcopy(): Promise<void> {
    await this.qmp.execute("migrate-pause", {}, { outOfBand: true });
  }

  /** Waits at another `uri` for a post-copy that was interrupted; works also while the guest waits for a page. */
  async recover(uri: string): Promise<void> {
    await this.qmp.execute("migrate-recover", { uri }, { outOfBand: true });
  }

  #unfit(why: string): ShrinkerError {
    return new ShrinkerError("input", `Cannot take a guest in at "${this.qmp.path}": ${why}`);
  }
}
