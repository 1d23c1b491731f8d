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
/** What each end has for itself: a key, and what it remembers. */
const own = (end: string) => ({
  ...process.env,
  XDG_CONFIG_HOME: join(folder, end),
  XDG_STATE_HOME: join(folder, end),
});
const shrinker = (end: string, args: string[], stderr: "inherit" | "pipe") =>
  spawn(process.execPath, [...command, ...args], { stdio: ["ignore", "inherit", stderr], env: own(end) });

/** Makes an end's key, and resolves with it. */
async function keyOf(end: string): Promise<string> {
  console.log(`${end}$ shrinker identity`);
  const child = spawn(process.execPath, [...command, "identity"], {
    stdio: ["ignore", "pipe", "inherit"],
    env: own(end),
  });
  let said = "";
  for await (const piece of child.stdout.setEncoding("utf8")) said += piece;
  process.stdout.write(said);
  return said.trim();
}

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
  const [source, destination] = [await keyOf("source"), await keyOf("destination")];
  const authorize = ["identity", "--authorize", source, "--name", "source"];
  console.log(`destination$ shrinker ${authorize.join(" ")}`);
  await exitOf(shrinker("destination", authorize, "inherit"));
  console.log(`destination$ shrinker ${receive.join(" ")}`);
  receiver = shrinker("destination", receive, "pipe");
  const address = await listeningAddress(receiver);
  const guests = Object.entries(GUESTS).map(([name, query]) => `fake:${name}?${query}`);
  const to = ["--to", address, "--peer", destination];
  console.log(`\nsource$ shrinker migrate ${guests.map((guest) => `'${guest}'`).join(" ")} ${to.join(" ")}`);
  const migrate = shrinker("source", ["migrate", ...guests, ...to], "inherit");
  const codes = [await exitOf(migrate), await exitOf(receiver)];
  if (codes.some((code) => code !== 0)) throw new Error(`exit codes ${codes.join(" and ")}`);
} catch (error) {
  console.error(`The demonstration failed: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  receiver?.kill();
  await rm(folder, { recursive: true, force: true });
}
