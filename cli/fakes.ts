import { join } from "node:path";
import { IntegrityError } from "../core/errors.ts";
import type { WaitingMachine } from "../core/handover/destination/waiting-machine.ts";
import { type FakeVm, startFake } from "../core/machines/fake/fake-vm.ts";
import { fakeSpec, parseFakeSpec } from "../core/machines/fake/spec.ts";
import { QmpClient } from "../core/machines/qemu/qmp.ts";
import type { MachineFacts } from "../core/wire/handover.ts";
import type { LiveSpec } from "./live-machines.ts";
import type { Output } from "./output.ts";
import { parseSize } from "./units.ts";

export interface StartedGuests extends AsyncDisposable {
  readonly sockets: readonly { readonly name: string | undefined; readonly qmp: string }[];
}

/**
 * Starts the fake guests among these, in this process, and tells the QMP sockets of all.
 * @param folder for their sockets
 */
export async function startFakes(specs: readonly LiveSpec[], folder: string): Promise<StartedGuests> {
  const fakes: FakeVm[] = [];
  const end = async () => {
    await Promise.all(fakes.map((fake) => fake.close()));
  };
  try {
    const sockets: { name: string | undefined; qmp: string }[] = [];
    for (const { name, kind, rest } of specs) {
      if (kind === "qmp") {
        sockets.push({ name, qmp: rest });
        continue;
      }
      const qmp = join(folder, `fake-${fakes.length}`);
      fakes.push(await startFake(parseFakeSpec(rest, { size: parseSize }), { qmpPath: qmp }));
      sockets.push({ name, qmp });
    }
    return { sockets, [Symbol.asyncDispose]: end };
  } catch (error) {
    await end();
    throw error;
  }
}

/** Places for fake guests that arrive, in this process, whose memory is checked once they run. */
export class FakePlaces implements AsyncDisposable {
  readonly #folder: string;
  readonly #output: Output;
  readonly #fakes = new Set<FakeVm>();
  #count = 0;

  /** @param folder for their sockets */
  constructor(folder: string, output: Output) {
    this.#folder = folder;
    this.#output = output;
  }

  /** Starts a fake that waits for a guest like that. Rejects with `usage` for a size that no fake has. */
  async open(name: string, { ramBytes }: MachineFacts, signal: AbortSignal): Promise<WaitingMachine> {
    // The rest comes with the guest.
    const spec = fakeSpec(name, { memory: ramBytes });
    const qmpPath = join(this.#folder, `fake-${++this.#count}`);
    const fake = await startFake(spec, { qmpPath, incoming: true });
    this.#fakes.add(fake);
    const kill = async () => {
      this.#fakes.delete(fake);
      await fake.close();
    };
    try {
      const qmp = await QmpClient.connect(qmpPath, { signal });
      return { qmp, kill, check: async () => this.#check(name, fake) };
    } catch (error) {
      await kill();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#fakes].map((fake) => fake.close()));
  }

  #check(name: string, fake: FakeVm): void {
    const { pages, wrong } = fake.check();
    this.#output.event({ type: "check", name, pages, wrong, sequence: fake.sequence });
    this.#output.note(`${name}: ${wrong} of ${pages} pages are wrong, at SEQ ${fake.sequence}`);
    if (wrong > 0) throw new IntegrityError(`${wrong} of ${pages} pages of "${name}" are wrong`);
  }
}
