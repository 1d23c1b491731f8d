// A version of webtransport's library that keeps its private parts elsewhere: nothing goes over it, and it is said why.
import { describe, expect, test } from "bun:test";
import { parseAddress } from "../../core/transport/transport.ts";
import { transports } from "../../transports/registry.ts";
import type { ClientSession, LoadedLibrary, Server } from "../../transports/webtransport/library.ts";
import { webtransportTransport } from "../../transports/webtransport.ts";
import { errorOf, never, readAll } from "./helpers.ts";
import { http2Only, overHttp2 } from "./http2-only.ts";

const ANY = "webtransport://127.0.0.1:0";
const at = (text: string) => parseAddress(text, transports);
const open = { signal: never, insecure: true };
const real = await http2Only(ANY);
const { dial, listen } = overHttp2;

const other = (parts: Partial<LoadedLibrary>) => webtransportTransport({ load: async () => ({ ...real, ...parts }) });

function expectBug(error: Error, lacks: string): void {
  expect(error).toHaveProperty("code", "bug");
  expect(error.message).toBe(
    `This version of @fails-components/webtransport has no ${lacks}: install the one that package.json names`,
  );
}

type Parts = Record<string, unknown>;
type Event = { readonly session: Parts; readonly whole?: Event };
type Visit = (event: Event) => void;

/** A server that is changed once it has its HTTP/2 half. */
function server(change: (made: Server, half: Parts) => void) {
  return class extends real.Http2Server {
    override async createTransportInt() {
      // The library calls it again.
      if (this.transportInt !== undefined) return;
      await super.createTransportInt();
      const half: unknown = Reflect.get(this, "transportInt");
      change(this, half as Parts);
    }
  };
}

/** A server whose half tells of its sessions in another way; the library itself sees them as they are. */
const telling = (tell: (event: Event, visit: Visit, visitAsBefore: Visit) => void) =>
  server((made, half) => {
    const before = made.onHttpWTSessionVisitor.bind(made) as unknown as Visit;
    const now: Visit = (event) => (made.onHttpWTSessionVisitor as unknown as Visit)(event);
    made.onHttpWTSessionVisitor = ((event: Event) => before(event.whole ?? event)) as never;
    half.jsobj = new Proxy(made, {
      get: (_, name) =>
        name === "onHttpWTSessionVisitor" ? (event: Event) => tell(event, now, before) : Reflect.get(made, name),
    });
  });

/** The session with other parts. */
function having(whole: Event, parts: Parts): Event {
  const get = (session: Parts, name: string) => (name in parts ? parts[name] : session[name]);
  return { ...whole, whole, session: new Proxy(whole.session, { get }) };
}

/** A client whose parts are changed before it connects. */
const client = (change: (args: Parts) => void) => {
  type Inner = new (url: string, options: object) => { createClient(args: object): { client: { args: Parts } } };
  class Changed extends (real.WebTransport as unknown as Inner) {
    override createClient(args: object) {
      const made = super.createClient(args);
      change(made.client.args);
      return made;
    }
  }
  return Changed as unknown as LoadedLibrary["WebTransport"];
};

describe("a listener", () => {
  test.each(["createTransportInt", "onHttpWTSessionVisitor"])("without %s doesn't start", async (name) => {
    class Without extends real.Http2Server {
      constructor(options: object) {
        super(options);
        Object.defineProperty(this, name, { value: undefined });
      }
    }
    expectBug(await errorOf(other({ Http2Server: Without }).listen(at(ANY), open)), name);
  });

  test.each<[string, (made: Server, half: Parts) => void]>([
    ["transportInt", (made) => Object.defineProperty(made, "transportInt", { value: undefined })],
    ["serverInt", (_, half) => delete half.serverInt],
    ["on", (_, half) => Object.assign(half, { serverInt: {} })],
    [
      "listener of streams",
      (_, half) => void (half.serverInt as { removeAllListeners(event: string): void }).removeAllListeners("stream"),
    ],
  ])("whose half has no %s doesn't start", async (lacks, change) => {
    const error = await errorOf(other({ Http2Server: server(change) }).listen(at(ANY), open));
    expectBug(error, lacks === "transportInt" ? "serverInt" : lacks);
  });

  test.each<[string, Parameters<typeof telling>[0]]>([
    ["stream", (event, visit) => visit(having(event, { stream: undefined }))],
    ["capsParser", (event, visit) => visit(having(event, { capsParser: undefined }))],
    ["saveddata", (event, visit) => visit(having(event, { capsParser: { parseData() {} } }))],
    ["parseData", (event, visit) => visit(having(event, { capsParser: { saveddata: undefined } }))],
    ["session that came by onHttpWTSessionVisitor", (event, _, visitAsBefore) => visitAsBefore(event)],
  ])("whose session has no %s is over, and so is that session", async (lacks, tell) => {
    const listener = await other({ Http2Server: telling(tell) }).listen(at(ANY), open);
    const refused = dial(listener.address).then(({ input }) => readAll(input));
    refused.catch(() => {});
    expectBug(await errorOf(listener.accept()), lacks);
    expect(await errorOf(refused)).toHaveProperty("code", "link");
    expect(await errorOf(dial(listener.address))).toHaveProperty("code", "link");
    await listener.close();
  });
});

describe("a client", () => {
  class Silent {
    readonly closed = new Promise<void>(() => {});
    readonly ready = this.closed;
  }
  test.each<[string, LoadedLibrary["WebTransport"]]>([
    ["startUpConnection", Silent as unknown as new () => ClientSession],
    ["createReliableClient", client((args) => delete args.createReliableClient)],
    ["createTransport", client((args) => Object.assign(args, { createReliableClient: () => ({}) }))],
    ["jsobj", client((args) => Object.assign(args, { createReliableClient: () => hiding("jsobj") }))],
    ["onClientConnected", client((args) => Object.assign(args, { createReliableClient: () => hiding("") }))],
  ])("without %s connects to nobody", async (lacks, WebTransport) => {
    const listener = await listen(ANY);
    expectBug(await errorOf(other({ WebTransport }).dial(at(listener.address), open)), lacks);
    const near = await dial(listener.address);
    const far = (await listener.accept())!;
    // The first that came: the other one has not been here.
    await near.write([Buffer.from("well")]);
    await near.end();
    expect((await readAll(far.input)).toString()).toBe("well");
    await Promise.all([near.destroy(), far.destroy(), listener.close()]);
  });

  /** An HTTP/2 half that may keep its owner, or may not. */
  function hiding(name: string) {
    const half = { createTransport() {}, closeClient() {}, jsobj: undefined as unknown };
    Object.defineProperty(
      half,
      "jsobj",
      name === "jsobj" ? { get: () => undefined, set() {} } : { get: () => ({}), set() {} },
    );
    return half;
  }
});
