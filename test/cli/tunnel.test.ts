// Connections go through two commands, and both of these say what became of them.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cli, startCli } from "../support/cli.ts";
import { qemuStreamBytes } from "../support/qemu-stream.ts";
import { within } from "../support/session.ts";

let folder: string;
let service: net.Server;
const path = (name: string) => join(folder, name);
const unix = (name: string) => `unix:${path(name)}`;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "tunnel-"));
  // Says how much it was given, once it has been given all.
  service = net.createServer({ allowHalfOpen: true }, (socket) => {
    let length = 0;
    socket.on("error", () => {});
    socket.on("data", (piece) => {
      length += piece.length;
    });
    socket.on("end", () => socket.end(`${length}`));
  });
  service.listen(path("service"));
  await once(service, "listening");
});
afterAll(() => {
  service.close();
  rmSync(folder, { recursive: true, force: true });
});

const SLOW = 20_000;

/** Resolves when a socket is closed, also by a failure. */
const closed = (socket: net.Socket) =>
  new Promise<void>((resolve) => socket.on("error", () => {}).on("close", () => resolve()));

/** Sends all of it, and gives the answer. */
async function ask(name: string, bytes: Uint8Array): Promise<string> {
  const socket = net.connect({ path: path(name), allowHalfOpen: true });
  let answer = "";
  socket.setEncoding("utf8").on("data", (piece: string) => {
    answer += piece;
  });
  const over = closed(socket);
  socket.end(bytes);
  await within(over, "answer");
  return answer;
}

const events = (all: Record<string, unknown>[], wanted: string) => all.filter(({ type }) => type === wanted);

describe("a tunnel", () => {
  test(
    "carries connections, finds what they share, and ends when they have",
    async () => {
      const receiving = [
        "receive",
        "--listen",
        unix("r1"),
        "--once",
        "--json",
        "--service",
        `count=${unix("service")}`,
      ];
      await using receiver = startCli(receiving);
      await receiver.said(/"listening"/);
      await using tunnel = startCli([
        ...["tunnel", "--to", unix("r1"), "--once", "--json", "--compress", "zstd"],
        ...["--service", `count=${unix("t1")}`],
      ]);
      await tunnel.said(/"listening","service":"count"/);
      const stream = qemuStreamBytes({ blocks: [{ name: "pc.ram", length: 2 << 20 }] });
      expect(await Promise.all([ask("t1", stream), ask("t1", stream)])).toEqual([
        `${stream.length}`,
        `${stream.length}`,
      ]);
      const [sent, received] = await within(Promise.all([tunnel.result, receiver.result]));
      expect([sent.code, sent.stderr, received.code, received.stderr]).toEqual([0, "", 0, ""]);
      const all = sent.events();
      expect(events(all, "connection").map(({ connection }) => connection)).toEqual([1, 2]);
      expect(events(all, "closed").length).toBe(2);
      expect(all.at(-1)).toMatchObject({ type: "summary", ok: true, connections: 2, failed: 0 });
      const { plain, deduplicated } = all.at(-1)!.bytes as Record<string, number>;
      expect(plain).toBe(2 * stream.length);
      expect(deduplicated).toBeGreaterThan(stream.length * 0.8);
      expect(events(received.events(), "connection")).toMatchObject([{ service: "count" }, { service: "count" }]);
    },
    SLOW,
  );

  test(
    "whose only connection breaks says so with its exit code",
    async () => {
      const receiving = ["receive", "--listen", unix("r2"), "--once", "--service", `count=${unix("nobody")}`];
      await using receiver = startCli(receiving);
      await receiver.said(/listening on/);
      await using tunnel = startCli(["tunnel", "--to", unix("r2"), "--once", "--service", `count=${unix("t2")}`]);
      await tunnel.said(/count: listening on/);
      expect(await ask("t2", Buffer.from("anybody there?"))).toBe("");
      const { code, stderr } = await within(tunnel.result);
      expect(code).toBe(4);
      expect(stderr).toContain(`The service "count" can't be reached: nothing listens at ${unix("nobody")}`);
      // For the receiver it was a session like any other.
      expect((await within(receiver.result)).code).toBe(0);
    },
    SLOW,
  );

  test(
    "is refused by a receiver that offers nothing, which takes files all the same",
    async () => {
      const output = path("out");
      await using receiver = startCli(["receive", "--listen", unix("r3"), "--output", output]);
      await receiver.said(/listening on/);
      const { code, stderr } = await cli(["tunnel", "--to", unix("r3"), "--service", `a=${unix("t3")}`]);
      expect([code, stderr]).toEqual([4, expect.stringContaining("offers no services: start it with --service")]);
      expect(stderr).not.toContain("listening");
      receiver.kill("SIGTERM");
      expect((await receiver.result).code).toBe(143);
    },
    SLOW,
  );

  test(
    "and files go to one receiver, with --all-or-nothing too",
    async () => {
      const output = path("both");
      writeFileSync(path("disk.raw"), Buffer.alloc(5000, "disk"));
      await using receiver = startCli([
        ...["receive", "--listen", unix("r4"), "--output", output, "--all-or-nothing"],
        ...["--service", `count=${unix("service")}`],
      ]);
      await receiver.said(/listening on/);
      await using tunnel = startCli(["tunnel", "--to", unix("r4"), "--service", `count=${unix("t4")}`]);
      await tunnel.said(/count: listening on/);
      expect((await cli(["migrate", path("disk.raw"), "--to", unix("r4"), "--no-state"])).code).toBe(0);
      expect(readFileSync(join(output, "disk.raw")).length).toBe(5000);
      expect(await ask("t4", Buffer.from("12345"))).toBe("5");
      // A signal ends what is carried at both ends.
      const open = net.connect(path("t4"));
      await once(open, "connect");
      const served = once(service, "connection");
      open.write("more to come");
      const [socket] = (await within(served)) as [net.Socket];
      const ends = Promise.all([closed(open), closed(socket)]);
      tunnel.kill("SIGTERM");
      await within(ends, "connection");
      expect((await within(tunnel.result)).code).toBe(143);
      await receiver.said(/Session \d of .*Interrupted by SIGTERM/);
    },
    SLOW,
  );

  test.each([
    ["Give --to ADDRESS", ["--service", "a=unix:/x"]],
    ["Give --service NAME=unix:PATH", ["--to", "unix:/x"]],
    ["a bundle gives no answers", ["--to", "file:/x", "--service", "a=unix:/x"]],
    ['Unknown argument "web"', ["--to", "unix:/x", "--service", "a=unix:/x", "web"]],
  ])(
    "has to be told: %s",
    async (message, args) => {
      const { code, stderr } = await cli(["tunnel", ...args]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
    },
    SLOW,
  );
});
