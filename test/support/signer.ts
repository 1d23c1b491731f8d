/** Keys that sign recordings in tests. */
import type { RecordingSigner } from "../../core/engine/signature.ts";
import { generateKey, signBytes } from "../../core/identity/key.ts";

/** Signs with a key that is made for it. */
export function signer(recipients: readonly Uint8Array[] = []): RecordingSigner {
  const pair = generateKey();
  return {
    key: pair.word,
    recipients: [...recipients],
    sign: (message) => signBytes(pair, message),
  };
}
