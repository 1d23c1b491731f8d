import { expect, test } from "bun:test";
import { LinkError } from "../../core/errors.ts";
import { reachAny } from "../../transports/host.ts";
import { errorOf, never } from "./helpers.ts";

/** The time that each address of a host gets, where all fail at once. */
async function shares(count: number): Promise<number[]> {
  const times: number[] = [];
  const hosts = Array.from({ length: count }, (_, i) => `192.0.2.${i}`);
  const attempt = async (_ip: string, timeoutMs: number) => {
    times.push(timeoutMs);
    throw new LinkError("nobody");
  };
  expect((await errorOf(reachAny(hosts, never, attempt))).message).toBe("nobody");
  return times;
}

test("all addresses of a host have 10 s together, and each at least 2.5 s", async () => {
  const [one, two, many] = [await shares(1), await shares(2), await shares(20)];
  expect(one[0]).toBeGreaterThan(9000);
  expect(one[0]).toBeLessThanOrEqual(10_000);
  expect(two[0]).toBeGreaterThan(4000);
  expect(two[0]).toBeLessThanOrEqual(5000);
  expect(many).toHaveLength(20);
  expect(many.slice(0, 16).every((time) => time === 2500)).toBe(true);
});

test("an address is not tried once the time for all is over", async () => {
  let tried = 0;
  const attempt = async () => {
    tried++;
    await new Promise((resolve) => setTimeout(resolve, 15));
    throw new LinkError("nobody");
  };
  await errorOf(reachAny(["192.0.2.1", "192.0.2.2", "192.0.2.3"], never, attempt, 10));
  expect(tried).toBe(1);
});
