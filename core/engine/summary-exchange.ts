import { decodeControl, decodeSummaryPiece, encodeControl, encodeSummaryPiece, Summarize } from "../wire/control.ts";
import { FRAME, SUMMARY_PIECE } from "../wire/numbers.ts";
import type { Link } from "./link.ts";
import type { Receiver } from "./receiver.ts";
import { ended, unexpected } from "./told.ts";

/** Has the destination summarise what it holds. */
export async function pullSummary(link: Link, bits: 8 | 16): Promise<Uint8Array> {
  await link.control(FRAME.SUMMARIZE, encodeControl(Summarize, { bits }));
  let summary: Buffer | undefined;
  for (let due = 0; !summary || due < summary.length; ) {
    const frame = await link.next();
    if (!frame) throw ended(link);
    if (frame.type !== FRAME.SUMMARY) throw unexpected(frame);
    const { total, bytes } = decodeSummaryPiece(frame.payload, due);
    // In one piece: a peer may send it byte by byte.
    summary ??= Buffer.alloc(total);
    if (total !== summary.length) throw unexpected(frame);
    summary.set(bytes, due);
    due += bytes.length;
  }
  return summary;
}

/** Sends the summary that the source asks for: once, before its streams. */
export async function sendSummary(link: Link, receiver: Receiver, payload: Buffer): Promise<void> {
  const { bits } = decodeControl(Summarize, payload);
  const summary = await receiver.summarize(bits as 8 | 16);
  for (let at = 0; at < summary.length; at += SUMMARY_PIECE) {
    const piece = summary.subarray(at, at + SUMMARY_PIECE);
    await link.control(FRAME.SUMMARY, encodeSummaryPiece(summary.length, at, piece));
  }
}
