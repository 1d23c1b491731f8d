import { expect, test } from "bun:test";
import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import fc from "fast-check";
import { Store } from "../../../core/store/store.ts";
import { contents, DOMAIN, range, tempFolder } from "./contents.ts";
import { held } from "./use.ts";

const LAST = 90;

function expectAll(got: ReadonlySet<number>, numbers: Iterable<number>, when: string): void {
  for (const number of numbers) if (!got.has(number)) throw new Error(`${number} is not found ${when}`);
}

/** What a crash at this moment would leave: the index first, as a copy takes its time and packs only grow. */
function copyStore(from: string, to: string): void {
  const domain = join("domains", DOMAIN);
  mkdirSync(join(to, domain), { recursive: true });
  for (const part of ["index", "packs"]) cpSync(join(from, domain, part), join(to, domain, part), { recursive: true });
  for (const part of ["snapshots", "logs", "holds"]) mkdirSync(join(to, domain, part));
  for (const file of ["shrinker-store", join(domain, "site")]) cpSync(join(from, file), join(to, file));
}

const numbers = fc.array(fc.nat(LAST - 1), { minLength: 1, maxLength: 24 });
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("put" as const), numbers, turns: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("flush" as const), turns: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("fetch" as const), numbers, turns: fc.nat(3) }) },
);
const user = fc.array(step, { maxLength: 8 });
const round = fc.record({
  users: fc.tuple(user, user),
  end: fc.constantFrom("go on" as const, "close" as const, "crash" as const),
});

test("whatever two users put, flush and fetch, what was flushed lasts, and nothing is ever wrong", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(round, { minLength: 1, maxLength: 4 }), async (rounds) => {
      using folder = tempFolder();
      let dir = join(folder.path, "0");
      let store = await Store.open(dir, { domain: DOMAIN, write: true });
      /** What was put and is in this process, what was put at all, and what lasts. */
      let here = new Set<number>();
      const ever = new Set<number>();
      const lasting = new Set<number>();
      const act = async (steps: (typeof rounds)[number]["users"][number]) => {
        for (const step of steps) {
          for (let i = 0; i < step.turns; i++) await turn();
          if (step.kind === "put") {
            const { digests, pages, count } = contents(step.numbers);
            const put = store.put(digests, pages, count);
            // It is copied at once.
            pages.fill(0xee);
            await put;
            for (const number of step.numbers) {
              here.add(number);
              ever.add(number);
            }
          } else if (step.kind === "flush") {
            const before = [...here];
            await store.flush();
            for (const number of before) lasting.add(number);
          } else {
            const before = new Set(step.numbers.filter((number) => here.has(number)));
            expectAll(new Set(await held(store, step.numbers)), before, "though it was put");
          }
        }
      };
      try {
        for (const [i, { users, end }] of rounds.entries()) {
          await Promise.all(users.map(act));
          const asked = range(0, LAST);
          const got = new Set(await held(store, asked));
          expectAll(got, [...here, ...lasting], "at the end of a round");
          for (const number of got) if (!ever.has(number)) throw new Error(`${number} was never put`);
          const { digests } = contents(asked);
          for (const number of asked) if (store.has(digests, number) !== got.has(number)) throw new Error(`${number}`);
          if (end === "go on") continue;
          if (end === "close") await store.close();
          else {
            const copy = join(folder.path, String(i + 1));
            copyStore(dir, copy);
            await store.close();
            dir = copy;
          }
          const told: string[] = [];
          store = await Store.open(dir, { domain: DOMAIN, write: true, warn: (message) => told.push(message) });
          expect(told).toEqual([]);
          here = new Set(await held(store, asked));
          expectAll(here, lasting, `after ${end}`);
          for (const number of here) {
            if (!ever.has(number)) throw new Error(`${number} was never put`);
            // What was found once stays.
            lasting.add(number);
          }
        }
      } finally {
        await store.close();
      }
      const reader = await Store.open(dir, { domain: DOMAIN });
      expectAll(new Set(await held(reader, range(0, LAST))), lasting, "by a reader");
      await reader.close();
    }),
    { numRuns: 40 },
  );
}, 60_000);
