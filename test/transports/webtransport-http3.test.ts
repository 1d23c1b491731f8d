// The HTTP/3 half of webtransport:, with a library whose HTTP/3 half is the test's; and with the real one where its native part is there.
import { describe, expect, test } from "bun:test";
import { setTimeout as sleep } from "node:timers/promises";
import { CancelledError } from "../../core/errors.ts";
import { parseAddress } from "../../core/transport/transport.ts";
import { transports } from "../../transports/registry.ts";
import { MAX_STRANGERS } from "../../transports/strangers.ts";
import { SERVER_STREAMS, serveHttp3 } from "../../transports/webtransport/http3.ts";
import type { Server, Session } from "../../transports/webtransport/library.ts";
import { loadLibrary } from "../../transports/webtransport/library.ts";
import { webtransportTransport } from "../../transports/webtransport.ts";
import { errorOf, never, readAll } from "./helpers.ts";
import { http2Only, overHttp2 } from "./http2-only.ts";

const ANY = "webtransport://127.0.0.1:0";
const open = { signal: never, insecure: true };
const at = (text: string) => parseAddress(text, transports);
const { http3: native } = await loadLibrary(ANY);

/** A session that ends when it is closed. */
function session() {
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  let closes = 0;
  const made = {
    closed,
    close() {
      closes++;
      resolve();
    },
  };
  return { session: made as unknown as Session, over: resolve, closes: () => closes };
}

/** Servers that can't be started while `broken`. */
function servers() {
  const log: string[] = [];
  let greet: (session: Session) => void = () => {};
  const state = { broken: false, welcome: async (_: Session): Promise<void> => {} };
  const start = async (greeting: typeof greet) => {
    if (state.broken) throw new Error("its port is taken");
    greet = greeting;
    const name = `server ${log.filter((line) => line.endsWith("starts")).length + 1}`;
    log.push(`${name} starts`);
    return { stopServer: () => void log.push(`${name} stops`) } as unknown as Server;
  };
  return {
    log,
    state,
    come: (one: Session) => greet(one),
    serve: () => serveHttp3({ start, welcome: (one) => state.welcome(one) }),
  };
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
    expect(log).toEqual(["server 1 starts", "server 1 stops"]);
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
    expect(log).toEqual(["server 1 starts", "server 1 stops", "server 2 starts"]);
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
    expect(log).toEqual(["server 1 starts", "server 1 stops"]);
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
    expect(log).toEqual(["server 1 starts", "server 1 stops", "server 2 starts", "server 2 stops"]);
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

  test("gives a peer two streams: the request that opens the session is one of them", () => {
    expect(SERVER_STREAMS.initialBidirectionalStreams).toBe(2);
  });
});

describe("a dialler that has HTTP/3", () => {
  type Parts = Record<string, unknown>;
  /** The library, whose sessions over HTTP/3 are these. */
  const having = (parts: () => Parts) => async (text: string) => {
    const library = await http2Only(text);
    const WebTransport = new Proxy(library.WebTransport, {
      construct(target, args, made) {
        if (!args[1].requireUnreliable) return Reflect.construct(target, args, made);
        return { closed: new Promise(() => {}), close() {}, ...parts() };
      },
    });
    return { ...library, http3: true, WebTransport };
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
    const listener = await overHttp2.listen(ANY);
    const near = await webtransportTransport({ load: having(parts) }).dial(at(listener.address), open);
    const far = (await listener.accept())!;
    expect([near.carrier, far.carrier]).toEqual(["HTTP/2", "HTTP/2"]);
    await near.write([Buffer.from("same")]);
    await near.end();
    expect((await readAll(far.input)).toString()).toBe("same");
    await Promise.all([near.destroy(), far.destroy(), listener.close()]);
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
    await listener.close();
  });
});

describe.skipIf(!native)("with its native part", () => {
  const both = webtransportTransport();

  test("HTTP/3 carries what both ends have, and HTTP/2 what one has", async () => {
    const listener = await both.listen(at(ANY), open);
    for (const [transport, carrier] of [
      [both.dial, "HTTP/3"],
      [(address: ReturnType<typeof at>) => overHttp2.dial(address.text), "HTTP/2"],
    ] as const) {
      const near = await transport(at(listener.address), open);
      const far = (await listener.accept())!;
      expect([near.carrier, far.carrier]).toEqual([carrier, carrier]);
      await Promise.all([near.destroy(), far.destroy()]);
    }
    await listener.close();
    const plain = await overHttp2.listen(ANY);
    const near = await both.dial(at(plain.address), open);
    expect(near.carrier).toBe("HTTP/2");
    await Promise.all([near.destroy(), plain.close()]);
  });
});
