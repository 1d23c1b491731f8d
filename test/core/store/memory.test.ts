// What is remembered of each content of a store, or of a recording, takes as much memory as docs/limits.md says.
import { describe, expect, test } from "bun:test";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

describe("a digest takes", () => {
  const program = fileURLToPath(new URL("memory-of.ts", import.meta.url));
  const flags = "Deno" in globalThis ? ["run", "-A", "--no-check", "--v8-flags=--expose-gc"] : [];
  test.each([
    ["recent", 27, 48],
    // Besides, what an index takes without any.
    ["runs", 27, 28.6],
    ["places", 28, 29.6],
    ["needed", 22, 22.6],
    ["numbers", 1 / 8, 3 / 8],
  ])(
    "little memory in %s: from %d to %d bytes",
    async (kind, least, most) => {
      const { stdout } = await promisify(execFile)(process.execPath, [...flags, program, kind]);
      const { bytes, count } = JSON.parse(stdout);
      expect(count).toBe(1_000_000);
      expect(bytes).toBeLessThanOrEqual(most);
      // It has to be somewhere.
      expect(bytes).toBeGreaterThanOrEqual(least);
    },
    30_000,
  );
});
