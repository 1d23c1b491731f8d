/** A run of the command whose events are followed while it goes on. */
import { type CliOptions, type CliResult, type RunningCli, startCli } from "../cli.ts";

export type ToolEvent = Readonly<Record<string, unknown>> & { readonly type: string };

export interface Tool extends AsyncDisposable {
  readonly pid: number;
  readonly events: readonly ToolEvent[];
  readonly result: Promise<CliResult>;
  /** Whether it has ended, and when it was told to or was seen to: milliseconds since 1970. */
  readonly endedAt: number | undefined;
  /** The first event that matches, of those that were or are to come; rejects where it ends without. */
  until(matches: (event: ToolEvent) => boolean, what: string): Promise<ToolEvent>;
  signal(signal: NodeJS.Signals): void;
  /** By SIGKILL; resolves once it has ended. */
  kill(): Promise<void>;
  /** What it has said, for a test that fails. */
  said(): string;
}

export const now = () => performance.timeOrigin + performance.now();

/** As long as the longest row. */
const SECONDS = 280;

/** Starts the command with `--json`. */
export function startTool(args: readonly string[], options: CliOptions = {}): Tool {
  const running: RunningCli = startCli([...args, "--json"], { seconds: SECONDS, ...options });
  const { child } = running;
  const events: ToolEvent[] = [];
  const waiting = new Set<() => void>();
  let rest = "";
  let words = "";
  let killedAt: number | undefined;
  let endedAt: number | undefined;
  const wake = () => {
    for (const look of waiting) look();
  };
  child.stdout!.on("data", (piece: Buffer) => {
    const lines = (rest + piece.toString()).split("\n");
    rest = lines.pop()!;
    for (const line of lines) events.push(JSON.parse(line));
    wake();
  });
  child.stderr!.on("data", (text: string) => {
    words += text;
  });
  child.on("exit", () => {
    endedAt ??= killedAt ?? now();
  });
  void running.result.then(wake);
  let over = false;
  void running.result.then(() => {
    over = true;
    wake();
  });
  const said = () => `${args.join(" ")}\n${events.map((event) => JSON.stringify(event)).join("\n")}\n${words}`;
  return {
    pid: child.pid!,
    events,
    result: running.result,
    get endedAt() {
      return endedAt;
    },
    async until(matches, what) {
      for (;;) {
        const found = events.find(matches);
        if (found) return found;
        if (over) throw new Error(`it ended without ${what}: ${said()}`);
        const woken = Promise.withResolvers<void>();
        waiting.add(woken.resolve);
        await woken.promise;
        waiting.delete(woken.resolve);
      }
    },
    signal: (signal) => {
      if (!over) running.kill(signal);
    },
    async kill() {
      if (endedAt === undefined) {
        killedAt = now();
        running.kill("SIGKILL");
      }
      await running.result;
    },
    said,
    [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
  };
}
