/**
 * Moves two real QEMU guests, which count and rewrite their memory meanwhile, over TCP into a receiver that it starts, and shows that each
 * went on where it was. Needs QEMU 10, a kernel and a compiler: `.ci/qemu` installs them. Removes everything again.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { buildGuest, lacking, readSerial, type Workload } from "./support/qemu/guest.ts";
import { startVm } from "./support/qemu/vm.ts";

const WORKLOADS: Record<string, Workload> = {
  web: { memory: 64, dirty: 2048, seed: 1, kind: "counter" },
  db: { memory: 64, dirty: 512, seed: 2, kind: "text" },
};

const main = resolve(import.meta.dirname, "../cli/main.ts");
const command = "Deno" in globalThis ? ["run", "-A", "--no-check", main] : [main];

async function exitOf(child: ChildProcess): Promise<number> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.exitCode ?? 1;
}

const problem = lacking();
if (problem) {
  console.error(problem);
  process.exit(1);
}
const folder = await mkdtemp(join(tmpdir(), "shrinker-demo-"));
const stack = new AsyncDisposableStack();
stack.defer(() => rm(folder, { recursive: true, force: true }));
try {
  console.log("Booting two guests, and two QEMUs that wait for them ...");
  const guest = await buildGuest(folder);
  const names = Object.keys(WORKLOADS);
  const start = async (name: string, end: "a" | "b") => {
    const place = { folder: join(folder, `${name}-${end}`), incoming: end === "b" };
    const vm = await startVm({ ...place, guest, workload: WORKLOADS[name]!, extra: ["-name", name] });
    return stack.use(vm);
  };
  const sources = await Promise.all(names.map((name) => start(name, "a")));
  const destinations = await Promise.all(names.map((name) => start(name, "b")));
  await Promise.all(sources.map((vm) => vm.until((serial) => readSerial(serial).passes > 0, "memory check")));
  // A QEMU serves one client a socket, and this one is for the tool from now on.
  for (const vm of [...sources, ...destinations]) vm.qmp.close();

  const places = names.flatMap((name) => ["--vm", `${name}=qmp:${join(folder, `${name}-b`, "qmp.sock")}`]);
  const receive = ["receive", "--listen", `unix:${join(folder, "link")}`, "--once", ...places];
  console.log(`$ shrinker ${receive.join(" ")}`);
  const receiver = spawn(process.execPath, [...command, ...receive, "--state", join(folder, "destination")], {
    stdio: ["ignore", "inherit", "pipe"],
  });
  stack.defer(() => void receiver.kill());
  const address = await new Promise<string>((found, failed) => {
    let said = "";
    receiver.stderr.setEncoding("utf8").on("data", (text: string) => {
      process.stderr.write(text);
      said += text;
      const match = /listening on (\S+)/.exec(said);
      if (match) found(match[1]!);
    });
    receiver.once("exit", () => failed(new Error(`the receiver has ended: ${said}`)));
  });
  const migrate = ["migrate", ...names.map((name) => `qmp:${join(folder, `${name}-a`, "qmp.sock")}`), "--to", address];
  console.log(`\n$ shrinker ${migrate.join(" ")}`);
  const moving = spawn(process.execPath, [...command, ...migrate, "--state", join(folder, "source")], {
    stdio: "inherit",
  });
  const codes = [await exitOf(moving), await exitOf(receiver)];
  if (codes.some((code) => code !== 0)) throw new Error(`exit codes ${codes.join(" and ")}`);
  console.log();
  for (const [i, name] of names.entries()) {
    const [source, destination] = [sources[i]!, destinations[i]!];
    const before = readSerial(source.serial()).passes;
    const both = (serial: string) => readSerial(source.serial(), serial);
    await destination.until((serial) => both(serial).passes > before + 1, "memory check at the destination");
    const { sequence, wrong } = both(destination.serial());
    const gap = sequence.findIndex((number, at) => at > 0 && number !== sequence[at - 1]! + 1);
    if (gap >= 0 || wrong.length > 0) throw new Error(`${name} went wrong: ${wrong[0] ?? `SEQ ${sequence[gap]}`}`);
    console.log(`${name}: SEQ 1 to ${sequence.at(-1)} without a gap, and all of its memory is right`);
  }
} catch (error) {
  console.error(`The demonstration failed: ${(error as Error).message}`);
  process.exitCode = 1;
} finally {
  await stack.disposeAsync();
}
