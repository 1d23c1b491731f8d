/** The command as its users run it: through its launcher, as a process of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { must, run } from "./run.ts";

export const SHRINKER = resolve(import.meta.dirname, "../../cli/shrinker");

/** Keys are other tests' business. */
const env = { ...process.env, SHRINKER_INSECURE: "1" };

export const shrinker = (...args: string[]) => must(SHRINKER, args, { seconds: 120, env });
export const tryShrinker = (...args: string[]) => run(SHRINKER, args, { seconds: 120, env });

export interface Daemon extends AsyncDisposable {
  /** Where it listens, as it says itself. */
  readonly url: string;
  /** Its exit code, once it has ended by itself. */
  readonly ended: Promise<number | null>;
}

/** Starts a command that listens, and waits until it says where. */
export async function startDaemon(...args: string[]): Promise<Daemon> {
  const child = spawn(SHRINKER, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit").then(([code]) => code as number | null);
  let said = "";
  const url = await new Promise<string>((found, failed) => {
    child.on("error", failed);
    child.on("exit", (code) => failed(new Error(`shrinker ${args.join(" ")}: exit code ${code}: ${said}`)));
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      const address = /listening on (\S+)/.exec(said)?.[1];
      if (address) found(address);
    });
  });
  const stop = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  return { url, ended, [Symbol.asyncDispose]: stop };
}
