import type net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { LinkError, ProtocolError, ShrinkerError } from "../../errors.ts";
import { Channel, type ChannelAddress } from "./channel.ts";
import { type FaultPoint, LATE_MS } from "./faults.ts";
import { listenAt, type SocketServer } from "./listen.ts";
import { encodePong, encodeShut } from "./return-path.ts";
import type { GuestState } from "./state.ts";
import { type ReaderHost, StreamReader } from "./stream-reader.ts";
import { MACHINE_TYPE, type VmParts } from "./vm-parts.ts";

/** Thrown through the reader by a fault that leaves it as it is for ever. */
const STALLED = new Error("stalled");

function asShrinkerError(error: unknown): ShrinkerError {
  return error instanceof ShrinkerError ? error : new ProtocolError(String(error), { cause: error });
}

/** A migration into a VM: one connection, that of the first who comes. */
export class IncomingMigration {
  readonly #vm: VmParts;
  readonly #exitOnError: boolean;
  #server: SocketServer | undefined;
  #channel: Channel | undefined;
  #answers = false;
  #damaged = false;
  #over = false;

  /** @param exitOnError whether the VM ends when it can't load the guest, as QEMU does by default */
  constructor(vm: VmParts, exitOnError: boolean) {
    this.#vm = vm;
    this.#exitOnError = exitOnError;
    vm.ended.addEventListener("abort", () => {
      this.#over = true;
      void this.#server?.close();
      this.#channel?.destroy();
    });
  }

  /** Resolves once it listens. Rejects as `listenAt` does. */
  async listen(address: ChannelAddress): Promise<void> {
    const { migration } = this.#vm;
    const server = await listenAt(address, (socket) => this.#accept(socket));
    if (this.#vm.ended.aborted) return server.close();
    this.#server = server;
    migration.address = server.address;
    migration.begin();
  }

  #accept(socket: net.Socket): void {
    if (this.#channel) {
      socket.destroy();
      return;
    }
    void this.#server?.close();
    const channel = new Channel(socket);
    this.#channel = channel;
    this.#vm.migration.set("active");
    const reader = new StreamReader(this.#host(channel));
    if (!this.#meets("setup")) return;
    channel.onData((bytes) => {
      if (this.#over) return;
      try {
        reader.push(bytes);
      } catch (error) {
        if (error !== STALLED) this.#fail(asShrinkerError(error));
        return;
      }
      if (!reader.state) return;
      this.#over = true;
      void this.#load(reader.state, channel);
    });
    channel.onEnd(() => this.#fail(new LinkError("The source left before all of the guest was here")));
  }

  #host(channel: Channel): ReaderHost {
    const answer = (bytes: Uint8Array) => {
      if (this.#answers) channel.write(bytes).catch(() => {});
    };
    const meet = (point: FaultPoint, round?: number) => {
      if (!this.#meets(point, round)) throw STALLED;
    };
    return {
      memory: this.#vm.guest.memory,
      machine: MACHINE_TYPE,
      openReturnPath: () => {
        this.#answers = true;
      },
      ping: (value) => answer(encodePong(value)),
      round: (round) => meet("round", round),
      switchover: () => meet("switchover"),
      device: () => meet("device"),
    };
  }

  /** Commits the faults that are due. Returns whether there is anything to go on with. */
  #meets(point: FaultPoint, round = 0): boolean {
    const { faults } = this.#vm;
    if (faults.take("corrupt", point, round)) this.#damaged = true;
    if (faults.take("die", point, round)) this.#vm.die();
    else if (faults.take("stall", point, round)) this.#channel?.stall();
    else return true;
    this.#over = true;
    return false;
  }

  /** The guest is here: it goes on, and then the source is told so, in QEMU's order. */
  async #load(state: GuestState, channel: Channel): Promise<void> {
    const { guest, run, migration, faults } = this.#vm;
    guest.restore(state);
    if (!this.#meets("loaded")) return;
    if (this.#damaged) guest.damage();
    if (state.runState !== "running") run.set(state.runState);
    else if (this.#vm.autostart) run.start();
    else run.set("paused");
    if (faults.take("late", "loaded")) await sleep(LATE_MS);
    if (this.#vm.ended.aborted) return;
    migration.set("completed");
    if (this.#answers) await channel.write(encodeShut(false)).catch(() => {});
    await channel.end();
    channel.destroy();
  }

  #fail(error: ShrinkerError): void {
    if (this.#over) return;
    this.#over = true;
    this.#channel?.destroy();
    this.#vm.log(error.message);
    this.#vm.migration.error = error.message;
    this.#vm.migration.set("failed");
    if (this.#exitOnError) this.#vm.fail(error);
  }
}
