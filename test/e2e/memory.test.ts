// A migration takes as much memory as docs/limits.md says, however much it moves.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { COMMAND, startCli } from "../support/cli.ts";
import { inFolder } from "../transports/helpers.ts";

const MIB = 2 ** 20;
/** More than both ends may take, by far, at either. */
const BYTES = 320 * MIB;
/** MiB of the rows of docs/limits.md that count where nothing is compressed, and one stream is read from a pipe and given out. */
const SENDER = 30 + 5 + 5 + 48 * (BYTES / 4096 / MIB);
const RECEIVER = 16 + 9 + 8 + 4 + 22 + 24;
/** What the runtime itself takes beyond what it has when it is idle: garbage that is not collected yet. */
const GARBAGE = "Deno" in globalThis ? 128 : 64;

/** The most memory that a process has had resident so far, in MiB; 0 where it has ended. */
function peakOf(pid: number): number {
  try {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

const shell = (script: string) => ["/bin/sh", "-c", script, ...COMMAND];

test(
  "320 MiB of noise, none of it compressed",
  () =>
    inFolder(async (folder) => {
      const [address, noise] = [`unix:${folder}/socket`, `${folder}/noise`];
      await using receiver = startCli(["receive", "--listen", address, "--once", "--output", "-"], {
        command: shell(`exec "$0" "$@" >/dev/null`),
      });
      await receiver.said(/listening on/);
      const idle = peakOf(receiver.child.pid!);
      const pipe = `mkfifo '${noise}'; head -c ${BYTES} /dev/urandom >'${noise}' & exec "$0" "$@" <'${noise}'`;
      await using sender = startCli(["migrate", "noise=-", "--to", address, "--compress", "none", "--no-progress"], {
        command: shell(pipe),
      });
      const peaks = { sender: 0, receiver: 0 };
      let over = false;
      const ended = Promise.all([sender.result, receiver.result]).finally(() => {
        over = true;
      });
      while (!over) {
        peaks.sender = Math.max(peaks.sender, peakOf(sender.child.pid!));
        peaks.receiver = Math.max(peaks.receiver, peakOf(receiver.child.pid!));
        await sleep(20);
      }
      const [sent, received] = await ended;
      expect([sent.code, received.code]).toEqual([0, 0]);
      expect(idle).toBeGreaterThan(10);
      expect(peaks.sender).toBeGreaterThan(idle);
      expect(peaks.sender).toBeLessThan(idle + SENDER + GARBAGE);
      expect(peaks.receiver).toBeGreaterThan(idle);
      expect(peaks.receiver).toBeLessThan(idle + RECEIVER + GARBAGE);
    }),
  30_000,
);
