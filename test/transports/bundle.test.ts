import { describe, expect, test } from "bun:test";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { CancelledError } from "../../core/errors.ts";
import { publishNew } from "../../transports/publish.ts";
import { at, bytesOf, dial, errorOf, inFolder, listen, program, readAll, same } from "./helpers.ts";

const content = bytesOf("bundle", 3_000_001);

async function write(text: string, bytes: Uint8Array, options: { force?: boolean } = {}): Promise<void> {
  const bundle = await dial(text, options);
  await bundle.write([bytes.subarray(0, 10), bytes.subarray(10, 20), bytes.subarray(20)]);
  await bundle.end();
  await bundle.destroy();
}

async function read(text: string): Promise<Buffer> {
  const listener = await listen(text);
  const bundle = (await listener.accept())!;
  expect(bundle.duplex).toBe(false);
  expect(await listener.accept()).toBe(undefined);
  const bytes = await readAll(bundle.input);
  await bundle.destroy();
  return bytes;
}

describe("bundle", () => {
  test("what is written is read, and is its owner's alone", () =>
    inFolder(async (folder) => {
      const path = `${folder}/a.bundle`;
      const mask = process.umask(0);
      const bundle = await dial(`file:${path}`);
      process.umask(mask);
      expect(bundle.duplex).toBe(false);
      expect((await readAll(bundle.input)).length).toBe(0);
      await bundle.write([content]);
      // Not there before it is whole; what is there is hidden.
      expect(fs.readdirSync(folder)).toHaveLength(1);
      expect(fs.readdirSync(folder)[0]).toMatch(/^\.shrinker-.*\.partial$/);
      await bundle.end();
      await bundle.end();
      expect(fs.readdirSync(folder)).toEqual(["a.bundle"]);
      expect(fs.statSync(path).mode & 0o777).toBe(0o600);
      await bundle.destroy();
      expect(await errorOf(bundle.write([content]))).toHaveProperty("code");
      expect(same(await read(`file:${path}`), content)).toBe(true);
      expect(same(await read(`file://${path}`), content)).toBe(true);
    }));

  test("an empty bundle is one", () =>
    inFolder(async (folder) => {
      await write(`file:${folder}/empty`, new Uint8Array());
      expect((await read(`file:${folder}/empty`)).length).toBe(0);
    }));

  test("an existing target is replaced only by force", () =>
    inFolder(async (folder) => {
      const path = `${folder}/a`;
      fs.writeFileSync(path, "precious");
      expect(await errorOf(dial(`file:${path}`))).toHaveProperty("code", "exists");
      const forced = await dial(`file:${path}`, { force: true });
      await forced.write([content]);
      expect(fs.readFileSync(path, "latin1")).toBe("precious");
      await forced.end();
      expect(same(fs.readFileSync(path), content)).toBe(true);
      expect(fs.readdirSync(folder)).toEqual(["a"]);
    }));

  test("a target that appears meanwhile is not replaced", () =>
    inFolder(async (folder) => {
      const path = `${folder}/a`;
      const bundle = await dial(`file:${path}`);
      await bundle.write([content]);
      fs.writeFileSync(path, "precious");
      expect(await errorOf(bundle.end())).toHaveProperty("code", "exists");
      await bundle.destroy();
      expect(fs.readFileSync(path, "latin1")).toBe("precious");
      expect(fs.readdirSync(folder)).toEqual(["a"]);
    }));

  test("without hard links it is the same", () =>
    inFolder(async (folder) => {
      const noLinks = () => Promise.reject(Object.assign(new Error("no links"), { code: "EPERM" }));
      fs.writeFileSync(`${folder}/new`, "new");
      await publishNew(`${folder}/new`, `${folder}/a`, noLinks);
      expect(fs.readdirSync(folder)).toEqual(["a"]);
      fs.writeFileSync(`${folder}/new`, "newer");
      expect(await errorOf(publishNew(`${folder}/new`, `${folder}/a`, noLinks))).toHaveProperty("code", "EEXIST");
      expect(fs.readFileSync(`${folder}/a`, "latin1")).toBe("new");
    }));

  test("a bundle that was not ended is removed", () =>
    inFolder(async (folder) => {
      const bundle = await dial(`file:${folder}/a`);
      const reason = new CancelledError("enough");
      const writing = errorOf(bundle.write([Buffer.alloc(64 << 20)]));
      await Promise.all([bundle.destroy(reason), bundle.destroy()]);
      expect(await writing).toBe(reason);
      expect(fs.readdirSync(folder)).toEqual([]);
      expect(await errorOf(bundle.write([content]))).toBe(reason);
      expect(await errorOf(bundle.end())).toBe(reason);
      expect(fs.readdirSync(folder)).toEqual([]);
    }));

  test("destroy while it ends leaves all or nothing", () =>
    inFolder(async (folder) => {
      const bundle = await dial(`file:${folder}/a`);
      await bundle.write([content]);
      const ending = bundle.end().then(
        () => "ended",
        () => "dropped",
      );
      await bundle.destroy();
      await ending;
      const left = fs.readdirSync(folder);
      expect(left.length === 0 || (left.length === 1 && same(fs.readFileSync(`${folder}/a`), content))).toBe(true);
    }));

  test("a link stays, what it leads to is replaced", () =>
    inFolder(async (folder) => {
      fs.mkdirSync(`${folder}/there`);
      fs.writeFileSync(`${folder}/there/real`, "old");
      fs.symlinkSync("there/real", `${folder}/link`);
      fs.symlinkSync("nowhere", `${folder}/dangling`);
      expect(await errorOf(dial(`file:${folder}/link`))).toHaveProperty("code", "exists");
      expect(await errorOf(dial(`file:${folder}/dangling`))).toHaveProperty("code", "exists");
      expect(await errorOf(dial(`file:${folder}/dangling`, { force: true }))).toHaveProperty("code", "input");
      await write(`file:${folder}/link`, content, { force: true });
      expect(fs.lstatSync(`${folder}/link`).isSymbolicLink()).toBe(true);
      expect(same(fs.readFileSync(`${folder}/there/real`), content)).toBe(true);
    }));

  test("only a device may have more on it than the bundle", () =>
    inFolder(async (folder) => {
      fs.writeFileSync(`${folder}/a`, content);
      for (const [path, padded] of [
        [`${folder}/a`, false],
        ["/dev/zero", true],
      ] as const) {
        const bundle = (await (await listen(`file:${path}`)).accept())!;
        expect(bundle.padded).toBe(padded);
        await bundle.destroy();
      }
    }));

  test("a full device is `space`", async () => {
    const full = await dial("file:/dev/full");
    const error = await errorOf(full.write([content]));
    expect(error).toHaveProperty("code", "space");
    expect(error.message).toMatch(/\/dev\/full/);
    expect(await errorOf(full.end())).toBe(error);
    await full.destroy();
    expect(fs.statSync("/dev/full").isCharacterDevice()).toBe(true);
    await write("file:/dev/null", content);
  });

  // The other end of a FIFO is another process: on Deno a write waits in the event loop's thread.
  test("a FIFO is written and read as it is", () =>
    inFolder(async (folder) => {
      const text = `file:${folder}/fifo`;
      execFileSync("mkfifo", [`${folder}/fifo`]);
      const reader = spawn("/bin/sh", ["-c", `sleep 0.1; cat '${folder}/fifo' > '${folder}/copy'`]);
      const copied = once(reader, "exit");
      await write(text, content);
      await copied;
      expect(same(fs.readFileSync(`${folder}/copy`), content)).toBe(true);
      const writer = spawn("/bin/sh", ["-c", `sleep 0.1; cat '${folder}/copy' > '${folder}/fifo'`]);
      const written = once(writer, "exit");
      expect(same(await read(text), content)).toBe(true);
      await written;
      expect(fs.readdirSync(folder).sort()).toEqual(["copy", "fifo"]);
    }));

  test("a FIFO without its other end waits, until it is called off", () =>
    inFolder(async (folder) => {
      execFileSync("mkfifo", [`${folder}/fifo`]);
      const { address, transport } = at(`file:${folder}/fifo`);
      for (const act of ["dial", "listen"] as const) {
        const controller = new AbortController();
        const waiting = errorOf(transport[act](address, { signal: controller.signal }));
        const first = await Promise.race([waiting, sleep(50)]);
        expect(first).toBe(undefined);
        controller.abort(new CancelledError("enough"));
        expect((await waiting).message).toBe("enough");
      }
    }));

  test("a FIFO whose reader goes breaks the link", () =>
    inFolder(async (folder) => {
      execFileSync("mkfifo", [`${folder}/fifo`]);
      const reader = spawn("/bin/sh", ["-c", `head -c 1000 '${folder}/fifo' > /dev/null`]);
      const gone = once(reader, "exit");
      const bundle = await dial(`file:${folder}/fifo`);
      const error = await errorOf(bundle.write([content]));
      expect(error).toHaveProperty("code", "link");
      expect(error.message).toMatch(/its reader has gone/);
      await Promise.all([bundle.destroy(), gone]);
    }));

  test(
    "`-` is stdin and stdout, for files and pipes, and nothing else gets in",
    () =>
      inFolder(async (folder) => {
        fs.writeFileSync(`${folder}/a`, content);
        const copy = program("copy.ts");
        const run = (command: string) =>
          execFileSync("/bin/sh", ["-c", command], { stdio: ["ignore", "ignore", "pipe"] });
        run(`(${copy} file:- file:-) < '${folder}/a' > '${folder}/b'`);
        expect(same(fs.readFileSync(`${folder}/b`), content)).toBe(true);
        run(`cat '${folder}/a' | (${copy} file:- file:-) | cat > '${folder}/c'`);
        expect(same(fs.readFileSync(`${folder}/c`), content)).toBe(true);
      }),
    15_000,
  );

  test("files that can't be read or written are named", () =>
    inFolder(async (folder) => {
      for (const [act, text] of [
        [listen, `file:${folder}/missing`],
        [listen, `file:${folder}`],
        [dial, `file:${folder}`],
        [dial, `file:${folder}/missing/a`],
      ] as const) {
        const error = await errorOf(act(text));
        expect(error).toHaveProperty("code", "input");
        expect(error.message).toMatch(/^Cannot (read|write|create)[^\n]*shrinker-/);
      }
      expect(await errorOf(dial("file:"))).toHaveProperty("code", "usage");
    }));

  test("a reader that is destroyed fails with the reason", () =>
    inFolder(async (folder) => {
      fs.writeFileSync(`${folder}/a`, content);
      const listener = await listen(`file:${folder}/a`);
      const bundle = (await listener.accept())!;
      const iterator = bundle.input[Symbol.asyncIterator]();
      expect((await iterator.next()).value.length).toBeGreaterThan(200_000);
      const reason = new CancelledError("enough");
      await bundle.destroy(reason);
      expect(await errorOf(iterator.next())).toBe(reason);
      expect(await errorOf(bundle.write([content]))).toHaveProperty("code", "bug");
    }));
});
