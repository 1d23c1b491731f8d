import type { StreamTarget } from "../machines/machine.ts";
import { RETURN_STREAMS } from "../wire/numbers.ts";
import { fixedCodec } from "./codec-policy.ts";
import type { Agreement } from "./handshake.ts";
import type { Link } from "./link.ts";
import { Receiver, type ReceiverOptions } from "./receiver.ts";
import { Sender, type SenderOptions } from "./sender.ts";
import { EMPTY_SITE } from "./site.ts";

/** The source's receiver of what the destination opens, where both can do that. */
export function returning(
  link: Link,
  options: Pick<ReceiverOptions, "spoolDir"> & { readonly target?: StreamTarget | undefined },
  { returns }: Agreement,
): Receiver | undefined {
  if (!returns || !options.target) return undefined;
  return new Receiver(link, {
    windowLog: returns.window,
    logLimit: returns.log,
    spoolDir: options.spoolDir,
    target: options.target,
    allOrNothing: false,
    site: EMPTY_SITE,
    keepers: [],
    index: undefined,
    signed: false,
    firstStream: RETURN_STREAMS,
    connections: true,
  });
}

/** The destination's sender of what it opens itself, where both can do that. */
export function replying(
  link: Link,
  options: Pick<SenderOptions, "spoolDir">,
  { returns }: Agreement,
): Sender | undefined {
  if (!returns) return undefined;
  return new Sender(link, {
    windowLog: returns.window,
    logLimit: returns.log,
    spoolDir: options.spoolDir,
    codec: fixedCodec("zstd"),
    firstStream: RETURN_STREAMS,
  });
}
