import { expect, test } from "bun:test";
import { ProtocolError } from "../../../core/errors.ts";
import { decodeControl, encodeControl, Hello } from "../../../core/wire/control.ts";
import { signer } from "../../support/signer.ts";

test("a signed recording names 64 recipients, and no more", () => {
  const { key } = signer();
  const read = (count: number) => {
    const signed = { key, recipients: Array.from({ length: count }, () => Buffer.alloc(32, 1)) };
    const hello = { session: Buffer.alloc(16), domain: "test", window: 20, log: 1, software: "", signed };
    return decodeControl(Hello, encodeControl(Hello, hello)).signed?.recipients;
  };
  expect(read(64)).toHaveLength(64);
  expect(() => read(65)).toThrow(ProtocolError);
});
