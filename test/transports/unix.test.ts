import { describe, expect, test } from "bun:test";
import { chmodSync, existsSync, lstatSync, mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import net from "node:net";
import { dial, errorOf, inFolder, listen } from "./helpers.ts";

describe("unix", () => {
  test("the socket is the user's alone, whatever the mask, and gone after the close", () =>
    inFolder(async (folder) => {
      const path = `${folder}/socket`;
      const mask = process.umask(0);
      try {
        const listening = listen(`unix:${path}`);
        // Looked at as often as the event loop turns, until it listens: no mode but the right one is ever seen.
        const modes = new Set<number>();
        const look = setInterval(() => existsSync(path) && modes.add(statSync(path).mode & 0o777), 0);
        const listener = await listening;
        modes.add(statSync(path).mode & 0o777);
        clearInterval(look);
        expect([...modes]).toEqual([0o600]);
        expect(process.umask()).toBe(0);
        expect(listener.address).toBe(`unix:${path}`);
        await listener.close();
        expect(existsSync(path)).toBe(false);
      } finally {
        process.umask(mask);
      }
    }));

  test("a listener that lives is left alone", () =>
    inFolder(async (folder) => {
      const text = `unix:${folder}/socket`;
      const listener = await listen(text);
      const error = await errorOf(listen(text));
      expect(error).toHaveProperty("code", "link");
      expect(error.message).toMatch(/another process listens there/);
      const near = await dial(text);
      // The first is the question whether it lives.
      for (let i = 0; i < 2; i++) await (await listener.accept())!.destroy();
      await near.destroy();
      await listener.close();
    }));

  test("the socket of a dead listener is replaced", () =>
    inFolder(async (folder) => {
      const path = `${folder}/socket`;
      const server = net.createServer();
      await new Promise<void>((resolve) => server.listen(`${folder}/dies`, resolve));
      // Closing removes the name it was bound to: under another name the socket stays, as after a crash.
      renameSync(`${folder}/dies`, path);
      await new Promise((resolve) => server.close(resolve));
      expect(lstatSync(path).isSocket()).toBe(true);
      chmodSync(path, 0o777);
      const listener = await listen(`unix:${path}`);
      expect(statSync(path).mode & 0o777).toBe(0o600);
      const near = await dial(`unix:${path}`);
      await Promise.all([near.destroy(), (await listener.accept())!.destroy(), listener.close()]);
    }));

  test("another file in its place is never removed", () =>
    inFolder(async (folder) => {
      writeFileSync(`${folder}/file`, "precious");
      mkdirSync(`${folder}/folder`);
      for (const name of ["file", "folder"]) {
        const error = await errorOf(listen(`unix:${folder}/${name}`));
        expect(error).toHaveProperty("code", "exists");
        expect(existsSync(`${folder}/${name}`)).toBe(true);
      }
    }));

  test("another listener's socket survives the close", () =>
    inFolder(async (folder) => {
      const path = `${folder}/socket`;
      const first = await listen(`unix:${path}`);
      renameSync(path, `${folder}/elsewhere`);
      await first.close();
      const second = await listen(`unix:${path}`);
      await (await dial(`unix:${path}`)).destroy();
      await second.close();
    }));

  test("paths that no socket can have", async () => {
    const error = await errorOf(listen(`unix:/tmp/${"x".repeat(103)}`));
    expect(error).toHaveProperty("code", "usage");
    expect(error.message).toMatch(/107 bytes, this one has 108/);
    // Bytes count, not characters.
    expect(await errorOf(dial(`unix:/tmp/${"é".repeat(52)}`))).toHaveProperty("code", "usage");
    expect(await errorOf(dial("unix:"))).toHaveProperty("code", "usage");
    expect(await errorOf(listen("unix:/no/such/folder/socket"))).toHaveProperty("code", "input");
    await inFolder(async (folder) => {
      const longest = `${folder}/${"y".repeat(107 - folder.length - 1)}`;
      const listener = await listen(`unix:${longest}`);
      await (await dial(`unix:${longest}`)).destroy();
      await listener.close();
    });
  });
});
