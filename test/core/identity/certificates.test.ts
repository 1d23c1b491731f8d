import { afterAll, describe, expect, test } from "bun:test";
import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import type net from "node:net";
import tls from "node:tls";
import { certifySuccessor, issueLeaf, MAX_SUCCESSIONS, synthesizeAnchor } from "../../../core/identity/certificates.ts";
import { generateKey, type KeyPair } from "../../../core/identity/key.ts";
import { type Credentials, SERVER_NAME } from "../../../core/transport/security.ts";

const DAY_MS = 86_400_000;
const day = (days: number) => new Date(Date.now() + days * DAY_MS);

/** Whether the runtime's TLS takes these credentials for those of a key, or why not. */
async function outcome({ certificates, privateKey }: Credentials, pinned: string, servername = SERVER_NAME) {
  const server = tls.createServer({ cert: certificates, key: privateKey, minVersion: "TLSv1.3" }, (socket) => {
    socket.on("error", () => {});
    socket.end();
  });
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  servers.push(server);
  const { port } = server.address() as net.AddressInfo;
  return new Promise<string>((resolve) => {
    const ca = synthesizeAnchor(pinned);
    const socket = tls.connect({ host: "127.0.0.1", port, servername, ca, minVersion: "TLSv1.3" }, () => {
      resolve(socket.authorized ? "trusted" : "not authorized");
      socket.destroy();
    });
    socket.on("error", (error: Error & { code?: string }) => resolve(error.code ?? error.message));
  });
}
const servers: tls.Server[] = [];
afterAll(() => servers.forEach((server) => void server.close()));

describe("certificates, by the runtime's TLS", () => {
  const [old, middle, young, stranger] = [generateKey(), generateKey(), generateKey(), generateKey()];
  const chain = [certifySuccessor(middle, young.word), certifySuccessor(old, middle.word)];

  test("a leaf is trusted by who pins the key that issued it, and by nobody else", async () => {
    const leaf = issueLeaf(old);
    expect(await outcome(leaf, old.word)).toBe("trusted");
    expect(await outcome(leaf, stranger.word)).not.toBe("trusted");
    expect(await outcome(leaf, old.word, "elsewhere.invalid")).not.toBe("trusted");
    const left = (leaf.expires.getTime() - Date.now()) / DAY_MS;
    expect(Math.round(left)).toBe(7);
  });

  test("after rotations the keys of before lead to it", async () => {
    for (const { word } of [young, middle, old]) expect(await outcome(issueLeaf(young, chain), word)).toBe("trusted");
    expect(await outcome(issueLeaf(young, chain), stranger.word)).not.toBe("trusted");
    expect(await outcome(issueLeaf(young, chain.slice(0, 1)), old.word)).not.toBe("trusted");
    const keys: KeyPair[] = Array.from({ length: MAX_SUCCESSIONS + 1 }, generateKey);
    const long = keys.slice(1).map((key, i) => certifySuccessor(keys[i]!, key.word));
    expect(await outcome(issueLeaf(keys.at(-1)!, long.reverse()), keys[0]!.word)).toBe("trusted");
  });

  test("what has expired, or not begun, is not trusted", async () => {
    expect(await outcome(issueLeaf(old, [], day(-8)), old.word)).not.toBe("trusted");
    expect(await outcome(issueLeaf(old, [], day(2)), old.word)).not.toBe("trusted");
    const stale = [certifySuccessor(old, young.word, day(-91))];
    expect(await outcome(issueLeaf(young, stale), old.word)).not.toBe("trusted");
    expect(await outcome(issueLeaf(young, stale), young.word)).toBe("trusted");
  });

  test("a name is no key: who calls itself by another's word is not trusted", async () => {
    const impostor = { ...stranger, word: old.word };
    expect(await outcome(issueLeaf(impostor), old.word)).not.toBe("trusted");
    expect(await outcome(issueLeaf(young, [certifySuccessor(impostor, young.word)]), old.word)).not.toBe("trusted");
  });

  test("a leaf's key is no authority", async () => {
    const leaf = issueLeaf(old);
    const usurper = { word: SERVER_NAME, privateKey: createPrivateKey(leaf.privateKey) };
    const below = issueLeaf(usurper);
    expect(await outcome({ ...below, certificates: below.certificates + leaf.certificates }, old.word)).not.toBe(
      "trusted",
    );
  });
});
