import { spawn } from "node:child_process";
import { join } from "node:path";
import { ShrinkerError } from "../core/errors.ts";
import type { Journal } from "../core/handover/journal.ts";
import { words } from "../core/machines/qemu/qmp-errors.ts";
import { scriptCommand } from "../core/runtime.ts";
import { within } from "../core/within.ts";

/** For the process to start, and to connect to QEMU. */
export const START_MS = 15_000;
const READY = "ready";

/**
 * Starts the process that is QEMU's client beyond this one's end (cli/keeper.ts). Rejects with `input` where it can't be.
 * @param ms milliseconds for it to be ready
 */
export async function startKeeper(qmp: string, { path, keeperPath }: Journal, ms = START_MS): Promise<void> {
  const [program, ...first] = scriptCommand;
  const child = spawn(program, [...first, join(import.meta.dirname, "keeper.ts"), qmp, keeperPath, path], {
    stdio: ["ignore", "pipe", "ignore"],
    // A signal from the terminal is for this process alone.
    detached: true,
  });
  const said = new Promise<string>((resolve) => {
    let text = "";
    child.on("error", (error) => resolve(error.message));
    child.stdout.on("data", (piece: Buffer) => {
      text += piece.toString();
      if (text.includes("\n")) resolve(words(text));
    });
    child.stdout.on("close", () => resolve(words(text)));
  });
  const word = (await within(said, ms)) ?? `it is not ready within ${ms / 1000} s`;
  child.stdout.destroy();
  child.unref();
  if (word === READY) return;
  child.kill("SIGKILL");
  throw new ShrinkerError("input", `Cannot start the process that keeps the connection to QEMU: ${word || "it ended"}`);
}
