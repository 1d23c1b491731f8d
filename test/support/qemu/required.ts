import { lacking } from "./guest.ts";

/**
 * Why tests with QEMU cannot run here, for `describe.skipIf`; `undefined` where they can. In CI, or with SHRINKER_E2E=1, a
 * machine without QEMU is an error instead: there a skipped test would look like one that passed.
 */
export const missing: string | undefined = lacking();

if (missing && (process.env.CI === "true" || process.env.SHRINKER_E2E === "1")) throw new Error(missing);
