// What strangers and odd peers do to webtransport:, and what it says.
import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { CancelledError, ShrinkerError } from "../../core/errors.ts";
import { issueLeaf, synthesizeAnchor } from "../../core/identity/certificates.ts";
import { generateKey } from "../../core/identity/key.ts";
import { SERVER_NAME } from "../../core/transport/security.ts";
import { parseAddress } from "../../core/transport/transport.ts";
import { dialAnybody } from "../../transports/nobody.ts";
import { transports } from "../../transports/registry.ts";
import { secureSocket } from "../../transports/socket.ts";
import { clientOver } from "../../transports/webtransport/dial.ts";
import { hasNativePart, internal, loadLibrary } from "../../transports/webtransport/library.ts";
import { PATH, WINDOWS } from "../../transports/webtransport/link.ts";
import { webtransportTransport } from "../../transports/webtransport.ts";
import { bytesOf, errorOf, inFolder, never, readAll, same } from "./helpers.ts";
import { http2Only, overHttp2 } from "./http2-only.ts";

const ANY = "webtransport://127.0.0.1:0";
const at = (text: string) => parseAddress(text, transports);
const { dial, listen } = overHttp2;
const portOf = (address: string) => Number(address.slice(address.lastIndexOf(":") + 1));

/** A session of the library's own, with none of the transport's manners. */
async function bare(address: string) {
  const library = await loadLibrary(address);
  const port = portOf(address);
  const to = { host: "127.0.0.1", port };
  const options = { signal: never, security: await dialAnybody(), protocols: ["h2"] };
  const { socket, secure } = await secureSocket(to, address, options);
  const Client = clientOver(library, secure);
  const session = new Client(`https://127.0.0.1:${port}${PATH}`, { ...WINDOWS, forceReliable: true });
  session.closed.catch(() => {});
  await session.ready;
  socket.once("end", () => socket.destroy());
  const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  return { session, socket, closed };
}

/** Whether a listener still takes a peer of ours. */
async function serves(address: string, accept: () => Promise<Awaited<ReturnType<typeof dial>> | undefined>) {
  const near = await dial(address);
  const far = (await accept())!;
  await near.write([Buffer.from("well")]);
  await near.end();
  const got = (await readAll(far.input)).toString();
  await Promise.all([near.destroy(), far.destroy()]);
  return got === "well";
}

describe("webtransport", () => {
  test.each(["webtransport://", "webtransport://a:65536", "webtransport://::1:1"])(
    "%s is not an address",
    async (text) => {
      for (const act of [dial, listen])
        expect((await errorOf(act(text))).message).toMatch(/expected webtransport:\/\/HOST:PORT/);
    },
  );

  test("both ends say what carries them, and IPv6 works", async () => {
    const listener = await listen("webtransport://[::1]:0");
    expect(listener.address).toMatch(/^webtransport:\/\/\[::1\]:[1-9]\d*$/);
    const near = await dial(listener.address);
    const far = (await listener.accept())!;
    expect([listener.carrier, near.carrier, far.carrier]).toEqual(["HTTP/2", "HTTP/2", "HTTP/2"]);
    expect(far.peer).toMatch(/^webtransport:\/\/\[::1\]:\d+$/);
    await Promise.all([near.destroy(), far.destroy(), listener.close()]);
  });

  test("only the anchor is trusted", async () => {
    const [right, wrong] = [generateKey(), generateKey()];
    const listener = await listen(ANY, { security: { credentials: async () => issueLeaf(right) } });
    const expecting = (key: typeof right) => ({ anchor: synthesizeAnchor(key.word), serverName: SERVER_NAME });
    const near = await dial(listener.address, { security: expecting(right) });
    expect(near.issuer).toBe(right.word);
    const error = await errorOf(dial(listener.address, { security: expecting(wrong) }));
    expect(error).toHaveProperty("code", "refused");
    expect(error).toHaveProperty("claims", right.word);
    // Neither does one that wants no proof talk to one that gives it, nor the other way.
    expect(await errorOf(dial(listener.address))).toHaveProperty("code", "refused");
    await Promise.all([near.destroy(), listener.close()]);
    expect(await errorOf(listen(ANY, { insecure: false }))).toHaveProperty("code", "refused");
  });

  test("new credentials are shown in time", async () => {
    const key = generateKey();
    let issued = 0;
    const credentials = async () => {
      issued++;
      return { ...issueLeaf(key), expires: new Date(Date.now() + 60) };
    };
    const hasty = webtransportTransport({ load: http2Only, times: { handshake: 5000, renewal: 10 } });
    const listener = await hasty.listen(at(ANY), { signal: never, security: { credentials } });
    await sleep(150);
    expect(issued).toBeGreaterThan(1);
    const security = { anchor: synthesizeAnchor(key.word), serverName: SERVER_NAME };
    const near = await dial(listener.address, { security });
    await Promise.all([near.destroy(), listener.close()]);
  });

  test("an address that is taken is refused, and free again after the close", async () => {
    const listener = await listen(ANY);
    expect((await errorOf(listen(listener.address))).message).toMatch(/another process listens there/);
    await listener.close();
    await (await listen(listener.address)).close();
  });

  test("what speaks another protocol is told", async () => {
    const silent = net.createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as net.AddressInfo;
    const address = `webtransport://127.0.0.1:${port}`;
    const hasty = webtransportTransport({ load: http2Only, connectMs: 200 });
    expect(await errorOf(hasty.dial(at(address), { signal: never, insecure: true }))).toHaveProperty("code", "link");
    const controller = new AbortController();
    const dialling = errorOf(dial(address, { signal: controller.signal }));
    await sleep(20);
    controller.abort(new CancelledError("stop"));
    expect((await dialling).message).toBe("stop");
    silent.close();
  });

  test("a reset is a failure at the peer", async () => {
    const listener = await listen(ANY);
    const near = await dial(listener.address);
    const far = (await listener.accept())!;
    const reading = errorOf(readAll(far.input));
    await near.write([bytesOf("reset", 100_000)]);
    const reason = new ShrinkerError("refused", "enough");
    await near.reset!(reason);
    expect(await reading).toHaveProperty("code", "link");
    expect(await errorOf(readAll(near.input))).toBe(reason);
    await Promise.all([far.destroy(), listener.close()]);
  });

  test("a peer whose connection breaks is missed at both ends", async () => {
    const listener = await listen(ANY);
    const sockets: net.Socket[] = [];
    const proxy = net.createServer((near) => {
      const far = net.connect(portOf(listener.address), "127.0.0.1");
      sockets.push(near, far);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const)
        from.on("error", () => {}).pipe(to);
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    const near = await dial(`webtransport://127.0.0.1:${(proxy.address() as net.AddressInfo).port}`);
    const far = (await listener.accept())!;
    const reading = [errorOf(readAll(near.input)), errorOf(readAll(far.input))];
    for (const socket of sockets) socket.destroy();
    for (const error of await Promise.all(reading)) expect(error).toHaveProperty("code", "link");
    expect(await errorOf(near.write([Buffer.alloc(1)]))).toHaveProperty("code", "link");
    await Promise.all([near.destroy(), far.destroy(), listener.close()]);
    proxy.close();
  });

  test("strangers get a time, and no more", async () => {
    const hasty = webtransportTransport({ load: http2Only, times: { handshake: 1500, renewal: 1000 } });
    const listener = await hasty.listen(at(ANY), { signal: never, insecure: true });
    const mute = net.connect(portOf(listener.address), "127.0.0.1").resume();
    const { closed } = await bare(listener.address);
    await Promise.all([closed, new Promise((resolve) => mute.on("error", () => {}).once("close", resolve))]);
    expect(await serves(listener.address, listener.accept)).toBe(true);
    await listener.close();
  });

  test("a session without a stream whose connection is reset is nobody's error", async () => {
    const listener = await listen(ANY);
    const untold: unknown[] = [];
    const note = (error: unknown) => void untold.push(error);
    process.on("unhandledRejection", note);
    try {
      for (let i = 0; i < 3; i++) {
        const { socket, closed } = await bare(listener.address);
        (socket as net.Socket).resetAndDestroy();
        await closed;
      }
      expect(await serves(listener.address, listener.accept)).toBe(true);
      await sleep(20);
      expect(untold).toEqual([]);
    } finally {
      process.off("unhandledRejection", note);
      await listener.close();
    }
  });

  test("64 strangers have a place, and the oldest loses it to another", async () => {
    const listener = await listen(ANY);
    const mutes: net.Socket[] = [];
    const ended: number[] = [];
    for (let i = 0; i < 65; i++) {
      const mute = net.connect(portOf(listener.address), "127.0.0.1").resume();
      mute.on("error", () => {}).once("close", () => ended.push(i));
      mutes.push(mute);
      await once(mute, "connect");
      if (i === 63) await sleep(20);
      if (i === 63) expect(ended).toEqual([]);
    }
    for (let i = 0; i < 100 && ended.length === 0; i++) await sleep(5);
    expect(ended).toEqual([0]);
    for (const mute of mutes) mute.destroy();
    await listener.close();
  });

  test("a socket may have 4 requests at once", async () => {
    const listener = await listen(ANY);
    const session = http2.connect(`https://127.0.0.1:${portOf(listener.address)}`, { rejectUnauthorized: false });
    session.on("error", () => {});
    const told = Promise.withResolvers<void>();
    session.on("remoteSettings", ({ maxConcurrentStreams }) => {
      if (maxConcurrentStreams === 4) told.resolve();
    });
    await told.promise;
    session.destroy();
    await listener.close();
  });

  // Of the numbers: draft-ietf-webtrans-http2, WT_STREAM and WT_RESET_STREAM.
  test.each([
    ["a stream that only the listener may open", (write: Write) => write(0x190b4d3b, [0n], Buffer.from("x"))],
    ["a stream too many", (write: Write) => write(0x190b4d3b, [4001n], Buffer.from("x"))],
    [
      "the reset of a stream that there is, twice",
      (write: Write) => {
        write(0x190b4d39, [1n, 7n]);
        write(0x190b4d39, [1n, 7n]);
      },
    ],
    ["a datagram", (write: Write) => write(0, [], Buffer.from("x"))],
    ["a stream of one way", (write: Write) => write(0x190b4d3b, [3n], Buffer.from("x"))],
    ["a second stream", (write: Write) => write(0x190b4d3b, [5n], Buffer.from("x"))],
    ["a capsule of 2^40 bytes", (_: Write, raw: Raw) => raw(Buffer.from("00c000010000000000", "hex"))],
    [
      "a capsule of 60 MiB that nobody knows",
      (_: Write, raw: Raw) => raw(Buffer.concat([Buffer.from("1fc000000003c00000", "hex"), Buffer.alloc(40_000)])),
    ],
    ["words of no meaning", (write: Write) => write(0x190b4d3b, [1n], Buffer.alloc(4))],
  ])("%s ends its connection, not the listener", async (_, act) => {
    const listener = await listen(ANY);
    const { session, socket, closed } = await bare(listener.address);
    const stream = await session.createBidirectionalStream();
    await stream.writable.getWriter().write(Buffer.alloc(4, 0xff));
    const far = (await listener.accept())!;
    const parser = internal(session.sessionint.objint, "capsParser") as Parser;
    act(
      (type, headerVints, payload) => parser.writeCapsule({ type, headerVints, payload }),
      (bytes) => parser.stream.write(bytes),
    );
    const error = await errorOf(readAll(far.input));
    expect(error).toHaveProperty("code", expect.stringMatching(/^(link|integrity)$/));
    expect(error.message).toContain(far.peer);
    socket.destroy();
    await closed;
    await far.destroy();
    expect(await serves(listener.address, listener.accept)).toBe(true);
    await listener.close();
  });

  test("HTTP that is none of ours gets nothing, and harms nothing", async () => {
    const listener = await listen(ANY);
    const to = { host: "127.0.0.1", port: portOf(listener.address) };
    for (const [protocols, words] of [
      [["http/1.1"], `GET ${PATH} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n`],
      [["http/1.1"], "\0\0\0\0 nonsense\r\n\r\n"],
      [["h2"], "GET / HTTP/1.1\r\n\r\n"],
      [["h2"], "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x09\xff\xff\xff\xff\xff and so on"],
    ] as const) {
      const { secure, socket } = await secureSocket(to, listener.address, {
        signal: never,
        security: await dialAnybody(),
        protocols,
      });
      secure.stream.on("error", () => {});
      secure.stream.resume();
      secure.stream.write(Buffer.from(words, "latin1"));
      await sleep(30);
      socket.destroy();
    }
    expect(await serves(listener.address, listener.accept)).toBe(true);
    await listener.close();
  });

  test("without the library it says how to install it", async () => {
    const error = await errorOf(loadLibrary("webtransport://a:1", "@fails-components/no-such-library"));
    expect(error).toHaveProperty("code", "usage");
    expect(error.message).toMatch(/webtransport:\/\/a:1.*not installed.*npm install/);
  });

  test("the native part counts only where its file is", () =>
    inFolder(async (folder) => {
      expect(hasNativePart(undefined)).toBe(false);
      mkdirSync(join(folder, "build/Release"), { recursive: true });
      expect(hasNativePart(folder)).toBe(false);
      writeFileSync(join(folder, "build/Release/webtransport.node"), "");
      expect(hasNativePart(folder)).toBe(true);
      // One that was built here stands before the one that was downloaded.
      mkdirSync(join(folder, `build_${process.platform}_${process.arch}`));
      expect(hasNativePart(folder)).toBe(false);
    }));

  test("big writes and small ones arrive where nobody waits for either", async () => {
    const listener = await listen(ANY);
    const near = await dial(listener.address);
    const far = (await listener.accept())!;
    const bytes = bytesOf("mixed", 5_000_000);
    const reading = readAll(far.input);
    for (let start = 0, length = 1; start < bytes.length; start += length, length = (length * 7) % 600_011)
      await near.write([bytes.subarray(start, start + length)]);
    await near.end();
    expect(same(await reading, bytes)).toBe(true);
    await Promise.all([near.destroy(), far.destroy(), listener.close()]);
  });
});

interface Parser {
  stream: { write(bytes: Uint8Array): void };
  writeCapsule(capsule: { type: number; headerVints: readonly bigint[]; payload?: Uint8Array | undefined }): void;
}
type Raw = (bytes: Uint8Array) => void;
type Write = (type: number, headerVints: readonly bigint[], payload?: Uint8Array) => void;
