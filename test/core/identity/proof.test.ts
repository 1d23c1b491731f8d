import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type AuthorizedPeer, parseAuthorizedPeers } from "../../../core/identity/authorized-peers.ts";
import { MAX_SUCCESSIONS } from "../../../core/identity/certificates.ts";
import { type Identity, newIdentity, rotate } from "../../../core/identity/identity.ts";
import { SeenProofs } from "../../../core/identity/nonces.ts";
import { CLOCK_MS, MAX_PROOF, makeProof, PROOF_HEAD, proofLength, readProof } from "../../../core/identity/proof.ts";
import { ProofChecker } from "../../../core/identity/proof-checker.ts";
import { readSuccession } from "../../../core/identity/succession.ts";
import { errorOf } from "../../transports/helpers.ts";

const DAY_MS = 86_400_000;
const [client, server, mallory] = [newIdentity(), newIdentity(), newIdentity()];

function rotated(identity: Identity, times: number, now?: Date): Identity {
  let young = identity;
  for (let i = 0; i < times; i++) young = rotate(young, now);
  return young;
}

const peersOf = (lines: string) => async (): Promise<ReadonlyMap<string, AuthorizedPeer>> =>
  parseAuthorizedPeers(lines, "test");
const checker = (lines = `${client.word} name=site-a rate=1MB`, own: Identity = server, notes: string[] = []) =>
  new ProofChecker(
    async () => own,
    peersOf(lines),
    (line) => notes.push(line),
  );

/** A proof of version 1 with one succession, made on 2026-07-01: what every later release has to take. */
const VERSION_1 = Buffer.from(
  [
    "U0hLUAEATQIDPsFgihddi1azfFegDzVRO3YavPaxnpa5HwuwNaCzGGMCKxsksDD7BqBJpDzlmWQ8T8rVndH1GApjigbJF8jkbqYvnWjcc8Kb",
    "s21QMmvHgqJ8r9dBLeErBJQfaU3iKD4QRgC0+RqfAQAAAaABMIIBnDCCAUKgAwIBAgIQVcnypkRqKbj8UFknM5pShDAKBggqhkjOPQQDAjA8",
    "MTowOAYDVQQDDDFwMjU2OkFxb2ROb3NhQzcyTGVLNkVReEZHb0ZtY1p3TjRtYW9zU2N1YXZHZkFBMHkwMB4XDTI2MDYzMDAwMDAwMFoXDTI2",
    "MDkyOTAwMDAwMFowPDE6MDgGA1UEAwwxcDI1NjpBejdCWUlvWFhZdFdzM3hYb0E4MVVUdDJHcnoyc1o2V3VSOExzRFdnc3hoajBZMBMGByqG",
    "SM49AgEGCCqGSM49AwEHA0IABD7BYIoXXYtWs3xXoA81UTt2Grz2sZ6WuR8LsDWgsxhjNGOykObIjfyXDWcFDzWmgjtNnMPGPAWcb/xJJi+H",
    "JFmjJjAkMBIGA1UdEwEB/wQIMAYBAf8CAQYwDgYDVR0PAQH/BAQDAgIEMAoGCCqGSM49BAMCA0gAMEUCIBamSReCxJI6Vw6CWKz36rUHL2Oy",
    "xYRc2PUBYM5wyIrrAiEA7ZIPHEnJBwjuD5sBCUSnWuo72mH6oio6nFIPFEJ/303E8DjomopyMh2odFtiVy+CDZPv/xPNtWOX6K3MYIAx4JrV",
    "9BQuXEeuj6Reg3iE//EzA35fmoqavM/E4OXDT2pz",
  ].join(""),
  "base64",
);

describe("a proof of identity", () => {
  test("says what was proved, with its successions", () => {
    const young = rotated(client, MAX_SUCCESSIONS + 2);
    expect(young.successions.length).toBe(MAX_SUCCESSIONS);
    const bytes = makeProof(young, server.word, 1_800_000_000_000);
    expect(bytes.length).toBeLessThan(MAX_PROOF);
    expect(proofLength(bytes)).toBe(bytes.length - PROOF_HEAD);
    const proof = readProof(bytes);
    const before = young.successions.map(({ from }) => from);
    expect([proof.key, proof.server, proof.time, proof.before]).toEqual([
      young.word,
      server.word,
      1_800_000_000_000,
      before,
    ]);
    expect(Buffer.compare(proof.nonce, readProof(makeProof(young, server.word)).nonce)).not.toBe(0);
  });

  test("has 4096 bytes at most, by its head", () => {
    const head = makeProof(client, server.word).subarray(0, PROOF_HEAD);
    const forged = (length: number) => {
      const forged = Buffer.from(head);
      forged.writeUInt16LE(length - PROOF_HEAD, 6);
      return forged;
    };
    expect([MAX_PROOF, PROOF_HEAD + proofLength(forged(4096))]).toEqual([4096, 4096]);
    expect(() => readSuccession(Buffer.alloc(1025))).toThrow("too long");
    expect(() => readSuccession(Buffer.alloc(1024))).not.toThrow("too long");
    expect(() => proofLength(forged(4097))).toThrow("has 4089 bytes");
  });

  test("of version 1 stays what it is", () => {
    const { key, server, before, time } = readProof(VERSION_1, Date.UTC(2026, 7, 1));
    expect({ key, server, before, time }).toEqual({
      key: "p256:Az7BYIoXXYtWs3xXoA81UTt2Grz2sZ6WuR8LsDWgsxhj",
      server: "p256:AisbJLAw-wagSaQ85ZlkPE_K1Z3R9RgKY4oGyRfI5G6m",
      before: ["p256:AqodNosaC72LeK6EQxFGoFmcZwN4maosScuavGfAA0y0"],
      time: Date.UTC(2026, 6, 1),
    });
  });

  test("any flipped bit is refused, and any cut", () => {
    const bytes = makeProof(rotated(client, 1), server.word);
    fc.assert(
      fc.property(fc.nat({ max: bytes.length * 8 - 1 }), (bit) => {
        const other = Buffer.from(bytes);
        other[bit >> 3]! ^= 1 << (bit & 7);
        expect(() => readProof(other)).toThrow();
      }),
      { numRuns: 300 },
    );
    fc.assert(
      fc.property(fc.nat({ max: bytes.length - 1 }), (length) => {
        expect(() => readProof(bytes.subarray(0, length))).toThrow();
      }),
    );
  });

  test("no bytes make it do anything but throw one of our errors", () => {
    const head = makeProof(client, server.word).subarray(0, PROOF_HEAD);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), fc.boolean(), (bytes, headed) => {
        try {
          readProof(headed ? Buffer.concat([head, bytes]) : Buffer.from(bytes));
          throw new Error("accepted");
        } catch (error) {
          expect(["integrity", "refused"]).toContain((error as { code?: string }).code!);
        }
      }),
    );
  });

  test("another version is told what is wrong", () => {
    for (const version of [0, 2]) {
      const bytes = makeProof(client, server.word);
      bytes.writeUInt16LE(version, 4);
      expect(() => readProof(bytes)).toThrow(/of version 1, not .: use the same release/);
    }
    expect(() => proofLength(Buffer.from("SHRINKER"))).toThrow(/--insecure/);
  });
});

describe("a listener", () => {
  test("takes who is authorized, once for each proof", async () => {
    const own = checker();
    const proof = makeProof(client, server.word);
    const { key, name, permissions } = await own.check(proof);
    expect([key, name, permissions.rate]).toEqual([client.word, "site-a", 1e6]);
    expect((await errorOf(own.check(proof))).message).toMatch(/used before/);
    await own.check(makeProof(client, server.word));
  });

  test("says to a stranger nothing but that", async () => {
    for (const now of [Date.now(), Date.now() - 2 * CLOCK_MS]) {
      const error = await errorOf(checker().check(makeProof(mallory, server.word, now)));
      expect([error.code, error.message]).toEqual(["refused", `The key ${mallory.word} is not authorized here`]);
    }
  });

  test("refuses a proof that was given to another listener: a relayed one", async () => {
    const error = await errorOf(checker().check(makeProof(client, mallory.word)));
    expect(error.message).toContain(`is for ${mallory.word}, which is not this receiver`);
  });

  test("refuses clocks that are too far apart, either way", async () => {
    const now = Date.now();
    const at = (offset: number) => checker().check(makeProof(client, server.word, now + offset), now);
    await at(CLOCK_MS);
    await at(-CLOCK_MS);
    expect((await errorOf(at(CLOCK_MS + 1000))).message).toMatch(/10 minutes ahead of/);
    expect((await errorOf(at(-3 * CLOCK_MS))).message).toMatch(/30 minutes behind/);
  });

  test("refuses an authorization that has expired", async () => {
    const yesterday = new Date(Date.now() - DAY_MS).toISOString().slice(0, 10);
    const error = await errorOf(
      checker(`${client.word} name=a expires=${yesterday}`).check(makeProof(client, server.word)),
    );
    expect(error.message).toMatch(/"a" here has expired/);
  });

  test("takes the successor of who is authorized, and says so, until the old key's word expires", async () => {
    const notes: string[] = [];
    const young = rotated(client, 2);
    expect((await checker(undefined, server, notes).check(makeProof(young, server.word))).key).toBe(young.word);
    expect(notes.join()).toContain(`authorize ${young.word}`);
    const stale = rotated(client, 1, new Date(Date.now() - 91 * DAY_MS));
    expect((await errorOf(checker().check(makeProof(stale, server.word)))).message).toMatch(/not authorized/);
    // What has expired, it no longer sends; whoever sends it all the same is refused.
    const then = Date.now() - 2 * DAY_MS;
    const late = makeProof(rotated(client, 1, new Date(then - 89 * DAY_MS)), server.word, then);
    expect(readProof(late, then).before).toEqual([client.word]);
    expect(readProof(late).before).toEqual([]);
  });

  test("takes proofs that are meant for a key that it has succeeded, and for no other", async () => {
    const young = rotated(server, 1);
    await checker(undefined, young).check(makeProof(client, server.word));
    await checker(undefined, young).check(makeProof(client, young.word));
    expect(await errorOf(checker(undefined, server).check(makeProof(client, young.word)))).toHaveProperty(
      "code",
      "refused",
    );
  });

  test("lets nobody in where it can't read who may", async () => {
    const notes: string[] = [];
    const own = new ProofChecker(
      async () => server,
      peersOf(`${client.word} nam=a`),
      (line) => notes.push(line),
    );
    const error = await errorOf(own.check(makeProof(client, server.word)));
    expect([error.code, error.message]).toEqual(["link", expect.stringContaining("can't tell now who may come")]);
    expect(notes.join()).toMatch(/"test", line 1/);
  });

  test("remembers 65536 proofs, of one peer 16384", () => {
    const seen = new SeenProofs();
    const nonce = Buffer.alloc(32);
    let n = 0;
    const admit = (peer: string) => {
      nonce.writeUInt32LE(n++);
      seen.admit({ nonce, time: 1e9 }, peer, 1e9);
    };
    for (const peer of ["a", "b", "c", "d"]) {
      for (let i = 0; i < 16_384; i++) admit(peer);
      expect(() => admit(peer)).toThrow(/too many/);
    }
    expect(() => admit("e")).toThrow(/too many/);
    expect(CLOCK_MS).toBe(600_000);
  });

  test("remembers proofs within bounds, and for as long as they are good", () => {
    const seen = new SeenProofs({ all: 5, ofPeer: 3 });
    const proof = (n: number, time: number) => ({ nonce: Buffer.alloc(32, n), time });
    for (let n = 0; n < 3; n++) seen.admit(proof(n, 1e9), "a", 1e9);
    expect(() => seen.admit(proof(3, 1e9), "a", 1e9)).toThrow(/too many/);
    for (let n = 3; n < 5; n++) seen.admit(proof(n, 1e9), "b", 1e9);
    expect(() => seen.admit(proof(5, 1e9), "b", 1e9)).toThrow(/too many/);
    expect(() => seen.admit(proof(0, 1e9), "b", 1e9 + CLOCK_MS)).toThrow(/used before/);
    expect(() => seen.admit(proof(0, 1e9), "a", 1e9 + CLOCK_MS + 1)).toThrow(/clock/);
    for (let n = 6; n < 9; n++) seen.admit(proof(n, 1e9 + CLOCK_MS + 1), "a", 1e9 + CLOCK_MS + 1);
  });
});
