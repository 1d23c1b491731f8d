/** Both runtimes' commands, whichever runs the tests. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";

const root = resolve(import.meta.dirname, "../..");
const main = resolve(root, "cli/main.ts");

/** By the runtime's name: the program and its first arguments. Empty where the runtime is not installed. */
export const RUNTIMES: Readonly<Record<"bun" | "deno", readonly string[]>> = {
  bun: ["sh", resolve(root, "cli/shrinker")],
  deno: existsSync(resolve(root, "node_modules/.bin/deno"))
    ? [resolve(root, "node_modules/.bin/deno"), "run", "-A", "--no-check", "--config", resolve(root, "deno.json"), main]
    : [],
};
