/**
 * Moves a cluster of fake VMs, which run meanwhile, over TCP into a receiver that it starts. Each guest checks its memory where it
 * arrives. Removes everything again.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** Guests of one image, which differ in what they do. */
const GUESTS = {
  web: "memory=256M&base=debian&private=24M&dirty=4M&pattern=counter&seed=1",
  db: "memory=256M&base=debian&private=32M&dirty=2M&pattern=text&seed=2",
  cache: "memory=128M&base=debian&private=16M&dirty=1M&pattern=random&working-set=8M&seed=3",
};

const main = resolve(import.meta.dirname, "../cli/main.ts");
const command = "Deno" in globalThis ? ["run", "-A", "--no-check", main] : [main];
const shrinker = (args: string[], stderr: "inherit" | "pipe") =>
  spawn(process.execPath, [...command, ...args], { stdio: ["ignore", "inherit", stderr] });

async function exitOf(child: ChildProcess): Promise<number> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.exitCode ?? 1;
}

/** Passes on what a receiver says, and resolves with where it listens. */
async function listeningAddress(receiver: ChildProcess): Promise<string> {
  let said = "";
  const found = Promise.withResolvers<string>();
  receiver.stderr!.setEncoding("utf8").on("data", (text: string) => {
    process.stderr.write(text);
    said += text;
    const address = /listening on (\S+)/.exec(said)?.[1];
    if (address) found.resolve(address);
  });
  receiver.once("exit", () => found.reject(new Error(`the receiver has ended: ${said}`)));
  return found.promise;
}

const folder = await mkdtemp(join(tmpdir(), "shrinker-demo-"));
let receiver: ChildProcess | undefined;
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => receiver?.kill());
try {
  const places = Object.keys(GUESTS).flatMap((name) => ["--vm", `${name}=fake:`]);
  const receive = ["receive", "--listen", "tcp://127.0.0.1:0", "--once", ...places];
  console.log(`$ shrinker ${receive.join(" ")}`);
  receiver = shrinker([...receive, "--state", join(folder, "destination")], "pipe");
  const address = await listeningAddress(receiver);
  const guests = Object.entries(GUESTS).map(([name, query]) => `fake:${name}?${query}`);
  console.log(`\n$ shrinker migrate ${guests.map((guest) => `'${guest}'`).join(" ")} --to ${address}`);
  const migrate = shrinker(["migrate", ...guests, "--to", address, "--state", join(folder, "source")], "inherit");
  const codes = [await exitOf(migrate), await exitOf(receiver)];
  if (codes.some((code) => code !== 0)) throw new Error(`exit codes ${codes.join(" and ")}`);
} catch (error) {
  console.error(`The demonstration failed: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  receiver?.kill();
  await rm(folder, { recursive: true, force: true });
}
