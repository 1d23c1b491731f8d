/** Stands in for qemu-nbd: serves a file, of which pages of zeros are holes. What the file begins with says how it fails. */
import { chmodSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { DISCONNECT, READ, startNbdServer } from "./nbd-server.ts";

const PAGE = 4096;

/** What a program says of itself, once it is about to listen. */
export interface NbdProgramLog {
  readonly pid: number;
  readonly args: readonly string[];
  readonly socket: string;
  /** Permission bits of the socket's folder. */
  readonly mode: number;
}

export interface NbdProgram {
  readonly path: string;
  /** What the last one that was started said. */
  log(): NbdProgramLog;
  /** Whether that one still runs. */
  runs(): boolean;
}

/** Writes a program called `qemu-nbd` into `folder`: this one, or a script of the shell. */
export function writeNbdProgram(folder: string, script?: string): NbdProgram {
  const path = join(folder, "qemu-nbd");
  const runtime = "Deno" in globalThis ? `'${process.execPath}' run -A --no-check` : `'${process.execPath}'`;
  writeFileSync(path, `#!/bin/sh\n${script ?? `NBD_LOG="$0.log" exec ${runtime} '${import.meta.filename}' "$@"`}\n`);
  chmodSync(path, 0o755);
  const log = () => JSON.parse(readFileSync(`${path}.log`, "utf8")) as NbdProgramLog;
  return { path, log, runs: () => isRunning(log().pid) };
}

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function main(args: readonly string[]): Promise<void> {
  const socket = args.find((arg) => arg.startsWith("--socket="))!.slice(9);
  const mode = statSync(dirname(socket)).mode & 0o777;
  writeFileSync(process.env.NBD_LOG!, JSON.stringify({ pid: process.pid, args, socket, mode }));
  const bytes = readFileSync(args.at(-1)!);
  const way = bytes.toString("latin1", 0, 6);
  if (way === "BROKEN") {
    process.stderr.write(`qemu-nbd: Failed to open '${args.at(-1)}'\nqemu-nbd: it is broken\n`);
    process.exit(1);
  }
  const extents: [number, number][] = [];
  for (let at = 0; at < bytes.length; at += PAGE) {
    const page = bytes.subarray(at, at + PAGE);
    extents.push([page.length, page.every((byte) => byte === 0) ? 3 : 0]);
  }
  await startNbdServer(
    {
      bytes,
      extents,
      ...(way === "NO NBD" && { greeting: Buffer.from("SSH-2.0-OpenSSH_9.2p1 Debian") }),
      request({ command }) {
        if (command === DISCONNECT) setTimeout(() => process.exit(0), 20);
        if (command !== READ || (way !== "GONE!!" && way !== "SILENT")) return undefined;
        if (way === "SILENT") return null;
        writeSync(2, "qemu-nbd: the disk is gone\n");
        process.exit(3);
      },
    },
    socket,
  );
}

if (process.env.NBD_LOG !== undefined && process.argv[1] === import.meta.filename) await main(process.argv.slice(2));
