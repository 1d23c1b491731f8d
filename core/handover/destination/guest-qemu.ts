import { QemuDestination } from "../../machines/qemu/destination.ts";
import { within } from "../../within.ts";
import type { Journal } from "../journal.ts";
import { reach } from "../reach.ts";
import { lacksMemory } from "./lacks-memory.ts";
import { endMachine, type WaitingMachine } from "./waiting-machine.ts";

/** From when it closes its socket until it has ended; the source waits for its words no longer than half a second. */
const DYING_MS = 250;

/** The QEMU in which a guest arrives, over a connection that is made anew where it has ended: as the guest's journal says. */
export class GuestQemu {
  readonly #journal: Journal;
  readonly #waiting: WaitingMachine | undefined;
  #machine: QemuDestination | undefined;

  /** @param waiting undefined where it has ended, or nothing has to be asked of it yet */
  constructor(journal: Journal, waiting: WaitingMachine | undefined) {
    this.#journal = journal;
    this.#waiting = waiting;
    this.#machine = waiting && new QemuDestination(waiting.qmp);
  }

  /** Over the connection that there was last; undefined where there was none, or `open` has found that it has ended. */
  get machine(): QemuDestination | undefined {
    return this.#machine;
  }

  /** Connects to it where it isn't connected; undefined where it has ended. Rejects as `reach`. */
  async open(): Promise<QemuDestination | undefined> {
    if (!this.#machine || this.#machine.qmp.isClosed) {
      const qmp = await reach(this.#journal.entry);
      this.#machine = qmp && new QemuDestination(qmp);
    }
    return this.#machine;
  }

  /** Connects once more where the connection has ended, as its keeper may have died. False where QEMU has, or can't be reached. */
  async reconnect(signal: AbortSignal): Promise<boolean> {
    if (this.#journal.entry.keeper === undefined) return false;
    const qmp = await reach(this.#journal.entry, signal);
    if (qmp) this.#machine = new QemuDestination(qmp);
    return qmp !== undefined;
  }

  /** As `lacksMemory`, over another connection where that is needed: undefined where QEMU has ended. */
  async lacksMemory(): Promise<boolean | undefined> {
    if (this.#machine) {
      const lacks = await lacksMemory(this.#machine.qmp);
      if (lacks !== undefined) return lacks;
    }
    const qmp = await reach(this.#journal.entry);
    if (!qmp) return undefined;
    this.#machine = new QemuDestination(qmp);
    return lacksMemory(qmp);
  }

  /** What it printed as it died, as the end of a sentence; "" where it lives, or nobody heard it. */
  async lastWords(): Promise<string> {
    const { said, ended } = this.#waiting ?? {};
    if (!said || !ended || !(await within(ended, DYING_MS))) return "";
    return said() && `; it said: ${said()}`;
  }

  /** Ends it with what it has of the guest. Never rejects. */
  async end(): Promise<void> {
    const kill = this.#waiting?.kill;
    if (this.#machine) await endMachine({ qmp: this.#machine.qmp, kill });
    else await kill?.();
  }

  /** Leaves it as it is. */
  async close(): Promise<void> {
    await this.#machine?.qmp.close();
  }
}
