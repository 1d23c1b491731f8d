// The HTTP/3 half of webtransport:, with a library whose HTTP/3 half is the test's; and with the real one where its native part is there.
import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import type net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { CancelledError } from "../../core/errors.ts";
import { issueLeaf, synthesizeAnchor } from "../../core/identity/certificates.ts";
import { generateKey } from "../../core/identity/key.ts";
import { SERVER_NAME } from "../../core/transport/security.ts";
import { parseAddress } from "../../core/transport/transport.ts";
import { transports } from "../../transports/registry.ts";
import { MAX_STRANGERS } from "../../transports/strangers.ts";
import { gateDatagrams } from "../../transports/webtransport/datagram-gate.ts";
import type { ClientParts, Server, Session } from "../../transports/webtransport/library.ts";
import { loadLibrary } from "../../transports/webtransport/library.ts";
import { GOODBYE_MS } from "../../transports/webtransport/link.ts";
import { SERVER_OPTIONS, serveHttp3 } from "../../transports/webtransport/serve-http3.ts";
import { webtransportTransport } from "../../transports/webtransport.ts";
import { bytesOf, errorOf, never, readAll, same } from "./helpers.ts";
import { http2Only, overHttp2 } from "./http2-only.ts";

const ANY = "webtransport://127.0.0.1:0";
const key = generateKey();
const open = { signal: never, insecure: true };
const at = (text: string) => parseAddress(text, transports);
const { http3: native } = await loadLibrary(ANY);

let ports = 0;

/** A session that ends when it is closed, unless its peer is one that doesn't agree. */
function session(agrees = true) {
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  let closes = 0;
  const made = {
    closed,
    peerAddress: `127.0.0.1:${++ports}`,
    close() {
      closes++;
      if (agrees) resolve();
    },
  };
  return { session: made as unknown as Session, over: resolve, closes: () => closes };
}

/** Servers that can't be started while `broken`, and let nobody in once they are `full`. */
function servers() {
  const log: string[] = [];
  let greet: (session: Session) => void = () => {};
  const state = { broken: false, full: false, welcome: async (_session: Session, _cut: () => void) => true };
  const admitted = new Set<string>();
  const start = async (greeting: typeof greet) => {
    if (state.broken) throw new Error("its port is taken");
    greet = greeting;
    const name = `server ${log.filter((line) => line.endsWith("starts")).length + 1}`;
    log.push(`${name} starts`);
    const gate = {
      admit: (peer: string) => void admitted.add(peer),
      leave: (peer: string) => void admitted.delete(peer),
      get full() {
        return state.full;
      },
      shut: () => void log.push(`${name} is shut`),
    };
    const stopServer = () => {
      state.full = false;
      log.push(`${name} stops`);
    };
    return { server: { stopServer }, gate };
  };
  const serve = () => serveHttp3({ start, welcome: (one, cut) => state.welcome(one, cut) });
  return { log, state, admitted, come: (one: Session) => greet(one), serve };
}

describe("a listener's HTTP/3 half", () => {
  test("that closes goes on until its last session is over, and takes no other", async () => {
    const { log, come, serve } = servers();
    const half = await serve();
    const [one, two, late] = [session(), session(), session()];
    come(one.session);
    come(two.session);
    await sleep(1);
    half.close();
    come(late.session);
    expect([one.closes(), two.closes(), late.closes()]).toEqual([0, 0, 1]);
    one.over();
    await sleep(1);
    expect(log).toEqual(["server 1 starts"]);
    two.over();
    await sleep(1);
    expect(log).toEqual(["server 1 starts", "server 1 is shut", "server 1 stops"]);
  });

  test("shows new credentials once no session is open, by another server", async () => {
    const { log, come, serve } = servers();
    const half = await serve();
    const one = session();
    come(one.session);
    half.look(true);
    await sleep(1);
    expect(log).toEqual(["server 1 starts"]);
    one.over();
    await sleep(1);
    half.look(false);
    await sleep(1);
    expect(log).toEqual(["server 1 starts", "server 1 is shut", "server 1 stops", "server 2 starts"]);
    half.close();
    expect(log.at(-1)).toBe("server 2 stops");
  });

  test("is tried again where its port is taken meanwhile", async () => {
    const { log, state, serve } = servers();
    const half = await serve();
    state.broken = true;
    half.look(true);
    await sleep(1);
    half.look(false);
    await sleep(1);
    expect(log).toEqual(["server 1 starts", "server 1 is shut", "server 1 stops"]);
    state.broken = false;
    half.look(false);
    await sleep(1);
    expect(log.at(-1)).toBe("server 2 starts");
    half.close();
    expect(log.at(-1)).toBe("server 2 stops");
  });

  test("that closes while another server starts stops that, too", async () => {
    const { log, serve } = servers();
    const half = await serve();
    half.look(true);
    half.close();
    await sleep(1);
    expect(log.filter((line) => !line.endsWith("shut"))).toEqual([
      ...["server 1 starts", "server 1 stops", "server 2 starts", "server 2 stops"],
    ]);
  });

  test("has 64 places for strangers; the oldest loses its own to another", async () => {
    const { state, come, serve } = servers();
    state.welcome = () => new Promise(() => {});
    const half = await serve();
    const all = Array.from({ length: MAX_STRANGERS + 1 }, session);
    for (const one of all) come(one.session);
    expect(all.map((one) => one.closes())).toEqual([1, ...Array(MAX_STRANGERS).fill(0)]);
    half.close();
    expect(all.map((one) => one.closes())).toEqual(Array(MAX_STRANGERS + 1).fill(1));
  });

  test("counts what it has closed as over, whatever its peer thinks of it; too many such end with the server", async () => {
    const { log, state, come, serve } = servers();
    state.welcome = async (_, cut) => {
      cut();
      return false;
    };
    const half = await serve();
    const all = Array.from({ length: MAX_STRANGERS }, () => session(false));
    for (const one of all) come(one.session);
    await sleep(GOODBYE_MS + 50);
    half.look(false);
    expect(log).toEqual(["server 1 starts"]);
    come(session(false).session);
    await sleep(GOODBYE_MS + 50);
    expect(log.at(-1)).toBe("server 2 starts");
    // What ends with that server is not counted against the next one, nor for it.
    for (const one of all) one.over();
    await sleep(1);
    for (let i = 0; i <= MAX_STRANGERS; i++) come(session(false).session);
    await sleep(GOODBYE_MS + 50);
    expect(log.at(-1)).toBe("server 3 starts");
    half.close();
    expect(log.at(-1)).toBe("server 3 stops");
  });

  test("that lets nobody in any more is replaced once no session is open", async () => {
    const { log, state, admitted, come, serve } = servers();
    const half = await serve();
    const one = session();
    come(one.session);
    await sleep(1);
    expect([...admitted]).toEqual([one.session.peerAddress!]);
    state.full = true;
    half.look(false);
    expect(log).toEqual(["server 1 starts"]);
    one.over();
    await sleep(1);
    expect(admitted.size).toBe(0);
    expect(log.at(-1)).toBe("server 2 starts");
    half.close();
  });

  test("hears a source without a session for so long and so many bytes, and so many such sources", async () => {
    const heard: string[] = [];
    let processed = 0;
    const socket = { doProcessBufferedChlos: () => void processed++ };
    type Packet = { msg: Uint8Array; rinfo: { address: string; port: number } };
    const half = { recvPaket: ({ rinfo }: Packet) => void heard.push(`${rinfo.address}:${rinfo.port}`), socket };
    const gate = gateDatagrams({ transportInt: half } as unknown as Server, 50);
    const send = (address: string, port: number, bytes = 1200) => {
      heard.length = 0;
      half.recvPaket({ msg: new Uint8Array(bytes), rinfo: { address, port } });
      return heard.length;
    };
    expect([send("1.2.3.4", 1, 65_536), send("1.2.3.4", 1, 1), send("1.2.3.4", 2)]).toEqual([1, 0, 1]);
    await sleep(60);
    expect(send("1.2.3.4", 2)).toBe(0);
    gate.admit("1.2.3.4:2");
    gate.admit("[2001:db8::1]:3");
    expect([send("::ffff:1.2.3.4", 2, 1e6), send("2001:db8::1", 3, 1e6)]).toEqual([1, 1]);
    for (let port = 10; !gate.full; port++) send("1.2.3.5", port);
    expect([send("1.2.3.6", 1), send("1.2.3.4", 2), send("1.2.3.5", 10)]).toEqual([0, 1, 1]);
    gate.leave("1.2.3.4:2");
    expect(send("1.2.3.4", 2)).toBe(0);
    socket.doProcessBufferedChlos();
    gate.shut();
    socket.doProcessBufferedChlos();
    expect([processed, send("2001:db8::1", 3)]).toEqual([1, 0]);
  });

  test.each<[string, object]>([
    ["recvPaket", {}],
    ["socket", { recvPaket() {} }],
    ["doProcessBufferedChlos", { recvPaket() {}, socket: {} }],
  ])("of a version without %s is not served", (lacks, half) => {
    expect(() => gateDatagrams({ transportInt: half } as unknown as Server, 50)).toThrow(
      `This version of @fails-components/webtransport has no ${lacks}`,
    );
  });

  test("gives a peer two streams: the request that opens the session is one of them", () => {
    expect(SERVER_OPTIONS.initialBidirectionalStreams).toBe(2);
  });
});

describe("a dialler that has HTTP/3", () => {
  type Parts = Record<string, unknown>;
  /** Of connections over HTTP/3. */
  let closes = 0;
  /** The library, whose sessions over HTTP/3 are these. */
  const having = (parts: () => Parts) => async (text: string) => {
    const real = await http2Only(text);
    class Either extends real.WebTransport {
      override startUpConnection(parts: ClientParts): void {
        if (!("transportInt" in parts.client)) super.startUpConnection(parts);
      }
    }
    const WebTransport = new Proxy(Either, {
      construct(target, args, made) {
        if (!args[1].requireUnreliable) return Reflect.construct(target, args, made);
        // As the library's constructor does.
        const half = { closeClient: () => void closes++, socket: { socketInt: {} } };
        made.prototype.startUpConnection.call({}, { client: { transportInt: half } });
        return { closed: new Promise(() => {}), close() {}, ...parts() };
      },
    });
    return { ...real, http3: true, WebTransport };
  };

  test.each<[string, () => Parts]>([
    ["is refused", () => ({ ready: Promise.reject(new Error("Opening handshake failed.")) })],
    ["gets no answer", () => ({ ready: new Promise(() => {}) })],
    [
      "gets no stream",
      () => ({
        ready: Promise.resolve(),
        createBidirectionalStream: () => Promise.reject(new Error("No streams available")),
      }),
    ],
    [
      "was given something else",
      () => ({
        ready: Promise.resolve(),
        reliability: "reliable-only",
        createBidirectionalStream: () => Promise.resolve({}),
      }),
    ],
  ])("and %s goes over HTTP/2", async (_, parts) => {
    closes = 0;
    const listener = await overHttp2.listen(ANY);
    const near = await webtransportTransport({ load: having(parts) }).dial(at(listener.address), open);
    const far = (await listener.accept())!;
    expect([near.carrier, far.carrier, closes]).toEqual(["HTTP/2", "HTTP/2", 1]);
    await near.write([Buffer.from("same")]);
    await near.end();
    expect((await readAll(far.input)).toString()).toBe("same");
    await Promise.all([near.destroy(), far.destroy(), listener.close()]);
  });

  test("outlives a connection that breaks meanwhile, and says so", async () => {
    const { certificates, privateKey } = issueLeaf(key);
    const server = tls.createServer({ cert: certificates, key: privateKey, ALPNProtocols: ["h2"] }, (socket) => {
      socket.on("error", () => {});
      setTimeout(() => socket.destroy(), 50);
      setTimeout(() => raw?.resetAndDestroy(), 100);
    });
    let raw: net.Socket | undefined;
    server.on("connection", (socket: net.Socket) => {
      raw = socket;
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const load = having(() => ({ ready: new Promise(() => {}) }));
    const address = at(`webtransport://127.0.0.1:${(server.address() as net.AddressInfo).port}`);
    const security = { anchor: synthesizeAnchor(key.word), serverName: SERVER_NAME };
    const error = await errorOf(webtransportTransport({ load }).dial(address, { signal: never, security }));
    expect(error).toHaveProperty("code", "link");
    expect(error.message).toMatch(/Lost the connection/);
    server.close();
  });

  test("ends with its signal while it waits", async () => {
    const listener = await overHttp2.listen(ANY);
    const load = having(() => ({ ready: new Promise(() => {}) }));
    const controller = new AbortController();
    const dialling = errorOf(
      webtransportTransport({ load }).dial(at(listener.address), { ...open, signal: controller.signal }),
    );
    await sleep(100);
    controller.abort(new CancelledError("stop"));
    expect((await dialling).message).toBe("stop");
    expect(closes).toBeGreaterThan(0);
    await listener.close();
  });
});

describe.skipIf(!native)("with its native part", () => {
  const both = webtransportTransport();

  test.each([ANY, "webtransport://[::1]:0"])(
    "HTTP/3 carries what both ends have, and HTTP/2 what one has: %s",
    async (any) => {
      const listener = await both.listen(at(any), open);
      for (const [transport, carrier] of [
        [both.dial, "HTTP/3"],
        [(address: ReturnType<typeof at>) => overHttp2.dial(address.text), "HTTP/2"],
      ] as const) {
        const near = await transport(at(listener.address), open);
        const far = (await listener.accept())!;
        expect([near.carrier, far.carrier]).toEqual([carrier, carrier]);
        const sent = bytesOf("sent", 3e6);
        void near.write([sent]).then(() => near.end());
        expect(same(await readAll(far.input), sent)).toBe(true);
        await Promise.all([near.destroy(), far.destroy()]);
      }
      await listener.close();
      const plain = await overHttp2.listen(ANY);
      const near = await both.dial(at(plain.address), open);
      expect(near.carrier).toBe("HTTP/2");
      await Promise.all([near.destroy(), plain.close()]);
    },
  );

  test("new credentials are shown there, too", async () => {
    let issued = 0;
    const credentials = async () => {
      issued++;
      return { ...issueLeaf(key), expires: new Date(Date.now() + 400) };
    };
    const hasty = webtransportTransport({ times: { handshake: 2000, renewal: 50 } });
    const listener = await hasty.listen(at(ANY), { signal: never, security: { credentials } });
    const security = { anchor: synthesizeAnchor(key.word), serverName: SERVER_NAME };
    for (let last = 0; issued < 4; await sleep(50)) {
      if (issued === last) continue;
      last = issued;
      await sleep(50);
      const near = await both.dial(at(listener.address), { signal: never, security });
      expect(near.carrier).toBe("HTTP/3");
      await near.destroy();
    }
    await listener.close();
  });
});
