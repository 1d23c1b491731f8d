// Floods of connections to a daemon, in this process: who says nothing takes the place of nobody for ever.
import { describe, expect, test } from "bun:test";
import { serve } from "../../cli/daemon.ts";
import type { Output } from "../../cli/output.ts";
import { welcomeBack } from "../../cli/welcome-back.ts";
import { ResumableSessions } from "../../core/engine/resumable.ts";
import type { Connection, Listener } from "../../core/transport/transport.ts";
import { memoryPair } from "../../transports/memory.ts";
import { destinationOptions, memoryTarget, send, source, within } from "../support/session.ts";

/** Keeps what a daemon says of its sessions. */
function kept(): Output & { readonly errors: string[] } {
  const errors: string[] = [];
  const quiet = { event() {}, result() {}, note() {}, error: ({ code }: { code: string }) => void errors.push(code) };
  return { json: false, quiet: true, errors, ...quiet };
}

const times = { handshake: 1000, ping: 1000, dead: 2000, farewell: 20 };
const common = { ...destinationOptions, target: memoryTarget(), times };

/** Gives `silent` connections that say nothing, then those of `others`, and ends. */
function flood(silent: number, others: () => AsyncGenerator<Connection>) {
  const dropped: number[] = [];
  const began = performance.now();
  async function* all(): AsyncGenerator<Connection> {
    for (let i = 0; i < silent; i++) {
      const [, far] = memoryPair();
      const { destroy } = far;
      far.destroy = async (reason) => {
        dropped[i] ??= performance.now() - began;
        await destroy(reason);
      };
      yield far;
    }
    yield* others();
  }
  const connections = all();
  const listener: Listener = {
    address: "memory:flood",
    accept: async () => (await connections.next()).value,
    close: async () => {},
  };
  return { listener, dropped };
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("of connections that don't introduce themselves", () => {
  test("a daemon holds 64, each for a time, and then serves again", async () => {
    let early: number[] = [];
    const sent: ReturnType<typeof send>[] = [];
    const { listener, dropped } = flood(100, async function* () {
      early = Object.keys(dropped).map(Number);
      // One that speaks is served among them, and once they are gone.
      for (const ms of [0, 1500]) {
        await pause(ms);
        const [near, far] = memoryPair();
        sent.push(send(near, [source("a", "raw", [Buffer.from("hello")])]));
        yield far;
      }
    });
    const receiving = { ...common, dryRun: false, event: () => {} };
    const output = kept();
    const interrupt = { signal: new AbortController().signal, code: undefined };
    expect(await within(serve(listener, receiving, { maxSessions: 8, output, interrupt }))).toBe(0);
    // The oldest, without a word.
    expect(early).toEqual(Array.from({ length: 36 }, (_, i) => i));
    expect(output.errors).toEqual(new Array(63).fill("link"));
    // The others had their time, and then were dropped as well.
    expect(dropped.filter((ms) => ms !== undefined)).toHaveLength(100);
    for (const each of sent) expect((await within(each)).outcomes[0]!.error).toBeUndefined();
    expect(sent).toHaveLength(2);
  });

  test("a receiver of one session holds 16 while its source is away", async () => {
    let early: number[] = [];
    const { listener, dropped } = flood(30, async function* () {
      early = Object.keys(dropped).map(Number);
      yield* [];
    });
    await within(welcomeBack(listener, { ...common, resumables: new ResumableSessions() }));
    expect(early).toEqual(Array.from({ length: 14 }, (_, i) => i));
    expect(dropped.filter((ms) => ms !== undefined)).toHaveLength(30);
  });
});
