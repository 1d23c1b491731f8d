/**
 * What an NBD client sends: fixed newstyle negotiation, then requests with simple or extended headers. Integers are
 * big-endian. Source: "The NBD protocol", doc/proto.md of the Network Block Device project (NetworkBlockDevice/nbd).
 */
import { PAGE_SIZE } from "../../content/page.ts";

/** Of the client's flags, with which it begins: fixed newstyle, and no zeros after the export's size. */
const CLIENT_FLAGS = 0b11;
/** The halves of "IHAVEOPT". */
const OPTION_MAGIC = [0x49484156, 0x454f5054] as const;
const REQUEST_MAGIC = 0x25609513;
const EXTENDED_MAGIC = 0x21e41c71;

const WRITE = 1;
/** READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS: of a simple request with a later number it isn't known whether data follows. */
const LAST_COMMAND = 7;
/** Of an extended request: its length is that of data that follows. */
const PAYLOAD_LENGTH = 1 << 5;

/** More than any server takes in one message: QEMU's bound is 32 MiB. */
const MAX_PAYLOAD = 64 * 2 ** 20;

/** The longest field that is asked for: an extended request without its magic. */
export const MAX_FIELD = 28;

/** What follows a header, in this order. All of them are zero, or used up, while a header is read. */
export interface Payload {
  /** Bytes that are no whole page. */
  pass: number;
  /** Whole pages of the disk, and the number of the first. */
  pages: number;
  page: number;
  /** Bytes after the last page. */
  tail: number;
}

/**
 * Yields how many bytes of a header it needs next, which are then in `field`, and sets the payload that precedes the
 * next header. Returns where everything that comes can only be passed through: it is TLS, or unknown.
 */
export function* parseConversation(field: Buffer, payload: Payload): Generator<number, void, void> {
  yield 4;
  if ((field.readUInt32BE(0) & ~CLIENT_FLAGS) !== 0) return;
  for (let negotiating = true; ; ) {
    yield 4;
    const magic = field.readUInt32BE(0);
    if (magic === OPTION_MAGIC[0] && negotiating) {
      yield 12;
      payload.pass = field.readUInt32BE(8);
      if (field.readUInt32BE(0) !== OPTION_MAGIC[1] || payload.pass > MAX_PAYLOAD) return;
    } else if (magic === REQUEST_MAGIC || magic === EXTENDED_MAGIC) {
      negotiating = false;
      const extended = magic === EXTENDED_MAGIC;
      yield extended ? 28 : 24;
      if (!takeRequest(field, extended, payload)) return;
    } else return;
  }
}

/** Takes a request without its magic: flags, command, cookie, offset, length. False where it isn't known what follows. */
function takeRequest(field: Buffer, extended: boolean, payload: Payload): boolean {
  const command = field.readUInt16BE(2);
  const stated = extended && (field.readUInt16BE(0) & PAYLOAD_LENGTH) !== 0;
  if (command !== WRITE && !stated) return extended || command <= LAST_COMMAND;
  const length = extended ? field.readUInt32BE(20) * 2 ** 32 + field.readUInt32BE(24) : field.readUInt32BE(20);
  if (length > MAX_PAYLOAD) return false;
  if (command === WRITE) layOut(field, length, payload);
  else payload.pass = length;
  return true;
}

/** The payload of a write. Page numbers are exact: an offset is a be64 and read as two words. */
function layOut(field: Buffer, length: number, payload: Payload): void {
  const low = field.readUInt32BE(16);
  const within = low % PAGE_SIZE;
  const first = field.readUInt32BE(12) * 2 ** 20 + (low - within) / PAGE_SIZE;
  payload.pass = within === 0 ? 0 : Math.min(PAGE_SIZE - within, length);
  payload.page = within === 0 ? first : first + 1;
  const rest = length - payload.pass;
  payload.tail = rest % PAGE_SIZE;
  payload.pages = (rest - payload.tail) / PAGE_SIZE;
  if (payload.pages > 0) return;
  payload.pass += payload.tail;
  payload.tail = 0;
}
