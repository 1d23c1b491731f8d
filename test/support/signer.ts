/** Keys that sign recordings in tests. */
import { generateKeyPairSync } from "node:crypto";
import type { RecordingSigner } from "../../core/engine/signature.ts";
import { publicKeyWord, signMessage } from "../../core/identity/p256.ts";

/** Signs with a key that is made for it. */
export function signer(recipients: readonly Uint8Array[] = []): RecordingSigner {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return {
    key: publicKeyWord(publicKey),
    recipients: [...recipients],
    sign: (message) => signMessage(privateKey, message),
  };
}
