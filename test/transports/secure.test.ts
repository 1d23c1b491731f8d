import { describe, expect, test } from "bun:test";
import { once } from "node:events";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import tls from "node:tls";
import { acceptSession } from "../../core/engine/destination-session.ts";
import { openSession } from "../../core/engine/source-session.ts";
import { certifySuccessor, issueLeaf, synthesizeAnchor } from "../../core/identity/certificates.ts";
import { type Identity, newIdentity, rotate } from "../../core/identity/identity.ts";
import { makeProof, PROOF_HEAD } from "../../core/identity/proof.ts";
import { ProofChecker } from "../../core/identity/proof-checker.ts";
import { readSuccession } from "../../core/identity/succession.ts";
import { type Credentials, renewed, SERVER_NAME } from "../../core/transport/security.ts";
import type { Connection, Listener } from "../../core/transport/transport.ts";
import { introduce } from "../../transports/introduction.ts";
import { memoryPair } from "../../transports/memory.ts";
import { tcp } from "../../transports/tcp.ts";
import { destinationOptions, memoryTarget, sourceOptions } from "../support/session.ts";
import { transportCompliance } from "./compliance.ts";
import { bytesOf, errorOf, never, readAll, same } from "./helpers.ts";
import { at, type Peer, peer, refusal } from "./peers.ts";

const DAY_MS = 86_400_000;
const daysAgo = (days: number) => new Date(Date.now() - days * DAY_MS);
const line = ({ identity }: Peer, more = "") => `${identity.word} name=client ${more}`;

/** A listener that knows one client, and that client. */
async function site(more = "") {
  const identity = newIdentity();
  const client = peer({ pins: identity.word });
  const server = peer({ identity, authorizes: () => line(client, more) });
  const listener = await server.listen();
  return { client, server, listener, address: listener.address };
}

/** TLS with a listener, by who may say whatever it wants in it. */
const raw = (address: string, word: string): Promise<Connection> =>
  tcp.dial(at(address), { signal: never, security: { anchor: synthesizeAnchor(word), serverName: SERVER_NAME } });

const credentialsOf = (identity: Identity, now?: Date): Credentials =>
  issueLeaf(
    identity,
    identity.successions.map(({ der }) => der),
    now,
  );

async function expectThrough(client: Peer, listener: Listener): Promise<Connection> {
  const near = await client.dial(listener.address);
  const far = (await listener.accept())!;
  await near.write([Buffer.from("hello")]);
  await near.end();
  expect((await readAll(far.input)).toString()).toBe("hello");
  await Promise.all([near.destroy(), far.destroy()]);
  return far;
}

transportCompliance("tcp: between peers that know each other", async () => {
  const { client, server, listener } = await site();
  const gone = await server.listen();
  await gone.close();
  return {
    listener,
    endsWhileWriting: !("Deno" in globalThis),
    dial: (signal) => client.dial(listener.address, signal),
    listenElsewhere: (signal) => server.listen(signal),
    dialNothing: (signal) => client.dial(gone.address, signal),
    close: () => listener.close(),
  };
});

describe("peers", () => {
  test("who is let in has its name and what it may do", async () => {
    const { client, listener } = await site("vms=web-* max-sessions=2");
    const { identity } = await expectThrough(client, listener);
    expect(identity).toMatchObject({ key: client.identity.word, name: "client", permissions: { vms: ["web-*"] } });
    await listener.close();
  });

  test("a listener that knows nobody does not start", async () => {
    for (const authorizes of [() => "# nobody", () => `${newIdentity().word} name=a expires=2001-01-01`]) {
      const error = await errorOf(peer({ authorizes }).listen());
      expect([error.code, /names nobody/.test(error.message)]).toEqual(["refused", true]);
    }
  });

  test("a stranger is told that it is one, and no more", async () => {
    const { server, listener, address } = await site();
    const stranger = peer({ pins: server.identity.word });
    const connection = await stranger.dial(address);
    expect(await refusal(connection)).toBe(`The key ${stranger.identity.word} is not authorized here`);
    await listener.close();
  });

  test("who is authorized, and who no more, is looked up each time", async () => {
    const identity = newIdentity();
    const client = peer({ pins: identity.word });
    let lines = line(client);
    const listener = await peer({ identity, authorizes: () => lines }).listen();
    await expectThrough(client, listener);
    lines = line(client, "expires=2001-01-01");
    expect(await refusal(await client.dial(listener.address))).toMatch(/has expired/);
    lines = "";
    expect(await refusal(await client.dial(listener.address))).toMatch(/not authorized/);
    await listener.close();
  });

  test("a listener that isn't known, or has another key, gets nothing, and its claim is shown", async () => {
    const { server, listener, address } = await site();
    const claim = new RegExp(`claims to be ${server.identity.word}`);
    for (const [pins, words] of [
      [undefined, /is not known here.*--pin/],
      [newIdentity().word, /does not prove to be who was expected/],
    ] as const) {
      const error = await errorOf(peer({ pins }).dial(address));
      expect(error.code).toBe("refused");
      expect(error.message).toMatch(words);
      expect(error.message).toMatch(claim);
    }
    await listener.close();
  });

  test("a proof, and all that came before and after it, is worth nothing a second time", async () => {
    const { client, server, listener, address } = await site();
    const proof = makeProof(client.identity, server.identity.word);
    const first = await raw(address, server.identity.word);
    await first.write([proof, Buffer.from("hello")]);
    expect((await listener.accept())?.identity?.name).toBe("client");
    await first.destroy();
    const again = await raw(address, server.identity.word);
    await again.write([proof, Buffer.from("hello")]);
    expect(await refusal(again)).toMatch(/used before/);
    await listener.close();
  });

  test("a proof that was given to another is worth nothing: nobody can relay one", async () => {
    const { client, server, listener, address } = await site();
    // Both know it, and the client dials it.
    const mallory = newIdentity();
    const middle = await tcp.listen(at("tcp://127.0.0.1:0"), {
      signal: never,
      security: { credentials: async () => credentialsOf(mallory) },
    });
    const victim = await peer({ identity: client.identity, pins: mallory.word }).dial(middle.address);
    const caught = (await middle.accept())!;
    const { value: proof } = await caught.input[Symbol.asyncIterator]().next();
    const onward = await raw(address, server.identity.word);
    await onward.write([proof]);
    expect(await refusal(onward)).toContain(`is for ${mallory.word}`);
    await Promise.all([victim.destroy(), caught.destroy(), middle.close(), listener.close()]);
  });

  test("a proof of another version is refused with what to do", async () => {
    const { client, server, listener, address } = await site();
    const proof = makeProof(client.identity, server.identity.word);
    proof.writeUInt16LE(0, 4);
    const connection = await raw(address, server.identity.word);
    await connection.write([proof]);
    expect(await refusal(connection)).toMatch(/same release/);
    // And who sends none is told, too.
    const silent = await raw(address, server.identity.word);
    await silent.write([bytesOf("preface", 100)]);
    expect(await refusal(silent)).toMatch(/who you are/);
    await listener.close();
  });
});

describe("TLS", () => {
  test("is 1.3, whatever a peer would like", async () => {
    const { client, server, listener, address } = await site();
    const port = Number(address.split(":").at(-1));
    const old = { minVersion: "TLSv1.2", maxVersion: "TLSv1.2" } as const;
    const ca = synthesizeAnchor(server.identity.word);
    const socket = tls.connect({ host: "127.0.0.1", port, ca, servername: SERVER_NAME, ...old });
    const outcome = await new Promise((resolve) => {
      socket.on("secureConnect", () => resolve("connected")).on("error", () => resolve("refused"));
    });
    expect(outcome).toBe("refused");
    const { certificates, privateKey } = credentialsOf(server.identity);
    const downgraded = tls.createServer({ cert: certificates, key: privateKey, ...old }, (socket) => socket.destroy());
    downgraded.on("tlsClientError", () => {}).listen(0, "127.0.0.1");
    await once(downgraded, "listening");
    const to = `tcp://127.0.0.1:${(downgraded.address() as net.AddressInfo).port}`;
    const error = await errorOf(client.dial(to));
    expect([error.code, /TLS failed/.test(error.message)]).toEqual(["link", true]);
    downgraded.close();
    await listener.close();
  });

  test("a reset is seen as a failure, not as an end", async () => {
    const { client, listener } = await site();
    for (const dialerBreaks of [true, false]) {
      const near = await client.dial(listener.address);
      const far = (await listener.accept())!;
      const [one, two] = dialerBreaks ? [near, far] : [far, near];
      await one.write([Buffer.from("some")]);
      const iterator = two.input[Symbol.asyncIterator]();
      expect(Buffer.from((await iterator.next()).value).toString()).toBe("some");
      await one.reset!();
      expect(await errorOf(iterator.next().then(() => {}))).toHaveProperty("code", "link");
      await two.destroy();
    }
    await listener.close();
  });

  test("a leaf, and a succession, that has expired proves nothing", async () => {
    const old = newIdentity();
    const young = rotate(old);
    const late = { ...young, successions: [readSuccession(certifySuccessor(old, young.word, daysAgo(91)))] };
    const shown: [Credentials, string, string | undefined][] = [
      [credentialsOf(young), young.word, undefined],
      [credentialsOf(young), old.word, undefined],
      [credentialsOf(young, daysAgo(8)), young.word, "refused"],
      [credentialsOf(late), old.word, "refused"],
    ];
    for (const [credentials, pinned, code] of shown) {
      const listener = await tcp.listen(at("tcp://127.0.0.1:0"), {
        signal: never,
        security: { credentials: async () => credentials },
      });
      const dialled = await raw(listener.address, pinned).catch((error) => error);
      expect(dialled.code).toBe(code);
      if (code === undefined) await dialled.destroy();
      await listener.close();
    }
  });

  test("who pins a key of before gets through after a rotation, and is told of the new one; so is the listener", async () => {
    const old = newIdentity();
    const client = peer({ pins: old.word });
    const young = rotate(rotate(old));
    const server = peer({ identity: young, authorizes: () => line(client) });
    const listener = await server.listen();
    await expectThrough(client, listener);
    expect(client.notes.join()).toContain(`--pin ${listener.address} ${young.word}`);
    const moved = peer({ identity: rotate(client.identity), pins: young.word });
    await expectThrough(moved, listener);
    expect(moved.notes).toEqual([]);
    expect(server.notes.join()).toContain(`authorize ${moved.identity.word}`);
    await listener.close();
  });

  test("a listener that outlives its key shows the new one, and is still known by the old one", async () => {
    const old = newIdentity();
    const clients = [peer({ pins: old.word })];
    const server = peer({
      identity: old,
      authorizes: () => clients.map((one, i) => `${one.identity.word} name=c${i}`).join("\n"),
    });
    const listener = await server.listen();
    await expectThrough(clients[0]!, listener);
    expect(clients[0]!.notes).toEqual([]);
    const young = server.rotate();
    clients.push(peer({ pins: young.word }), peer({ pins: newIdentity().word }));
    await expectThrough(clients[1]!, listener);
    expect(clients[1]!.notes).toEqual([]);
    await expectThrough(clients[0]!, listener);
    expect(clients[0]!.notes.join()).toContain(`--pin ${listener.address} ${young.word}`);
    expect((await errorOf(clients[2]!.dial(listener.address))).message).toContain("does not prove");
    await listener.close();
  });

  test("what a listener shows is renewed while it runs", async () => {
    const [first, second] = [newIdentity(), newIdentity()];
    let asked = 0;
    // Of another key, so that it is seen which is shown.
    const credentials = async () =>
      asked++ === 0 ? { ...credentialsOf(first), expires: daysAgo(0) } : credentialsOf(second);
    const listener = await tcp.listen(at("tcp://127.0.0.1:0"), { signal: never, security: { credentials } });
    for (let i = 0; i < 2; i++) {
      const near = await raw(listener.address, second.word);
      await (await listener.accept())!.destroy();
      await near.destroy();
    }
    expect(asked).toBe(2);
    await listener.close();
  });

  test("credentials are renewed when a third of their time is left, and kept to their end where that fails", async () => {
    let now = 1000;
    let asked = 0;
    const credentials = async () => {
      if (++asked === 2 || asked === 5) throw new Error("not now");
      return { certificates: `${asked}`, privateKey: "", expires: new Date(now + 300) };
    };
    const current = await renewed(
      { credentials },
      ({ certificates }) => certificates,
      () => now,
    );
    const shown: [number, string, number][] = [
      [1199, "1", 1],
      [1200, "1", 2],
      [1201, "3", 3],
      [1201 + 199, "3", 3],
      [1201 + 200, "4", 4],
    ];
    for (const [time, certificates, times] of shown) {
      now = time;
      expect([await current(), asked]).toEqual([certificates, times]);
    }
    now += 300;
    expect((await errorOf(current())).message).toBe("not now");
    expect(await current()).toBe("6");
  });

  test("an authenticated session takes two round trips to begin, after TCP's own", async () => {
    const { client, listener, address } = await site();
    const relay = await steppingRelay(Number(address.split(":").at(-1)));
    const files = memoryTarget();
    const accepting = listener.accept().then((far) => acceptSession(far!, { ...destinationOptions, target: files }));
    const near = await client.dial(`tcp://127.0.0.1:${relay.port}`);
    const session = await openSession(near, sourceOptions);
    // Hello, its answer; the proof and HELLO, WELCOME.
    expect(relay.steps).toBe(4);
    const accepted = await accepting;
    await Promise.all([session.finish(0), accepted.run()]);
    await Promise.all([relay.close(), listener.close()]);
  });
});

/** Delivers what is under way in steps, each half a round trip: whatever has been sent since the last one, both ways. */
async function steppingRelay(to: number) {
  let steps = 0;
  const waiting: (() => void)[] = [];
  const sockets: net.Socket[] = [];
  const server = net.createServer((near) => {
    const far = net.connect(to, "127.0.0.1");
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.push(from);
      from.on("data", (bytes) => waiting.push(() => into.write(bytes)));
      from.on("end", () => waiting.push(() => into.end()));
      from.on("error", () => {});
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  let before = 0;
  const timer = setInterval(() => {
    // Not before all of a flight is there.
    if (waiting.length > 0 && waiting.length === before) {
      steps++;
      for (const deliver of waiting.splice(0)) deliver();
    }
    before = waiting.length;
  }, 100);
  return {
    port: (server.address() as net.AddressInfo).port,
    get steps() {
      return steps;
    },
    async close() {
      clearInterval(timer);
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

describe("strangers", () => {
  test("a flood of connections that never finish what they began keeps nobody out", async () => {
    const { client, server, listener, address } = await site();
    const port = Number(address.split(":").at(-1));
    const hello = Buffer.from("16030100c8010000c40303", "hex");
    const flood: net.Socket[] = [];
    let ended = 0;
    for (let i = 0; i < 150; i++) {
      const socket = net.connect(port, "127.0.0.1");
      socket.on("error", () => {}).on("close", () => ended++);
      if (i % 2) socket.write(hello);
      flood.push(socket.resume());
    }
    await Promise.all(flood.slice(0, 150).map((socket) => socket.connecting && once(socket, "connect")));
    // And some who shake hands, and then say half of who they are.
    const halves: Connection[] = [];
    for (let i = 0; i < 80; i++) {
      const half = await raw(address, server.identity.word);
      await half.write([makeProof(client.identity, server.identity.word).subarray(0, PROOF_HEAD + 10)]);
      halves.push(half);
    }
    await expectThrough(client, listener);
    expect(ended).toBeGreaterThan(80);
    for (const socket of flood) socket.destroy();
    await Promise.all([...halves.map((half) => half.destroy()), listener.close()]);
  });

  test("who takes too long, however much it dribbles, is dropped", async () => {
    const checker = new ProofChecker(
      async () => newIdentity(),
      async () => new Map(),
    );
    const [near, far] = memoryPair();
    const met = introduce(far, checker, () => undefined, 60);
    const proof = makeProof(newIdentity(), newIdentity().word);
    const dribbling = errorOf(
      (async () => {
        for (let at = 0; ; at++) {
          await near.write([proof.subarray(at % 8, (at % 8) + 1)]);
          if (at >= 7) await near.write([Buffer.alloc(0)]);
          await sleep(8);
        }
      })(),
    );
    expect(await met).toBe(undefined);
    expect(await dribbling).toHaveProperty("code", "link");
  });

  test("a peer sends no faster than it may, over all of its connections", async () => {
    const { client, listener } = await site("rate=8MB");
    const bytes = bytesOf("fast", 2 << 20);
    const begun = performance.now();
    await Promise.all(
      [0, 1].map(async () => {
        const near = await client.dial(listener.address);
        const far = (await listener.accept())!;
        const [got] = await Promise.all([readAll(far.input), near.write([bytes]).then(() => near.end())]);
        expect(same(got, bytes)).toBe(true);
        await Promise.all([near.destroy(), far.destroy()]);
      }),
    );
    const seconds = (performance.now() - begun) / 1000;
    // 4 MiB, of which 1.6 MB may come at once.
    expect(seconds).toBeGreaterThan(0.25);
  });
});
