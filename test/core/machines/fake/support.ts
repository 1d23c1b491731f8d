/** Fake VMs in this process, spoken to by QMP alone. */
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseSize } from "../../../../cli/units.ts";
import { type FakeOptions, type FakeVm, startFake } from "../../../../core/machines/fake/fake-vm.ts";
import { type FakeSpec, parseFakeSpec } from "../../../../core/machines/fake/spec.ts";
import { connectQmp, type Qmp } from "../../../support/qemu/qmp.ts";

export const spec = (text: string): FakeSpec => parseFakeSpec(text, { size: parseSize });

export interface Started {
  readonly vm: FakeVm;
  readonly qmp: Qmp;
}

export interface Lab extends AsyncDisposable {
  path(name: string): string;
  /** Starts a VM of this spec, for a guest where `incoming` is given, and connects to its QMP. */
  start(text: string, options?: Partial<FakeOptions>): Promise<Started>;
  /** A relay to a unix socket; resolves with its path. It records what goes to the destination and back. */
  relay(to: string): Promise<{ path: string; forth: Buffer[]; back: Buffer[]; cut(): void }>;
}

export function lab(): Lab {
  const folder = mkdtempSync(join(tmpdir(), "fake-"));
  const vms: Started[] = [];
  const servers: net.Server[] = [];
  const path = (name: string) => join(folder, name);
  return {
    path,
    async start(text, options = {}) {
      const qmpPath = path(`qmp${vms.length}`);
      const vm = await startFake(spec(text), { qmpPath, ...options });
      const started = { vm, qmp: await connectQmp(qmpPath) };
      vms.push(started);
      return started;
    },
    async relay(to) {
      const forth: Buffer[] = [];
      const back: Buffer[] = [];
      const sockets: net.Socket[] = [];
      const server = net.createServer({ allowHalfOpen: true }, (near) => {
        const far = net.connect({ path: to, allowHalfOpen: true });
        const pass = (from: net.Socket, into: net.Socket, kept: Buffer[]) => {
          sockets.push(from);
          from.on("data", (bytes: Buffer) => {
            kept.push(Buffer.from(bytes));
            if (!into.write(bytes)) from.pause();
          });
          into.on("drain", () => from.resume());
          from.on("end", () => into.end()).on("error", () => into.destroy());
        };
        pass(near, far, forth);
        pass(far, near, back);
      });
      servers.push(server);
      await new Promise<void>((resolve) => server.listen(path(`relay${servers.length}`), resolve));
      const cut = () => {
        for (const socket of sockets) socket.destroy();
      };
      return { path: path(`relay${servers.length}`), forth, back, cut };
    },
    async [Symbol.asyncDispose]() {
      for (const { vm, qmp } of vms) {
        qmp.close();
        await vm.close();
      }
      for (const server of servers) server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Turns capabilities on, `events` and `return-path` always. */
export const enable = ({ qmp }: Started, ...names: string[]) =>
  qmp.execute("migrate-set-capabilities", {
    capabilities: ["events", "return-path", ...names].map((capability) => ({ capability, state: true })),
  });

/** Lets a guest go from one to the other, and waits for one of these states at the source. */
export async function migrate(from: Started, to: string, ...states: string[]): Promise<string> {
  const before = from.qmp.events;
  await from.qmp.execute("migrate", { uri: `unix:${to}` });
  const wanted = states.length > 0 ? states : ["completed", "failed"];
  const { data } = await from.qmp.event("MIGRATION", ({ status }) => wanted.includes(String(status)), before);
  return String(data.status);
}

export const names = (vm: FakeVm) =>
  vm.events.map(({ event, data }) => (data ? `${event} ${Object.values(data).join(" ")}` : event));
