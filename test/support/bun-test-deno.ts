/**
 * What `deno.json` puts in the place of `bun:test`, so that the same test files run on Deno: the part of its interface that
 * the tests use, over `node:test` and the npm package `expect`, which Bun's matchers are modelled on.
 */

import * as nodeTest from "node:test";
import { format } from "node:util";
import { expect } from "expect";

export { after as afterAll, afterEach, before as beforeAll, beforeEach } from "node:test";
export { expect };

type Body = (...row: unknown[]) => unknown;
type Timeout = number | { timeout?: number };
type Register = (name: string, options: nodeTest.TestOptions, body: () => unknown) => unknown;

/** A test as `node:test` is to run it: without its test context, and with the assertion counts that `expect` was promised. */
function counted(body: () => unknown): () => Promise<void> {
  return async () => {
    expect.setState({ assertionCalls: 0, expectedAssertionsNumber: null, isExpectingAssertions: false });
    await body();
    for (const { error } of expect.extractExpectedAssertionsErrors()) throw error;
  };
}

/** Fills `$key` from a row that is an object, and `%s`, `%d`, `%j`, `%#`, ... from the values of any other. */
function title(name: string, row: unknown, index: number): string {
  const named = name.replace(/\$(\w+)/g, (whole, key: string) =>
    row !== null && typeof row === "object" && key in row ? format("%s", (row as Record<string, unknown>)[key]) : whole,
  );
  const numbered = named.replaceAll("%#", String(index)).replaceAll("%p", "%o");
  const holders = numbered.match(/%[sdifjoOc]/g)?.length ?? 0;
  return format(numbered, ...(Array.isArray(row) ? row : [row]).slice(0, holders));
}

function dialect(register: Register, wrap: (body: () => unknown) => () => unknown, fixed: nodeTest.TestOptions = {}) {
  const call = (name: string, body: Body = () => {}, limit: Timeout = {}) => {
    const { timeout } = typeof limit === "number" ? { timeout: limit } : limit;
    register(
      name,
      { ...fixed, ...(timeout === undefined ? {} : { timeout }) },
      wrap(() => body()),
    );
  };
  const but = (options: nodeTest.TestOptions) => dialect(register, wrap, { ...fixed, ...options });
  const skip = (name: string) => void register(name, { skip: true }, () => {});
  return Object.assign(call, {
    each: (rows: readonly unknown[]) => (name: string, body: Body, limit?: Timeout) => {
      for (const [index, row] of rows.entries()) {
        call(title(name, row, index), () => body(...(Array.isArray(row) ? row : [row])), limit);
      }
    },
    if: (condition: unknown) => but({ skip: !condition }),
    skipIf: (condition: unknown) => but({ skip: !!condition }),
    skip,
    todo: skip,
  });
}

// On Deno a test has no limit of its own; one that hangs is to fail by name, not to hold up the whole run.
export const test = dialect(nodeTest.test as Register, counted, { timeout: 60_000 });
export const it = test;
export const describe = dialect(nodeTest.describe as Register, (body) => body);
