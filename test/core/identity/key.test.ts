import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import fc from "fast-check";
import {
  formatKey,
  generateKey,
  keyPair,
  POINT_BYTES,
  parseKey,
  parsePoint,
  SIGNATURE_BYTES,
  signBytes,
  verifyBytes,
} from "../../../core/identity/key.ts";

describe("keys", () => {
  test("a public key is one word, both ways", () => {
    for (let i = 0; i < 20; i++) {
      const { word } = generateKey();
      expect(word).toMatch(/^p256:[A-Za-z0-9_-]{44}$/);
      expect(formatKey(parseKey(word))).toBe(word);
      expect(parsePoint(word).length).toBe(POINT_BYTES);
    }
  });

  test("what is no key's word is refused", () => {
    const { word } = generateKey();
    // The base point of P-256 (FIPS 186-5) is one, and so is its mirror.
    const g = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
    const of = (hex: string) => `p256:${Buffer.from(hex, "hex").toString("base64url")}`;
    expect([of(`03${g}`), of(`02${g}`)].map((text) => formatKey(parseKey(text)))).toEqual([of(`03${g}`), of(`02${g}`)]);
    const p = "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff";
    const wrong = ["", "p256:", word.slice(0, -1), `${word}A`, ` ${word}`, `${word}\n`, word.replace("p256", "P256")];
    const points = [`04${g}`, `00${g}`, `05${g}`, `02${p}`, `02${"ff".repeat(32)}`, "00".repeat(33)].map(of);
    for (const text of [...wrong, ...points, "x".repeat(1000)]) {
      const thrown = (() => {
        try {
          parseKey(text);
        } catch (error) {
          return error as Error & { code: string };
        }
      })();
      expect(thrown?.code).toBe("usage");
      expect(thrown!.message.length).toBeLessThan(250);
    }
  });

  test("any other word is another key, or none", () => {
    const { word } = generateKey();
    fc.assert(
      fc.property(fc.nat({ max: 43 }), fc.constantFrom(..."ABCXYZabcxyz0189-_"), (at, letter) => {
        const other = word.slice(0, 5 + at) + letter + word.slice(6 + at);
        try {
          expect(formatKey(parseKey(other))).toBe(other);
        } catch (error) {
          expect(error).toHaveProperty("code", "usage");
        }
      }),
    );
  });

  test("a signature is for its bytes and its key, to the bit", () => {
    const [own, other] = [generateKey(), generateKey()];
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), fc.nat(), (bytes, bit) => {
        const signature = signBytes(own, bytes);
        expect(signature.length).toBe(SIGNATURE_BYTES);
        const flip = (what: Uint8Array) => {
          const copy = Uint8Array.from(what);
          copy[(bit >> 3) % copy.length]! ^= 1 << (bit & 7);
          return copy;
        };
        const ways = [
          verifyBytes(own.word, bytes, signature),
          verifyBytes(other.word, bytes, signature),
          verifyBytes(own.word, flip(bytes), signature),
          verifyBytes(own.word, bytes, flip(signature)),
          verifyBytes(own.word, bytes, signature.subarray(1)),
          verifyBytes("p256:nonsense", bytes, signature),
        ];
        expect(ways).toEqual([true, false, false, false, false, false]);
      }),
      { numRuns: 40 },
    );
  });

  test("keys on other curves are no identities", () => {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
    expect(() => keyPair(privateKey)).toThrow(/P-256/);
    expect(() => keyPair(generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey)).toThrow(/P-256/);
  });
});
