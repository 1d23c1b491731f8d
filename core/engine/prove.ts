import type { Connection } from "../transport/transport.ts";
import { decodeControl, Hello, type Signed } from "../wire/control.ts";
import type { Frame } from "../wire/frame.ts";
import { FRAME } from "../wire/numbers.ts";
import { Link } from "./link.ts";
import { checkSignature } from "./signature.ts";
import { ended, unexpected } from "./told.ts";

/**
 * Reads a recording to its end, without decoding it, and checks its signature, if it says that it has one: for who can't take
 * back what it gives out. Throws an `IntegrityError` where the signature or a frame is not right, and what `check` throws.
 * @param check told at once who says to have signed it
 */
export async function proveRecording(
  connection: Connection,
  check: (signed: Signed | undefined) => void,
): Promise<void> {
  const link = new Link(connection);
  try {
    const first = await link.opened(() => link.next());
    if (!first) throw ended(link);
    if (first.type !== FRAME.HELLO) throw unexpected(first);
    const { signed } = decodeControl(Hello, first.payload);
    check(signed);
    let frame: Frame | undefined = first;
    while (frame && frame.type !== FRAME.DONE) frame = await link.next();
    if (!frame) throw ended(link);
    if (signed) await checkSignature(link, signed);
  } finally {
    await link.close();
  }
}
