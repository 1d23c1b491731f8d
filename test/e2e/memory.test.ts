// Each command takes as much memory as docs/limits.md says, however much it moves or keeps.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { type CliResult, COMMAND, type RunningCli, startCli } from "../support/cli.ts";
import { inFolder } from "../transports/helpers.ts";

const MIB = 2 ** 20;
/** More than anything here may take, by far. */
const BYTES = 320 * MIB;
/** MiB for each byte that is remembered of a content, of so many bytes. */
const PER_CONTENT = BYTES / 4096 / MIB;
/** MiB of the rows of docs/limits.md that count for one stream that is read from a pipe and given out, beside codecs. */
const SENDER = 30 + 5 + 5 + 48 * PER_CONTENT;
const RECEIVER = 16 + 9 + 8 + 4 + 22 + 24;
/** What the runtime itself takes beyond what it has when it is idle: garbage that is not collected yet. */
const GARBAGE = "Deno" in globalThis ? 128 : 64;
/** Prints as much that can't be compressed; that a codec spares a quarter of. */
const NOISE = `head -c ${BYTES} /dev/urandom`;
const LETTERS = `${NOISE} | base64 -w0 | head -c ${BYTES}`;

/** The most memory that a process has had resident so far, in MiB; 0 where it has ended. */
function peakOf(pid: number): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

/** Waits for a command's end. */
async function watch({ child, result }: RunningCli): Promise<{ ended: CliResult; peak: number }> {
  let peak = 0;
  let over = false;
  const ended = result.finally(() => {
    over = true;
  });
  while (!over) {
    peak = Math.max(peak, peakOf(child.pid!));
    await sleep(20);
  }
  return { ended: await ended, peak };
}

const shell = (script: string) => ["/bin/sh", "-c", script, ...COMMAND];

/** Its peak once it waits for somebody. */
async function idle(args: readonly string[]): Promise<{ receiver: RunningCli; peak: number }> {
  const receiver = startCli(args, { command: shell(`exec "$0" "$@" >/dev/null`) });
  await receiver.said(/listening on/);
  const peak = peakOf(receiver.child.pid!);
  expect(peak).toBeGreaterThan(10);
  return { receiver, peak };
}

function expectPeak({ ended, peak }: Awaited<ReturnType<typeof watch>>, idle: number, most: number): void {
  expect(ended.stderr).not.toContain("error");
  expect(ended.code).toBe(0);
  expect(peak).toBeGreaterThan(idle);
  expect(peak).toBeLessThan(idle + most + GARBAGE);
}

test.each([
  { what: "noise, none of it compressed", input: NOISE, codec: "none", compressors: 0, decompressors: 0 },
  { what: "letters, with zstd", input: LETTERS, codec: "zstd", compressors: 165 + 25, decompressors: 140 + 6 },
])(
  "320 MiB of $what",
  ({ input, codec, compressors, decompressors }) =>
    inFolder(async (folder) => {
      const [address, fifo] = [`unix:${folder}/socket`, `${folder}/fifo`];
      const { receiver, peak } = await idle(["receive", "--listen", address, "--once", "--output", "-"]);
      await using _receiver = receiver;
      await using sender = startCli(["migrate", "stream=-", "--to", address, "--compress", codec, "--no-progress"], {
        command: shell(`mkfifo '${fifo}'; { ${input}; } >'${fifo}' & exec "$0" "$@" <'${fifo}'`),
      });
      const [sent, received] = await Promise.all([watch(sender), watch(receiver)]);
      expectPeak(sent, peak, SENDER + compressors);
      expectPeak(received, peak, RECEIVER + decompressors);
    }),
  60_000,
);

test(
  "a store of 320 MiB that can't be compressed: it is looked through, and written anew",
  () =>
    inFolder(async (folder) => {
      const { receiver, peak } = await idle(["receive", "--listen", `unix:${folder}/socket`, "--output", folder]);
      await receiver[Symbol.asyncDispose]();
      const store = ["--store", `${folder}/store`];
      const fifo = `${folder}/fifo`;
      const run = async (args: readonly string[], before = "", stdin = "/dev/null") => {
        await using command = startCli(args, { command: shell(`${before} exec "$0" "$@" <'${stdin}'`) });
        return await watch(command);
      };
      const snapshot = await run(
        ["snapshot", "noise=-", "--name", "noise", ...store],
        `mkfifo '${fifo}'; ${NOISE} >'${fifo}' &`,
        fifo,
      );
      expect(snapshot.ended.code).toBe(0);
      const index = 28 * PER_CONTENT;
      const restored = await run(["restore", "noise", "--output", folder, "--spool", folder, ...store]);
      expectPeak(restored, peak, index + 64 + 17 + 65 + RECEIVER);
      expectPeak(await run(["verify", "--read-data", ...store]), peak, 29 * PER_CONTENT + 45);
      expectPeak(await run(["prune", "--repack", ...store]), peak, 80 * PER_CONTENT + 45 + 25 + 135 + 160);
    }),
  120_000,
);
