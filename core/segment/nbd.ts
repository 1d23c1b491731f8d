import { PAGE_SIZE } from "../content/page.ts";
import { isZeroPage } from "../content/zero.ts";
import { MAX_FIELD, type Payload, parseConversation } from "./nbd/conversation.ts";
import type { Segmenter, SegmentFormat, SegmentSink } from "./segmenter.ts";

/**
 * What the client of an NBD connection sends, such as QEMU's `blockdev-mirror`: pages of the disk that are written are
 * chunks under their number, everything else literals. It begins with four bytes of flags, so it can't be told by its
 * beginning: it has to be named.
 */
export const nbdFormat: SegmentFormat = { name: "nbd", keyed: true, create: createNbdSegmenter };

function createNbdSegmenter(): Segmenter {
  const field = Buffer.alloc(MAX_FIELD);
  const payload: Payload = { pass: 0, pages: 0, page: 0, tail: 0 };
  const conversation = parseConversation(field, payload);
  /** Bytes of the field that is asked for, and how many of them came. They are emitted already. */
  let needed = 0;
  let have = 0;
  /** The beginning of a page that the pieces so far did not finish: its first `held` bytes. */
  const page = new Uint8Array(PAGE_SIZE);
  let held = 0;

  function proceed(): void {
    have = 0;
    const next = conversation.next();
    if (next.done) Object.assign(payload, { pass: Number.POSITIVE_INFINITY, pages: 0, tail: 0 });
    else needed = next.value;
  }
  proceed();

  function advance(pages: number): void {
    payload.page += pages;
    payload.pages -= pages;
    if (payload.pages > 0) return;
    payload.pass += payload.tail;
    payload.tail = 0;
  }

  /** Takes pages, or a part of one; returns where in the piece they end. */
  function takePages(bytes: Uint8Array, start: number, end: number, sink: SegmentSink): number {
    if (held > 0) return finishPage(bytes, start, Math.min(start + PAGE_SIZE - held, end), sink);
    const whole = Math.min(payload.pages, Math.floor((end - start) / PAGE_SIZE));
    // A page that pieces divide is copied; the others are emitted where they lie, and zeros of adjacent ones together.
    if (whole === 0) return finishPage(bytes, start, end, sink);
    const stop = start + whole * PAGE_SIZE;
    let number = payload.page;
    let zeros = 0;
    for (let at = start; at < stop; at += PAGE_SIZE, number++) {
      if (isZeroPage(bytes, at)) {
        zeros += PAGE_SIZE;
        continue;
      }
      if (zeros > 0) sink.zero(zeros);
      zeros = 0;
      sink.chunk(bytes, at, number);
    }
    if (zeros > 0) sink.zero(zeros);
    advance(whole);
    return stop;
  }

  function finishPage(bytes: Uint8Array, start: number, stop: number, sink: SegmentSink): number {
    page.set(bytes.subarray(start, stop), held);
    held += stop - start;
    if (held < PAGE_SIZE) return stop;
    held = 0;
    if (isZeroPage(page, 0)) sink.zero(PAGE_SIZE);
    else sink.chunk(page, 0, payload.page);
    advance(1);
    return stop;
  }

  return {
    push(bytes, start, end, sink) {
      let at = start;
      let emitted = start;
      while (at < end) {
        if (payload.pass > 0) {
          const passed = Math.min(payload.pass, end - at);
          payload.pass -= passed;
          at += passed;
        } else if (payload.pages > 0) {
          if (emitted < at) sink.literal(bytes, emitted, at);
          at = emitted = takePages(bytes, at, end, sink);
        } else {
          const taken = Math.min(needed - have, end - at);
          field.set(bytes.subarray(at, at + taken), have);
          have += taken;
          at += taken;
          if (have === needed) proceed();
        }
      }
      if (emitted < end) sink.literal(bytes, emitted, end);
    },

    flush(sink) {
      if (held === 0) return;
      sink.literal(page, 0, held);
      // What is left of the page passes as a literal, too.
      payload.pass = PAGE_SIZE - held;
      held = 0;
      advance(1);
    },
  };
}
