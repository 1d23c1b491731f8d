import { ProtocolError, ShrinkerError } from "../../errors.ts";
import type { Channel } from "./channel.ts";
import {
  ALLOCATION,
  CAN_SEND_WHOLE,
  encodeContext,
  encodeGo,
  encodeOption,
  FIXED_NEWSTYLE,
  GREETING_MAGIC,
  INFO_EXPORT,
  NO_ZEROES,
  OPTION,
  OPTION_ERROR,
  OPTION_MAGIC,
  OPTION_REPLY,
  OPTION_REPLY_HEADER,
  OPTION_REPLY_MAGIC,
} from "./protocol.ts";

/** A reply to an option. QEMU's are shorter than 100 bytes; the protocol lets texts have 4096. */
const MAX_REPLY = 8192;
/** Replies to one option. */
const MAX_REPLIES = 64;
/** What is shown of an error's text. */
const MAX_SHOWN = 200;
/** The export without a name: the only one that qemu-nbd has. */
const NAME = "";

/** What a server exports. */
export interface Export {
  /** Bytes. */
  readonly size: number;
  /** The number of the context that tells holes; undefined where the server has none. */
  readonly context: number | undefined;
}

/**
 * Agrees with a server on structured replies, the context of holes and the export. Rejects with a `ProtocolError` for what
 * no server should say, and `input` for one that can't do what is needed.
 */
export async function negotiate(channel: Channel): Promise<Export> {
  const greeting = await channel.take(18);
  if (greeting.readBigUInt64BE(0) !== GREETING_MAGIC) throw new ProtocolError("it does not begin as an NBD server");
  const flags = greeting.readUInt16BE(16);
  if (greeting.readBigUInt64BE(8) !== OPTION_MAGIC || !(flags & FIXED_NEWSTYLE)) throw lacking("newstyle negotiation");
  const answer = Buffer.alloc(4);
  answer.writeUInt32BE(FIXED_NEWSTYLE | (flags & NO_ZEROES));
  channel.write(answer);

  if (await ask(channel, OPTION.STRUCTURED_REPLY)) throw lacking("structured replies");

  let context: number | undefined;
  const refused = await ask(channel, OPTION.SET_META_CONTEXT, encodeContext(NAME, ALLOCATION), (type, data) => {
    if (type !== OPTION_REPLY.META_CONTEXT) return;
    if (data.toString("latin1", 4) !== ALLOCATION)
      throw new ProtocolError("it offers a context that was not asked for");
    context = data.readUInt32BE(0);
  });

  let size: bigint | undefined;
  let abilities = 0;
  const error = await ask(channel, OPTION.GO, encodeGo(NAME), (type, data) => {
    if (type !== OPTION_REPLY.INFO || data.length < 2 || data.readUInt16BE(0) !== INFO_EXPORT) return;
    if (data.length !== 12) throw new ProtocolError("it describes the disk in a wrong length");
    size = data.readBigUInt64BE(2);
    abilities = data.readUInt16BE(10);
  });
  if (error) throw new ShrinkerError("input", `its NBD server refuses it: ${error.text.slice(0, MAX_SHOWN)}`);
  if (size === undefined) throw new ProtocolError("it does not tell the disk's size");
  if (size > Number.MAX_SAFE_INTEGER) throw new ProtocolError(`a disk of ${size} bytes can't be`);
  if (!(abilities & CAN_SEND_WHOLE)) throw lacking("replies of one chunk");
  return { size: Number(size), context: refused ? undefined : context };
}

function lacking(what: string): ShrinkerError {
  return new ShrinkerError("input", `its NBD server lacks ${what}; install QEMU 2.12 or later`);
}

/** Sends an option and takes the replies up to the last; returns the error's text where that is one. */
async function ask(
  channel: Channel,
  option: number,
  data?: Buffer,
  take: (type: number, data: Buffer) => void = () => {},
): Promise<{ readonly text: string } | undefined> {
  channel.write(encodeOption(option, data));
  for (let i = 0; i < MAX_REPLIES; i++) {
    const header = await channel.take(OPTION_REPLY_HEADER);
    if (header.readBigUInt64BE(0) !== OPTION_REPLY_MAGIC || header.readUInt32BE(8) !== option)
      throw new ProtocolError("it answers an option that was not sent");
    const type = header.readUInt32BE(12);
    const length = header.readUInt32BE(16);
    if (length > MAX_REPLY) throw new ProtocolError(`it answers an option with ${length} bytes`);
    const reply = await channel.take(length);
    if (type === OPTION_REPLY.ACK) return undefined;
    if (type >= OPTION_ERROR) return { text: reply.toString("utf8") || `error ${type - OPTION_ERROR}` };
    take(type, reply);
  }
  throw new ProtocolError(`it answers an option more than ${MAX_REPLIES} times`);
}
