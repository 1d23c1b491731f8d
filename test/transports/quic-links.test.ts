import { describe, expect, test } from "bun:test";
import dgram from "node:dgram";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { CancelledError } from "../../core/errors.ts";
import { issueLeaf, synthesizeAnchor } from "../../core/identity/certificates.ts";
import { generateKey } from "../../core/identity/key.ts";
import { loadQuic } from "../../core/runtime.ts";
import type { NodeQuic } from "../../core/transport/quic-api.ts";
import { type Credentials, SERVER_NAME } from "../../core/transport/security.ts";
import { type DialOptions, type ListenOptions, parseAddress } from "../../core/transport/transport.ts";
import { WORD, word } from "../../transports/framed/framing.ts";
import { denoQuic } from "../../transports/quic/deno.ts";
import { nodeQuic } from "../../transports/quic/node.ts";
import type { QuicDialOptions } from "../../transports/quic/runtime.ts";
import { quicTransport } from "../../transports/quic.ts";
import { transports } from "../../transports/registry.ts";
import { bytesOf, errorOf, never, readAll, same } from "./helpers.ts";

const onDeno = "Deno" in globalThis;
/** As the transport that everybody uses; with less patience for strangers; and for those who are not there. */
const patient = quicTransport({ connect: 10_000, idle: 15_000, handshake: 10_000, renewal: 20 });
const strict = quicTransport({ connect: 10_000, idle: 15_000, handshake: 600, renewal: 60_000 });
const hasty = quicTransport({ connect: 1500, idle: 800, handshake: 5000, renewal: 60_000 });
const at = (text: string) => parseAddress(text, transports);
const trust = (options: { security?: unknown }) => ({ signal: never, insecure: options.security === undefined });
const dial = (text: string, options: Partial<DialOptions> = {}, transport = patient) =>
  transport.dial(at(text), { ...trust(options), ...options });
const listen = (text: string, options: Partial<ListenOptions> = {}, transport = patient) =>
  transport.listen(at(text), { ...trust(options), ...options });

const key = generateKey();
const expecting = (word: string, serverName = SERVER_NAME) => ({
  security: { anchor: synthesizeAnchor(word), serverName },
});
const shows = (credentials: () => Credentials) => ({ security: { credentials: async () => credentials() } });

/** A UDP socket of this machine's. */
async function udp(): Promise<{ socket: dgram.Socket; port: number }> {
  const socket = dgram.createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return { socket, port: (socket.address() as AddressInfo).port };
}

describe("quic: addresses", () => {
  test.each(["quic://", "quic://127.0.0.1", "quic://127.0.0.1:65536", "quic://::1:4747", "quic://a b:1"])(
    "%s is none",
    async (text) => {
      for (const act of [dial, listen]) {
        const error = await errorOf(act(text));
        expect(error).toHaveProperty("code", "usage");
        expect(error.message).toMatch(/expected quic:\/\/HOST:PORT/);
      }
    },
  );

  test("port 0 can't be dialled, and nothing goes without trust", async () => {
    expect(await errorOf(dial("quic://127.0.0.1:0"))).toHaveProperty("code", "usage");
    for (const act of [patient.dial, patient.listen])
      expect(await errorOf(act(at("quic://127.0.0.1:1"), { signal: never }))).toHaveProperty("code", "refused");
  });

  test("IPv6, names, and everywhere", async () => {
    for (const [text, to] of [
      ["quic://[::1]:0", "[::1]"],
      ["quic://localhost:0", "localhost"],
      ["quic://0.0.0.0:0", "127.0.0.1"],
    ] as const) {
      const listener = await listen(text);
      const near = await dial(`quic://${to}:${/\d+$/.exec(listener.address)![0]}`);
      const far = (await listener.accept())!;
      expect(far.peer).toMatch(/^quic:\/\/(127\.0\.0\.1|\[::1\]):\d+$/);
      await Promise.all([near.destroy(), far.destroy(), listener.close()]);
    }
  });

  test("a port that is taken is refused", async () => {
    const listener = await listen("quic://127.0.0.1:0");
    const error = await errorOf(listen(listener.address));
    expect(error).toHaveProperty("code", "link");
    expect(error.message).toMatch(/another process listens there/);
    await listener.close();
  });

  // Deno gives a port back when it collects its garbage.
  test.skipIf(onDeno)("and is free again after the close", async () => {
    const listener = await listen("quic://127.0.0.1:0");
    await listener.close();
    await (await listen(listener.address)).close();
  });
});

describe("quic: who is there", () => {
  test("another key, or another name, is refused", async () => {
    const listener = await listen(
      "quic://127.0.0.1:0",
      shows(() => issueLeaf(key)),
    );
    const stranger = generateKey().word;
    for (const options of [expecting(stranger), expecting(key.word, "other.invalid")]) {
      const error = await errorOf(dial(listener.address, options));
      expect([error.name, error.code]).toEqual(["UntrustedPeerError", "refused"]);
      // Which key it was, only Bun tells.
      expect(error).toHaveProperty("claims", onDeno ? undefined : key.word);
    }
    const near = await dial(listener.address, expecting(key.word));
    expect(near.issuer).toBe(onDeno ? undefined : key.word);
    await near.destroy();
    await listener.close();
  });

  test("who proves nothing and who wants proof don't come together", async () => {
    const proving = await listen(
      "quic://127.0.0.1:0",
      shows(() => issueLeaf(key)),
    );
    const open = await listen("quic://127.0.0.1:0");
    expect(await errorOf(dial(proving.address))).toHaveProperty("code", "refused");
    expect(await errorOf(dial(open.address, expecting(key.word)))).toHaveProperty("code", "refused");
    await Promise.all([proving.close(), open.close()]);
  });

  test("a certificate is renewed under a listener that goes on", async () => {
    const next = generateKey();
    const short = { ...issueLeaf(key), expires: new Date(Date.now() + 1000) };
    let asked = 0;
    const credentials = () => (asked++ === 0 ? short : issueLeaf(next));
    const listener = await listen("quic://127.0.0.1:0", shows(credentials));
    const before = await dial(listener.address, expecting(key.word));
    const far = (await listener.accept())!;
    while (asked < 2) await sleep(20);
    await sleep(20);
    const after = await dial(listener.address, expecting(next.word));
    await (await listener.accept())!.destroy();
    expect(await errorOf(dial(listener.address, expecting(key.word)))).toHaveProperty("code", "refused");
    await before.write([Buffer.from("still there")]);
    await before.end();
    expect((await readAll(far.input)).toString()).toBe("still there");
    await Promise.all([before, after, far].map((connection) => connection.destroy()));
    await listener.close();
  });

  test("another protocol is told so", async () => {
    const { certificates: cert, privateKey } = issueLeaf(key);
    const other = { alpn: "other/1", cert, key: privateKey };
    const foreign = onDeno ? await foreignOnDeno(other) : await foreignOnBun(other);
    const error = await errorOf(dial(`quic://127.0.0.1:${foreign.port}`, expecting(key.word)));
    expect(error).toHaveProperty("code", "link");
    expect(error.message).toMatch(/speaks another protocol than shrinker\/1/);
    foreign.close();
  });
});

interface Foreign {
  readonly alpn: string;
  readonly cert: string;
  readonly key: string;
}

async function foreignOnBun({ alpn, cert, key }: Foreign) {
  const { listen: listenByQuic } = await import("node:quic");
  const { createPrivateKey } = await import("node:crypto");
  const endpoint = await listenByQuic(
    (session) => {
      for (const promise of [session.opened, session.closed]) promise.catch(() => {});
    },
    {
      alpn: [alpn],
      sni: { "*": { keys: createPrivateKey(key), certs: Buffer.from(cert) } },
      endpoint: { address: "127.0.0.1:0" },
    },
  );
  return { port: endpoint.address!.port, close: () => void endpoint.close() };
}

async function foreignOnDeno({ alpn, cert, key }: Foreign) {
  const api = (await loadQuic())!;
  if (!("deno" in api)) throw new Error("not Deno");
  const endpoint = new api.deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
  const bounds = { maxConcurrentBidirectionalStreams: 1, maxConcurrentUnidirectionalStreams: 0 };
  const times = { keepAliveInterval: 1000, maxIdleTimeout: 3000 };
  const listener = endpoint.listen({ ...bounds, ...times, cert, key, alpnProtocols: [alpn] });
  listener.incoming().then(
    (incoming) => incoming.accept().catch(() => {}),
    () => {},
  );
  return { port: endpoint.addr.port, close: () => listener.stop() };
}

describe("quic: who is not there", () => {
  test("nobody, who may be heard of, or not", async () => {
    const { socket, port } = await udp();
    socket.close();
    await once(socket, "close");
    const since = performance.now();
    const error = await errorOf(dial(`quic://127.0.0.1:${port}`, {}, hasty));
    expect(error).toHaveProperty("code", "link");
    expect(error.message).toMatch(onDeno ? /does not answer/ : /nothing listens there/);
    expect(performance.now() - since).toBeLessThan(3000);
  });

  test("somebody who never answers; and a signal doesn't wait for it", async () => {
    const { socket, port } = await udp();
    const error = await errorOf(dial(`quic://127.0.0.1:${port}`, {}, hasty));
    expect(error.message).toMatch(/does not answer/);
    const controller = new AbortController();
    const dialling = errorOf(dial(`quic://127.0.0.1:${port}`, { signal: controller.signal }));
    await sleep(30);
    controller.abort(new CancelledError("stop"));
    expect((await dialling).message).toBe("stop");
    socket.close();
  });

  test("a peer that vanishes is missed by both, in time", async () => {
    const listener = await listen("quic://127.0.0.1:0", {}, hasty);
    const there = Number(/\d+$/.exec(listener.address)![0]);
    // What lies between them forwards packets, until it doesn't.
    const [front, back] = [await udp(), await udp()];
    let client = 0;
    front.socket.on("message", (packet, from) => {
      // Not of whoever only asks whether somebody is there.
      if (packet.length > 1) client = from.port;
      back.socket.send(packet, there, "127.0.0.1");
    });
    back.socket.on("message", (packet) => front.socket.send(packet, client, "127.0.0.1"));
    const near = await dial(`quic://127.0.0.1:${front.port}`, {}, hasty);
    const far = (await listener.accept())!;
    // Signs of life keep a connection that says nothing.
    await sleep(1000);
    await near.write([Buffer.from("hello")]);
    const pieces = far.input[Symbol.asyncIterator]();
    expect(Buffer.from((await pieces.next()).value).toString()).toBe("hello");
    const since = performance.now();
    for (const { socket } of [front, back]) socket.removeAllListeners("message");
    for (const error of await Promise.all([errorOf(readAll(near.input)), errorOf(pieces.next())])) {
      expect(error).toHaveProperty("code", "link");
      expect(error.message).toMatch(/does not answer/);
    }
    expect(performance.now() - since).toBeLessThan(5000);
    await Promise.all([near.destroy(), far.destroy(), listener.close()]);
    for (const { socket } of [front, back]) socket.close();
  });

  test("a stranger who never opens a stream is dropped", async () => {
    const listener = await listen(
      "quic://127.0.0.1:0",
      shows(() => issueLeaf(key)),
      strict,
    );
    const link = await stranger(listener.address, 60_000);
    const since = performance.now();
    // Nothing is sent, so that the listener knows of no stream.
    expect(await errorOf(link.read())).toHaveProperty("code", "ECONNRESET");
    expect(performance.now() - since).toBeLessThan(3000);
    await link.close();
    await listener.close();
  });

  test("a stranger who sends more than it was granted is cut off", async () => {
    const listener = await listen(
      "quic://127.0.0.1:0",
      shows(() => issueLeaf(key)),
    );
    const link = await stranger(listener.address, 3000);
    await link.write([word(WORD.OPENED)]);
    const far = (await listener.accept())!;
    void (async () => {
      for (;;) await link.write([word(1 << 16), Buffer.alloc(1 << 16)]);
    })().catch(() => {});
    expect(await errorOf(link.read())).toBeInstanceOf(Error);
    const error = await errorOf(readAll(far.input));
    expect(error).toHaveProperty("code", "integrity");
    expect(error.message).toMatch(/more than it was granted/);
    await Promise.all([far.destroy(), link.close(), listener.close()]);
  });
});

/** A peer that knows nothing of the framing. */
async function stranger(address: string, idleMs: number) {
  const api = (await loadQuic())!;
  const { dial: dialRaw } = "node" in api ? nodeQuic(api.node) : denoQuic(api.deno);
  const options: QuicDialOptions = { ...expecting(key.word), signal: never, idleMs };
  return dialRaw("127.0.0.1", Number(/\d+$/.exec(address)![0]), options);
}

describe("quic: connections", () => {
  test.skipIf(onDeno)("what Bun refuses now and then goes all the same, once", async () => {
    const api = (await loadQuic())!;
    if (!("node" in api)) throw new Error("not Bun");
    let writes = 0;
    const connect: NodeQuic["connect"] = async (...args) => {
      const session = await api.node.connect(...args);
      const open = session.createBidirectionalStream.bind(session);
      session.createBidirectionalStream = async (options) => {
        const stream = await open(options);
        const { writer } = stream;
        const write = writer.writeSync.bind(writer);
        writer.writeSync = (bytes) => ++writes % 3 > 0 && write(bytes);
        Object.defineProperty(stream, "writer", { value: writer });
        return stream;
      };
      return session;
    };
    const listener = await listen(
      "quic://127.0.0.1:0",
      shows(() => issueLeaf(key)),
    );
    const options = { ...expecting(key.word), signal: never, idleMs: 15_000 };
    const link = await nodeQuic({ ...api.node, connect }).dial(
      "127.0.0.1",
      Number(/\d+$/.exec(listener.address)![0]),
      options,
    );
    const bytes = bytesOf("refused", 1 << 20);
    await link.write([word(WORD.OPENED), word(bytes.length), bytes, word(WORD.ENDED)]);
    const far = (await listener.accept())!;
    expect(same(await readAll(far.input), bytes)).toBe(true);
    expect(writes).toBeGreaterThan(64);
    await Promise.all([far.destroy(), link.close(), listener.close()]);
  });

  test("a reset is seen by the peer, after no end", async () => {
    const listener = await listen("quic://127.0.0.1:0");
    const near = await dial(listener.address);
    const far = (await listener.accept())!;
    await near.write([Buffer.from("half of")]);
    await near.reset!();
    const error = await errorOf(readAll(far.input));
    expect(error).toHaveProperty("code", "link");
    expect(error.message).toMatch(/broke the connection/);
    await Promise.all([far.destroy(), listener.close()]);
  });

  test("what was written before a connection was dropped still arrives, and no end", async () => {
    const listener = await listen("quic://127.0.0.1:0");
    for (const size of [10, 1_500_000]) {
      const near = await dial(listener.address);
      const far = (await listener.accept())!;
      const bytes = bytesOf("last", size);
      await near.write([bytes]);
      await near.destroy();
      const got: Uint8Array[] = [];
      const error = await errorOf(
        (async () => {
          for await (const piece of far.input) got.push(piece);
        })(),
      );
      expect(error).toHaveProperty("code", "link");
      expect(same(Buffer.concat(got), bytes)).toBe(true);
      await far.destroy();
    }
    await listener.close();
  });

  test("many at once", async () => {
    const listener = await listen("quic://127.0.0.1:0");
    const count = 30;
    const nears = await Promise.all(Array.from({ length: count }, () => dial(listener.address)));
    const fars = [];
    for (let i = 0; i < count; i++) fars.push((await listener.accept())!);
    await Promise.all(
      nears.map(async (near, i) => {
        await near.write([bytesOf(`${i}`, 20_000)]);
        await near.end();
      }),
    );
    const got = await Promise.all(fars.map((far) => readAll(far.input)));
    const sent = Array.from({ length: count }, (_, i) => bytesOf(`${i}`, 20_000));
    expect(sent.every((bytes) => got.some((other) => same(bytes, other)))).toBe(true);
    await Promise.all([...nears, ...fars].map((connection) => connection.destroy()));
    await listener.close();
  });
});
