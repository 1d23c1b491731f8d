import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { fixedCodec } from "../../../core/engine/codec-policy.ts";
import { acceptSession } from "../../../core/engine/destination-session.ts";
import { sendAll } from "../../../core/engine/migration.ts";
import { openSession } from "../../../core/engine/source-session.ts";
import { CancelledError, LinkError, ShrinkerError } from "../../../core/errors.ts";
import type { StreamSource } from "../../../core/machines/machine.ts";
import { limitRate } from "../../../core/transport/limit.ts";
import { parseAddress } from "../../../core/transport/transport.ts";
import { memoryPair } from "../../../transports/memory.ts";
import { transports } from "../../../transports/registry.ts";
import { corruptAt, cutAfter, faulty, stall } from "../../support/faults.ts";
import {
  destinationOptions,
  memoryTarget,
  migrate,
  migrateBoth,
  player,
  receive,
  record,
  recorder,
  send,
  source,
  sourceOptions,
  within,
} from "../../support/session.ts";
import { until } from "../../transports/helpers.ts";
import { noise, text } from "./contents.ts";

const MIB = 1 << 20;

/** Different pages of noise, 64 KiB in a piece, and how many bytes were taken. */
function pages(name: string, bytes: number, seed = 0): StreamSource & { readonly taken: number } {
  let taken = 0;
  const pieces = function* () {
    for (let at = 0; at < bytes; at += 65_536) {
      taken = at;
      yield Buffer.concat(Array.from({ length: 16 }, (_, i) => noise(seed + at / 4096 + i)));
    }
    taken = bytes;
  };
  return Object.defineProperty(source(name, "raw", pieces()) as StreamSource & { taken: number }, "taken", {
    get: () => taken,
  });
}

const none = { codec: fixedCodec("none") };

describe("a sink that takes nothing", () => {
  test("stops its own stream, at its credit, and no other", async () => {
    const released = Promise.withResolvers<void>();
    const target = memoryTarget(({ name }) => (name === "stuck" ? { write: () => released.promise } : {}));
    const stuck = pages("stuck", 64 * MIB);
    const others = Array.from({ length: 6 }, (_, i) => pages(`other${i}`, 12 * MIB, 100_000 * (i + 1)));
    const [near, far] = memoryPair();
    const sending = send(near, [stuck, ...others], { ...none, parallel: 2 });
    const receiving = receive(far, target);
    const landed = () => target.all.filter(({ ends }) => ends.length > 0).length;
    await within(
      (async () => {
        while (landed() < 6) await new Promise((resolve) => setTimeout(resolve, 5));
      })(),
    );
    // What the receiver granted, what the sender has read ahead, and batches on their way.
    expect(stuck.taken).toBeLessThan((22 + 4 + 8) * MIB);
    released.resolve();
    const { outcomes } = await within(sending);
    expect(outcomes.every(({ error }) => error === undefined)).toBe(true);
    await receiving;
    expect(target.get("stuck").bytes.length).toBe(64 * MIB);
  }, 30_000);

  test("does not let closed streams pile up at the receiver", async () => {
    const released = Promise.withResolvers<void>();
    let open = 0;
    const target = memoryTarget(() => {
      open++;
      return { write: () => released.promise };
    });
    const [near, far] = memoryPair();
    const sources = Array.from({ length: 200 }, (_, i) => source(`s${i}`, "raw", [noise(i)]));
    const sending = send(near, sources, none);
    const receiving = receive(far, target);
    await until(() => open >= 128, 10_000);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(open).toBe(128);
    released.resolve();
    await within(Promise.all([sending, receiving]));
    expect(target.all.length).toBe(200);
    expect(target.all.every(({ ends }) => ends[0] === "commit")).toBe(true);
  });
});

test("more streams than a destination takes at once follow one another", async () => {
  const names = Array.from({ length: 200 }, (_, i) => `s${i}`);
  const sources = names.map((name) => source(name, "bytes", [Buffer.from(name)]));
  const { sent, files } = await migrate(sources, { sending: { parallel: 200 } });
  expect(sent.outcomes.every(({ error }) => error === undefined)).toBe(true);
  for (const name of names) expect(files.get(name).bytes.toString()).toBe(name);
});

test("streams that all have input take turns", async () => {
  for (const count of [2, 4]) {
    const order: string[] = [];
    const target = memoryTarget(({ name }) => ({ write: async () => void order.push(name) }));
    const sources = Array.from({ length: count }, (_, i) => pages(`${i}`, 12 * MIB, i * 10_000));
    const [near, far] = memoryPair();
    const pair = [limitRate(near, 60e6), far] as const;
    await migrate(sources, { sending: { ...none, parallel: count }, target, pair });
    const firsts = order.slice(0, 8 * count);
    for (let i = 0; i < count; i++) expect(firsts.filter((name) => name === `${i}`).length).toBeGreaterThan(4);
  }
}, 30_000);

test("streams of a service that is in a hurry go first, until it is over", async () => {
  const order: string[] = [];
  const target = memoryTarget(({ name }) => ({ write: async () => void order.push(name) }));
  const [near, far] = memoryPair();
  const returns = { window: 20, log: 4096 };
  const [session, receiving] = await Promise.all([
    openSession(limitRate(near, 60e6), { ...sourceOptions, ...none, returns, target: memoryTarget() }),
    acceptSession(far, { ...destinationOptions, returns, target }),
  ]);
  const received = receiving.run();
  const calm = session.sender.hurry("urgent");
  const of = (name: string, connection: number, seed: number): StreamSource => {
    // Made beforehand, as the link is to be what they wait for.
    const all = Array.from({ length: 12 }, (_, i) =>
      Buffer.concat(Array.from({ length: 256 }, (_, k) => noise(seed + i * 256 + k))),
    );
    const { info, pieces } = source(name, "raw", all);
    return { info: { ...info, connection, service: name }, pieces };
  };
  const sources = [of("other", 1, 0), of("urgent", 2, 10_000), of("third", 3, 20_000)];
  const sending = sendAll(session, sources, true, { parallel: 3, signal: new AbortController().signal });
  await within(
    (async () => {
      while (order.filter((name) => name === "urgent").length < 8)
        await new Promise((resolve) => setTimeout(resolve, 1));
    })(),
  );
  const since = order.slice(order.indexOf("urgent"));
  calm();
  await within(Promise.all([sending, received]));
  expect(since.filter((name) => name === "urgent").length / since.length).toBeGreaterThan(0.8);
  expect(target.all.map(({ ends }) => ends)).toEqual([["commit"], ["commit"], ["commit"]]);
}, 30_000);

describe("a sink that fails", () => {
  const fails = (when: "open" | "write" | "finish" | "commit", code: "space" | "exists") =>
    memoryTarget(({ name }) => {
      if (name !== "bad") return {};
      const fail = () => Promise.reject(new ShrinkerError(code, `it fails on ${when}`));
      return when === "open" ? fail() : { [when]: fail };
    });
  test.each([
    ["open", "exists"],
    ["write", "space"],
    ["finish", "space"],
    ["commit", "exists"],
  ] as const)("on %s loses its stream alone, and the source gets its code", async (when, code) => {
    const target = fails(when, code);
    const sources = [pages("a", 3 * MIB), pages("bad", 20 * MIB, 5000), pages("b", 3 * MIB, 20_000)];
    const { sent, received } = await migrate(sources, { sending: { ...none, parallel: 3 }, target });
    expect(sent.outcomes.map(({ error }) => error?.code)).toEqual([undefined, code, undefined]);
    expect(sent.outcomes[1]!.error!.message).toBe(`it fails on ${when}`);
    expect(received.streams.map(({ error }) => error?.code)).toEqual([undefined, code, undefined]);
    expect(target.get("a").ends).toEqual(["commit"]);
    expect(target.get("b").ends).toEqual(["commit"]);
    if (when !== "open") expect(target.get("bad").ends).toEqual(["abort"]);
  });

  test.each([
    ["open", "exists"],
    ["write", "space"],
    ["finish", "space"],
  ] as const)("on %s keeps all others from landing where it is all or nothing", async (when, code) => {
    const target = fails(when, code);
    const sources = [pages("a", MIB), pages("bad", MIB, 5000), pages("b", MIB, 20_000)];
    const { sent, received } = await migrate(sources, { sending: none, receiving: { allOrNothing: true }, target });
    expect(sent.outcomes.map(({ error }) => error?.code)).toEqual(["partial", code, "partial"]);
    expect(received.streams.map(({ error }) => error?.code)).toEqual(["partial", code, "partial"]);
    for (const { ends } of target.all) expect(ends).toEqual(["abort"]);
  });
});

test("all land at the end where it is all or nothing and nothing fails", async () => {
  const events: string[] = [];
  const target = memoryTarget(({ name }) => ({
    finish: async () => void events.push(`finish ${name}`),
    commit: async () => void events.push(`commit ${name}`),
  }));
  await migrate([pages("a", MIB), pages("b", MIB, 1000)], { receiving: { allOrNothing: true }, target });
  expect(events.slice(0, 2).sort()).toEqual(["finish a", "finish b"]);
  expect(events.slice(2).sort()).toEqual(["commit a", "commit b"]);
});

describe("a source that fails", () => {
  const failing = (name: string, after: number) =>
    source(
      name,
      "raw",
      (async function* () {
        for (let i = 0; i < after; i++) yield noise(i);
        throw new ShrinkerError("input", "the file has become shorter");
      })(),
    );

  test.each([0, 1, 3000])("after %d pages loses its stream alone", async (after) => {
    const target = memoryTarget();
    const { sent, received } = await migrate([failing("bad", after), pages("a", MIB, 9000)], { target });
    expect(sent.outcomes.map(({ error }) => error?.message)).toEqual(["the file has become shorter", undefined]);
    expect(received.streams.map(({ error }) => error?.code)).toEqual(["input", undefined]);
    expect(received.streams[0]!.error!.message).toMatch(/the file has become shorter/);
    expect(target.get("a").ends).toEqual(["commit"]);
    expect(target.all.find(({ info }) => info.name === "bad")?.ends ?? ["abort"]).toEqual(["abort"]);
  });

  test("with a message of any length is told", async () => {
    const long = source(
      "bad",
      "raw",
      (async function* (): AsyncGenerator<Uint8Array> {
        yield noise(1);
        throw new ShrinkerError("input", "long ".repeat(5000));
      })(),
    );
    const { received } = await migrate([long, source("a", "raw", [text(1)])]);
    expect(received.streams.map(({ error }) => error?.code)).toEqual(["input", undefined]);
  });

  test("with what is no error of ours is told as a bug", async () => {
    const odd = source(
      "bad",
      "raw",
      (async function* (): AsyncGenerator<Uint8Array> {
        yield noise(1);
        throw new TypeError("oops");
      })(),
    );
    const { sent, received } = await migrate([odd]);
    expect(sent.outcomes[0]!.error?.code).toBe("bug");
    expect(received.streams[0]!.error?.code).toBe("bug");
  });

  test("in an unknown format is not opened", async () => {
    const { sent, received } = await migrate([source("a", "tape", [text(1)]), source("b", "raw", [text(1)])]);
    expect(sent.outcomes.map(({ error }) => error?.code)).toEqual(["usage", undefined]);
    expect(received.streams.length).toBe(1);
  });
});

describe("a link that", () => {
  const times = { handshake: 500, ping: 20, dead: 150, farewell: 100 };

  test("breaks at any byte ends both sides, and what lands is right", async () => {
    const whole = Buffer.concat([noise(1), text(1), noise(2)]);
    await fc.assert(
      fc.asyncProperty(fc.nat(40_000), fc.boolean(), async (after, there) => {
        const [near, far] = memoryPair();
        const cut = faulty(near, { [there ? "output" : "input"]: [cutAfter(after + 1)] });
        const sources = [pages("a", 65_536), source("b", "raw", [whole])];
        const { sent, received, files } = await migrateBoth(sources, {
          pair: [cut, far],
          sending: { times },
          receiving: { times },
        });
        for (const result of [sent, received]) {
          if (result.status === "rejected") expect(["link", "integrity"]).toContain(result.reason.code);
        }
        for (const { info, bytes, ends } of files.all) {
          expect(ends.length).toBe(1);
          if (info.name === "b" && ends[0] === "commit") expect(Buffer.compare(bytes, whole)).toBe(0);
        }
        const landed = files.all.filter(({ ends }) => ends[0] === "commit").length;
        if (sent.status === "fulfilled") expect(landed).toBe(2);
      }),
      { numRuns: 40 },
    );
  }, 30_000);

  test.each(["memory:damage", "tcp://127.0.0.1:0"])(
    "damages a byte, %s, makes both ends fail for that reason",
    async (url) => {
      const { signal } = new AbortController();
      for (const at of [30, 5000, 3 * MIB]) {
        const listener = await transports
          .get(url.split(":")[0]!)!
          .listen(parseAddress(url, transports), { signal, insecure: true });
        const address = parseAddress(listener.address, transports);
        const near = await transports.get(address.scheme)!.dial(address, { signal, insecure: true });
        const far = faulty((await listener.accept())!, { input: [corruptAt(at)] });
        await listener.close();
        const { sent, received, files } = await migrateBoth([pages("a", 30 * MIB)], {
          pair: [near, far],
          sending: none,
        });
        expect((received as PromiseRejectedResult).reason.code).toBe("integrity");
        expect((sent as PromiseRejectedResult).reason).toMatchObject({ code: "integrity" });
        expect((sent as PromiseRejectedResult).reason.message).toMatch(/^The other end gave up: .* is damaged/);
        for (const { ends } of files.all) expect(ends).toEqual(["abort"]);
      }
    },
  );

  test("falls silent is dead, on both ends", async () => {
    const [near, far] = memoryPair();
    const there = stall();
    const back = stall();
    const pair = [faulty(near, { output: [there.fault], input: [back.fault] }), far] as const;
    setTimeout(() => {
      there.on();
      back.on();
    }, 50);
    const { sent, received } = await migrateBoth([source("a", "raw", slow(1000, 5))], {
      pair,
      sending: { times },
      receiving: { times },
    });
    const reasons = [sent, received].map((result) => (result as PromiseRejectedResult).reason);
    for (const reason of reasons) expect(reason).toBeInstanceOf(LinkError);
    // Whoever notices first drops the connection.
    expect(reasons.some(({ message }) => /silent/.test(message))).toBe(true);
    there.off();
    back.off();
  });

  // Both ends are in this process: whatever keeps it from running keeps them silent.
  const patient = { ...times, dead: 600 };

  test("has nothing to say for long is alive", async () => {
    const quiet = (async function* () {
      yield noise(1);
      await new Promise((resolve) => setTimeout(resolve, 1500));
      yield noise(2);
    })();
    const options = { times: patient };
    const { files } = await migrate([source("a", "raw", quiet)], { sending: options, receiving: options });
    expect(Buffer.compare(files.get("a").bytes, Buffer.concat([noise(1), noise(2)]))).toBe(0);
  });

  test("takes long for a frame is alive", async () => {
    const [near, far] = memoryPair();
    // A batch of 1 MiB in parts of 32 KiB, each 40 ms after the other: 1.3 s.
    const trickle = faulty(near, {
      output: [
        async function* (input) {
          for await (const piece of input) {
            for (let at = 0; at < piece.length; at += 32_768) {
              if (at > 0) await new Promise((resolve) => setTimeout(resolve, 40));
              yield piece.subarray(at, at + 32_768);
            }
          }
        },
      ],
    });
    const { files } = await migrate([pages("a", MIB)], {
      pair: [trickle, far],
      sending: { ...none, times: patient },
      receiving: { times: patient },
    });
    expect(files.get("a").bytes.length).toBe(MIB);
  });
});

async function* slow(count: number, ms: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < count; i++) {
    await new Promise((resolve) => setTimeout(resolve, ms));
    yield noise(i);
  }
}

describe("cancelling", () => {
  const check = (result: PromiseSettledResult<unknown>, side: string) => {
    if (result.status === "rejected") expect({ side, code: result.reason.code }).toEqual({ side, code: "cancelled" });
  };

  test.each([["source"], ["destination"]])(
    "the %s at any time ends both ends soon",
    async (which) => {
      await fc.assert(
        fc.asyncProperty(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 3 }), async (ms, parallel) => {
          const cancel = new AbortController();
          const timer = setTimeout(() => cancel.abort(new CancelledError()), ms);
          const { signal } = cancel;
          const sources = [pages("a", 8 * MIB), pages("b", 8 * MIB, 10_000), source("c", "raw", slow(20, 1))];
          const since = performance.now();
          const { sent, received, files } = await migrateBoth(sources, {
            sending: { ...none, parallel, ...(which === "source" && { signal }) },
            receiving: which === "destination" ? { signal } : {},
          });
          clearTimeout(timer);
          expect(performance.now() - since).toBeLessThan(3000);
          check(sent, "source");
          check(received, "destination");
          for (const { ends } of files.all) expect(ends.length).toBe(1);
        }),
        { numRuns: 20 },
      );
    },
    30_000,
  );

  test.each([["source"], ["destination"]])("the %s of a recording ends it soon", async (which) => {
    const cancel = new AbortController();
    const { signal } = cancel;
    const start = () => setTimeout(() => cancel.abort(), 20);
    const sources = [pages("a", 8 * MIB), source("b", "raw", slow(3000, 1))];
    if (which === "source") {
      const tape = recorder();
      start();
      await expect(within(send(tape.connection, sources, { ...none, signal }))).rejects.toMatchObject({
        code: "cancelled",
      });
      expect(tape.ended).toBe(false);
    } else {
      const bytes = await record([pages("a", 8 * MIB)], none);
      const target = memoryTarget(() => ({ write: () => new Promise((resolve) => setTimeout(resolve, 20)) }));
      const receiving = within(receive(player(bytes), target, { signal }));
      start();
      await expect(receiving).rejects.toMatchObject({ code: "cancelled" });
      expect(target.get("a").ends).toEqual(["abort"]);
    }
  });

  test("ends a source that waits for its input", async () => {
    const waiting: StreamSource = {
      info: { name: "a", format: "bytes" },
      async *pieces(signal) {
        await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      },
    };
    const cancel = new AbortController();
    setTimeout(() => cancel.abort(new CancelledError()), 30);
    const { sent, received } = await migrateBoth([waiting], { receiving: { signal: cancel.signal } });
    expect(sent).toMatchObject({ status: "rejected", reason: { code: "cancelled" } });
    expect(received).toMatchObject({ status: "rejected", reason: { code: "cancelled" } });
  });
});
