import { ShrinkerError } from "../../errors.ts";
import { changeSettings, HOP_PARAMETERS, type HopOptions, hopCapabilities } from "./local-hop.ts";
import { type QmpClient, QmpError } from "./qmp.ts";
import { isLive, quitQemu, resumeGuest, runState, stopGuest } from "./run-state.ts";
import { type MigrationSettings, writeSettings } from "./settings.ts";
import { type MigrationStatus, migrationStatus, type WaitOptions, waitForStatus } from "./status.ts";

/** Bytes a second: more than any link has. The tool reads as fast as its own link takes. */
const UNLIMITED = 2 ** 40;
/** To cancel in: a QEMU whose socket is closed needs a moment. */
const CANCEL_MS = 30_000;
/** States in which QEMU has stopped the guest, or another did, and `cont` is right. */
const STOPPED: ReadonlySet<string> = new Set(["paused", "finish-migrate", "postmigrate"]);
const SWITCHOVER_BANDWIDTH = "avail-switchover-bandwidth";

export interface SourceSettings extends HopOptions {
  /** Bytes a second at most; practically unlimited unless given. */
  readonly bandwidth?: number | undefined;
  /** Milliseconds that the guest may stand still; QEMU's own setting (300) unless given. */
  readonly downtimeLimitMs?: number | undefined;
  /** Slows the guest down where it dirties memory faster than the link takes it; off unless asked for. */
  readonly autoConverge?: boolean | undefined;
  /** Waits in `pre-switchover`, the guest stopped, until `continueSwitchover`; so unless false. */
  readonly pauseBeforeSwitchover?: boolean | undefined;
  /** Is given what the settings were, before any is changed. */
  readonly keep?: ((saved: MigrationSettings) => Promise<void>) | undefined;
}

export interface CancelOptions {
  /** Ends the wait. */
  readonly signal?: AbortSignal;
  /** Milliseconds; 30 s unless given. */
  readonly timeout?: number;
}

/**
 * A QEMU whose guest leaves. Methods reject as `QmpClient.execute` does, also where nothing else is said. QEMU answers nobody
 * while it writes the last part of a guest: close its stream first where that stalls.
 */
export class QemuSource {
  readonly qmp: QmpClient;
  /** Whether the guest ran when the migration was started; for a journal. */
  guestRan: boolean | undefined;

  /** @param options `guestRan`: what a journal knows of a migration that was begun before */
  constructor(qmp: QmpClient, options: { guestRan?: boolean | undefined } = {}) {
    this.qmp = qmp;
    this.guestRan = options.guestRan;
  }

  /** Makes QEMU's settings fit for a migration through this tool; gives what they were, for `restore`. */
  prepare(options: SourceSettings = {}): Promise<MigrationSettings> {
    const {
      bandwidth = UNLIMITED,
      downtimeLimitMs,
      autoConverge = false,
      pauseBeforeSwitchover = true,
      keep,
    } = options;
    const capabilities = {
      ...hopCapabilities(options),
      "auto-converge": autoConverge,
      "pause-before-switchover": pauseBeforeSwitchover,
    };
    const parameters = {
      ...HOP_PARAMETERS,
      "max-bandwidth": bandwidth,
      // QEMU's own estimate, until a rate is set.
      [SWITCHOVER_BANDWIDTH]: 0,
      ...(downtimeLimitMs !== undefined && { "downtime-limit": downtimeLimitMs }),
    };
    return changeSettings(this.qmp, { capabilities, parameters }, keep);
  }

  /** Puts back what `prepare` gave. Not while a migration is under way. */
  restore(saved: MigrationSettings): Promise<void> {
    return writeSettings(this.qmp, saved);
  }

  /** Bytes a second that QEMU is to reckon with at the end; false where it can't be told (before 8.2). */
  async setSwitchoverBandwidth(bytes: number): Promise<boolean> {
    try {
      await this.qmp.execute("migrate-set-parameters", { [SWITCHOVER_BANDWIDTH]: Math.floor(bytes) });
      return true;
    } catch (error) {
      if (error instanceof QmpError && error.desc.includes(SWITCHOVER_BANDWIDTH)) return false;
      throw error;
    }
  }

  /** Begins to send the guest to `uri`, such as `unix:PATH`. */
  async start(uri: string): Promise<void> {
    this.guestRan = isLive(await runState(this.qmp));
    await this.qmp.execute("migrate", { uri });
  }

  status(): Promise<MigrationStatus> {
    return migrationStatus(this.qmp);
  }

  /** As `waitForStatus`. */
  waitFor(wanted: readonly string[], options: WaitOptions): Promise<MigrationStatus> {
    return waitForStatus(this.qmp, wanted, options);
  }

  /**
   * Ends the migration, and lets the guest run here if it ran before, or nobody knows. May be called when it has failed
   * already, or never began. Rejects with `refused` once the guest may run elsewhere: when the migration has completed or
   * post-copy has begun; then nothing is changed.
   */
  async cancel({
    signal = new AbortController().signal,
    timeout = CANCEL_MS,
  }: CancelOptions = {}): Promise<MigrationStatus> {
    const { status } = await this.status();
    if (status.startsWith("postcopy")) throw gone("post-copy has begun");
    if (status !== "none") await this.qmp.execute("migrate_cancel", {}, { timeout });
    const ended = await this.waitFor(["none", "cancelled", "failed", "completed"], { signal, timeout });
    const state = await runState(this.qmp);
    // It may be another one, of long ago: then the guest runs here.
    if (ended.status === "completed" && !isLive(state)) throw gone("the migration has completed");
    if (this.guestRan !== false && STOPPED.has(state.status)) await resumeGuest(this.qmp);
    return ended;
  }

  /** Lets the guest run; does nothing where it does. Whoever calls it knows that it runs nowhere else. */
  resumeGuest(): Promise<void> {
    return resumeGuest(this.qmp);
  }

  stopGuest(): Promise<void> {
    return stopGuest(this.qmp);
  }

  /** Ends QEMU, and waits until it has closed its socket. */
  quit(): Promise<void> {
    return quitQemu(this.qmp);
  }

  /** From `pre-switchover` on; the guest's last pages and its devices follow. */
  async continueSwitchover(): Promise<void> {
    await this.qmp.execute("migrate-continue", { state: "pre-switchover" });
  }

  /** Has the guest go on at the destination before all of it is there; there is no way back. */
  async startPostcopy(): Promise<void> {
    await this.qmp.execute("migrate-start-postcopy");
  }

  /** Takes QEMU from the stream that has broken, also where it hasn't noticed yet; then the status is `postcopy-paused`. */
  async pausePostcopy(): Promise<void> {
    await this.qmp.execute("migrate-pause", {}, { outOfBand: true });
  }

  /** Goes on with post-copy over another stream, once the destination waits for it. */
  async recover(uri: string): Promise<void> {
    await this.qmp.execute("migrate", { uri, resume: true });
  }
}

function gone(why: string): ShrinkerError {
  return new ShrinkerError(
    "refused",
    `Cannot cancel the migration: ${why}, so the guest may run at the destination; finish it there, or see which one is whole`,
  );
}
