// Whether the QEMU that a journal is about is still there.
import { expect, test } from "bun:test";
import { mkdtempSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { reach } from "../../../core/handover/reach.ts";
import { QmpLost } from "../../../core/machines/qemu/qmp.ts";
import { socketIdentity } from "../../../core/machines/qemu/socket-path.ts";
import { startQmpServer } from "../../support/qmp-server.ts";
import { within } from "../../support/session.ts";
import { failure } from "../machines/nbd/connect.ts";

/** A socket that breaks each connection, and does `then` by how many it has broken. */
async function breaking(then: (broken: number, server: Server, path: string) => void = () => {}, afterMs = 0) {
  const folder = mkdtempSync(join(tmpdir(), "reach-"));
  const path = join(folder, "qmp");
  let broken = 0;
  const server = createServer(async (socket: Socket) => {
    socket.on("error", () => {});
    await sleep(afterMs);
    socket.destroy();
    then(++broken, server, path);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    entry: { qmp: path, socket: (await socketIdentity(path))! },
    get broken() {
      return broken;
    },
    [Symbol.dispose]() {
      server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

test("one that is there is reached", async () => {
  await using server = await startQmpServer();
  const qmp = await reach({ qmp: server.path, socket: (await socketIdentity(server.path))! });
  expect(qmp?.version.major).toBe(10);
  await qmp?.close();
});

test("another one at its path is not", async () => {
  await using server = await startQmpServer();
  expect(await reach({ qmp: server.path, socket: "of one that has ended" })).toBeUndefined();
});

test("one that is killed takes a connection before it is gone, and breaks it", async () => {
  using dying = await breaking((broken, server) => broken === 2 && server.close());
  expect(await within(reach(dying.entry), "end")).toBeUndefined();
  expect(dying.broken).toBe(2);
});

test("one that takes long to die", async () => {
  using dying = await breaking((_, server) => server.close(), 1500);
  expect(await within(reach(dying.entry), "end")).toBeUndefined();
});

test("one of whose path nothing can be told is not taken for dead", async () => {
  using dying = await breaking();
  const folder = dirname(dying.entry.qmp);
  // A loop of links, as root may look everywhere.
  symlinkSync("loop", join(folder, "loop"));
  const error = await failure(reach({ ...dying.entry, qmp: join(folder, "loop") }));
  expect(error.message).toContain("Cannot look at");
});

test("one that is killed while another one takes its path", async () => {
  using dying = await breaking((_, server, path) => {
    const other = createServer(() => {}).listen(`${path}2`, () => renameSync(`${path}2`, path));
    server.on("close", () => other.close());
  });
  expect(await within(reach(dying.entry), "end")).toBeUndefined();
});

test("one that breaks every connection can't be told", async () => {
  using strange = await breaking();
  const error = await within(failure(reach(strange.entry)), "refusal");
  expect(error).toBeInstanceOf(QmpLost);
  expect(strange.broken).toBeGreaterThan(2);
});
