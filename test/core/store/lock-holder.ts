/** Another process that holds a lock. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export interface LockHolder extends AsyncDisposable {
  /** `held`, or why it is not. */
  readonly said: string;
  /** Lets it end in order. */
  end(): Promise<void>;
  /** Ends it as a crash does. */
  kill(): Promise<void>;
}

const program = fileURLToPath(new URL("hold-lock.ts", import.meta.url));
const flags = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];

export async function lockElsewhere(path: string, kind: "exclusive" | "shared"): Promise<LockHolder> {
  const child = spawn(process.execPath, [...flags, program, path, kind], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "close");
  const [said] = await once(child.stdout.setEncoding("utf8"), "data");
  const end = async () => {
    child.stdin.end();
    await ended;
  };
  const kill = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  return { said: (said as string).trim(), end, kill, [Symbol.asyncDispose]: kill };
}
