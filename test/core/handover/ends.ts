/** Both ends of hand-overs in this process, with fake VMs: a source's cluster, a destination that can be started again, and sessions. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { acceptSession } from "../../../core/engine/destination-session.ts";
import { openSession } from "../../../core/engine/source-session.ts";
import { ShrinkerError } from "../../../core/errors.ts";
import { type ArrivalFate, Arrivals } from "../../../core/handover/destination/arrivals.ts";
import type { WaitingMachine } from "../../../core/handover/destination/waiting-machine.ts";
import type { Journal } from "../../../core/handover/journal.ts";
import { begin, type Departing } from "../../../core/handover/source/begin.ts";
import { type ClusterOptions, moveCluster } from "../../../core/handover/source/cluster.ts";
import type { ClusterLink } from "../../../core/handover/source/cluster-link.ts";
import { Mailbox } from "../../../core/handover/source/mailbox.ts";
import type { MoveOutcome } from "../../../core/handover/source/outcome.ts";
import { takeUp } from "../../../core/handover/source/take-up.ts";
import type { Waits } from "../../../core/handover/source/waits.ts";
import { type FakeVm, startFake } from "../../../core/machines/fake/fake-vm.ts";
import type { Fault } from "../../../core/machines/fake/faults.ts";
import { type FakeSpec, fakeSpec } from "../../../core/machines/fake/spec.ts";
import { QmpKeeper } from "../../../core/machines/qemu/keeper.ts";
import { QmpClient } from "../../../core/machines/qemu/qmp.ts";
import { parseAddress } from "../../../core/transport/transport.ts";
import { TunnelEntrance } from "../../../core/tunnel/entrance.ts";
import { exitTarget } from "../../../core/tunnel/exit.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { transports } from "../../../transports/registry.ts";
import { destinationOptions, memoryTarget, sourceOptions } from "../../support/session.ts";

export const never = new AbortController().signal;
export const TO = "memory:there";
const MIB = 1 << 20;
const RETURNS = { window: 20, log: 4096 };

/** What happens to the words of a session: `say` has one go its way, `cut` breaks the link. */
export interface Word {
  readonly from: "source" | "destination";
  /** Of all words so far, from 0. */
  readonly number: number;
  readonly payload: Buffer;
}
export type Meddle = (word: Word, cut: () => Promise<void>) => Promise<"deliver" | "drop">;

export interface SourceOptions extends Partial<FakeSpec> {
  readonly paused?: boolean;
  readonly socket?: string;
}

export interface Ends extends AsyncDisposable {
  /** State folders. */
  readonly a: string;
  readonly b: string;
  path(name: string): string;
  /** A guest that runs, at the source. */
  source(options?: SourceOptions): Promise<FakeVm>;
  /** A VM that waits for it; takes the place of the one before. */
  place(name?: string, socket?: string, faults?: readonly Fault[], memory?: number): Promise<FakeVm>;
  /** The path of the QMP socket of the last place. */
  placeSocket(name?: string): string;
  /** The moments at which a guest was let run while its other copy ran. */
  readonly violations: string[];
  /** What keeps connections to places, and the connection. */
  readonly keepers: { readonly keeper: QmpKeeper; readonly client: QmpClient }[];
  /** How often a copy at the destination was let run. */
  readonly starts: number;
  destination(): Destination;
  readonly options: ClusterOptions;
  /** Begins with a guest, as `migrate` does. */
  begin(more?: Partial<Parameters<typeof begin>[0]>): Promise<Departing>;
  /** As `shrinker migrate`: takes up what is left, and moves what can be moved. */
  migrate(
    to: Destination,
    more?: Partial<ClusterOptions>,
    beginning?: Partial<Parameters<typeof begin>[0]>,
  ): Promise<MoveOutcome[]>;
  /** Moves these. */
  move(to: Destination, departing: readonly Departing[]): Promise<MoveOutcome[]>;
  /** As `shrinker migrate` of guests that an earlier run has left: moves nothing. */
  settle(to: Destination, more?: Partial<ClusterOptions>): Promise<MoveOutcome[]>;
}

export interface Destination {
  readonly arrivals: Arrivals;
  readonly states: string[];
  readonly refused: ShrinkerError[];
  readonly fates: Promise<ArrivalFate[]>[];
  /** A session to it. */
  open(meddle?: Meddle): Promise<ClusterLink>;
  /** Resolves when its sessions so far are over. */
  idle(): Promise<unknown>;
  /** Its process ends, in order. */
  close(): Promise<void>;
}

/** @param b the name of the destination's state folder */
export async function ends({ waits = {}, b = "b" }: { waits?: Partial<Waits>; b?: string } = {}): Promise<Ends> {
  const folder = mkdtempSync(join(tmpdir(), "handover-"));
  const path = (name: string) => join(folder, name);
  const vms: FakeVm[] = [];
  const violations: string[] = [];
  const destinations: Destination[] = [];
  const keepers: { readonly keeper: QmpKeeper; readonly client: QmpClient }[] = [];
  let starts = 0;
  let sockets = 0;
  let here: { vm: FakeVm; qmp: string; name: string } | undefined;
  const places = new Map<string, { vm: FakeVm; qmp: string }>();

  const running = (vm: FakeVm | undefined) => vm?.runState === "running";
  const watch = (vm: FakeVm, other: () => FakeVm | undefined, what: string) => {
    const { run } = vm.parts;
    const start = run.start.bind(run);
    run.start = () => {
      if (running(other())) violations.push(`${what} was let run while the other one ran`);
      if (what === "destination" && !running(vm)) starts++;
      start();
    };
  };
  const start = async (qmp: string, given: Partial<FakeSpec> & { name: string }, incoming: boolean, paused = false) => {
    const spec = fakeSpec(given.name, { memory: MIB, dirty: 0, private: 65_536, ...given });
    const vm = await startFake(spec, { qmpPath: qmp, incoming, paused });
    vms.push(vm);
    return vm;
  };

  const options: ClusterOptions = {
    ...{ state: path("a"), to: TO, parallel: 4, settleMs: 0, signal: never },
    ...{ onTimeout: "cancel", switchoverTimeoutMs: 2000, autoConverge: false },
    open: () => Promise.reject(new ShrinkerError("link", "there is no way to it")),
    listenLocal: () => {
      const address = parseAddress(`unix:${path(`out${++sockets}`)}`, transports);
      return transports.get("unix")!.listen(address, { signal: never });
    },
    ...{ onPhase: () => {}, onStatus: () => {}, onPostcopy: () => {}, onUnsettled: () => {}, onOutcome: () => {} },
  };

  const all: Ends = {
    ...{ a: path("a"), b: path(b), path, violations, options, keepers },
    get starts() {
      return starts;
    },
    async source({ paused = false, name = "web", socket = "source", ...spec } = {}) {
      const vm = await start(path(socket), { ...spec, name }, false, paused);
      here = { vm, qmp: path(socket), name };
      watch(vm, () => places.get(name)?.vm, "source");
      return vm;
    },
    placeSocket: (name = "web") => places.get(name)!.qmp,
    async place(name = "web", qmp = path(`place-${++sockets}`), faults = [], memory = MIB) {
      const vm = await start(qmp, { name, faults, memory }, true);
      places.set(name, { vm, qmp });
      watch(vm, () => (here?.name === name ? here.vm : undefined), "destination");
      return vm;
    },
    destination() {
      const closing = new AbortController();
      const states: string[] = [];
      const refused: ShrinkerError[] = [];
      const sessions = new Set<Promise<unknown>>();
      const fates: Promise<ArrivalFate[]>[] = [];
      const context = {
        ...{ state: path(b), sockets: folder, signal: closing.signal },
        machine: async ({ name }: { name: string }, signal: AbortSignal): Promise<WaitingMachine> => {
          const place = places.get(name);
          if (!place) throw new ShrinkerError("refused", `No guest "${name}" is expected here`);
          return { qmp: await QmpClient.connect(place.qmp, { signal }) };
        },
        async keep(qmp: string, { keeperPath, path: journal }: Journal) {
          const client = await QmpClient.connect(qmp, { signal: never });
          const wanted = () => existsSync(journal);
          keepers.push({ keeper: await QmpKeeper.start(client, { socket: keeperPath, wanted }), client });
        },
        onState: ({ state }: { state: string }) => void states.push(state),
        onRefused: (_name: string, error: ShrinkerError) => void refused.push(error),
      };
      const arrivals = new Arrivals(context, (text, signal) => {
        const address = parseAddress(text, transports);
        return transports.get("unix")!.dial(address, { signal });
      });
      const made: Destination = {
        ...{ arrivals, states, refused, fates },
        async open(meddle = async () => "deliver") {
          if (closing.signal.aborted) throw new ShrinkerError("link", "nobody listens there");
          const [near, far] = memoryPair();
          let number = 0;
          const cut = async () => {
            const reason = new ShrinkerError("link", "the link was cut");
            await Promise.all([near.destroy(reason), far.destroy(reason)]);
          };
          const via = (from: Word["from"], tell: (payload: Buffer) => Promise<void>) => async (payload: Buffer) => {
            const verdict = await meddle({ from, number: number++, payload }, cut);
            if (verdict === "drop") throw new ShrinkerError("link", "the word was lost with the link");
            await tell(payload);
          };
          const serve = async () => {
            const told = (payload: Buffer) => tell(payload);
            let tell = async (_: Buffer): Promise<void> => {};
            const guests = arrivals.session((payload) => told(payload));
            const { signal } = closing;
            try {
              const target = exitTarget({
                services: guests.services,
                sender: () => session.sender,
                others: memoryTarget(),
              });
              const session = await acceptSession(far, {
                ...destinationOptions,
                ...{ returns: RETURNS, target, told: guests.told, signal },
              });
              tell = via("destination", session.tell);
              await session.run();
            } catch {
              // The test looks at what became of guests.
            } finally {
              const ended = guests.ended();
              fates.push(ended);
              await ended;
            }
          };
          const serving = serve();
          sessions.add(serving);
          const mailbox = new Mailbox(waits);
          const entrance = new TunnelEntrance();
          const session = await openSession(near, {
            ...sourceOptions,
            ...{ returns: RETURNS, target: entrance.target, told: (payload) => mailbox.take(payload) },
          });
          return { mailbox, entrance, session: { ...session, tell: via("source", session.tell) } };
        },
        idle: () => Promise.all(sessions),
        async close() {
          closing.abort(new ShrinkerError("cancelled", "the receiver ends"));
          await Promise.all(sessions);
          await arrivals.close();
        },
      };
      destinations.push(made);
      return made;
    },
    begin: (more = {}) =>
      begin({
        ...{ name: here!.name, qmp: here!.qmp, state: path("a"), to: TO, signal: never },
        ...{ keepSource: false, paused: false, sharedStorage: false, ...more },
      }),
    async migrate(to, more = {}, beginning = {}) {
      const left = await takeUp(path("a"), [here!.qmp]);
      const departing = left.given.length > 0 ? [] : [await all.begin(beginning)];
      return moveCluster(departing, left, { ...options, open: () => to.open(), ...more });
    },
    move: (to, departing) => moveCluster(departing, { given: [], aborted: [] }, { ...options, open: () => to.open() }),
    async settle(to, more = {}) {
      const left = await takeUp(path("a"), [here!.qmp]);
      return moveCluster([], left, { ...options, open: () => to.open(), ...more });
    },
    async [Symbol.asyncDispose]() {
      for (const destination of destinations) await destination.close();
      for (const vm of vms) await vm.close();
      for (const { keeper } of keepers) await keeper.closed;
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return all;
}
