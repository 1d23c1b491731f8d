import { PAGE_SIZE } from "../../content/page.ts";
import { ProtocolError } from "../../errors.ts";
import { pageNumber } from "../../segment/qemu/blocks.ts";
import * as F from "../../segment/qemu/format.ts";
import type { GuestBlock, GuestMemory } from "./memory.ts";
import { decodeState, type GuestState, MAX_STATE, STATE_VERSION } from "./state.ts";
import { type Grammar, StreamInput } from "./stream-input.ts";
import { COMMAND_OPEN_RETURN_PATH, COMMAND_PING, STATE_NAME } from "./stream-writer.ts";

/** Told what the stream holds, as it comes. */
export interface ReaderHost {
  readonly memory: GuestMemory;
  /** The machine's type that the stream must be of. */
  readonly machine: string;
  openReturnPath(): void;
  ping(value: Uint8Array): void;
  /** Pages begin to come from the lowest on, for the first time, the second, ... */
  round(round: number): void;
  /** The last pages begin to come: the source's guest has stopped. */
  switchover(): void;
  /** The section of the device begins. */
  device(): void;
}

const MAX_FIELD = 4096;
/** The longest description of devices that is passed over. */
const MAX_DESCRIPTION = 16 << 20;

/** Reads a migration stream of a fake VM into its memory. */
export class StreamReader {
  readonly #host: ReaderHost;
  readonly #input = new StreamInput();
  readonly #grammar: Grammar<GuestState>;
  #needed = 0;
  /** The guest's state, once all of the stream is there. */
  state: GuestState | undefined;
  #section: number | undefined;
  #block: GuestBlock | undefined;
  #lastPage = Number.POSITIVE_INFINITY;
  #round = 0;

  constructor(host: ReaderHost) {
    this.#host = host;
    this.#grammar = this.#stream();
    this.#proceed();
  }

  /** Takes the next bytes. Throws a `ProtocolError` for what this VM can't load, in QEMU's words where it has some. */
  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length && !this.state; ) {
      at += this.#input.fill(bytes, at);
      if (this.#input.available >= this.#needed) this.#proceed();
    }
  }

  #proceed(): void {
    const next = this.#grammar.next();
    if (next.done) this.state = next.value;
    else this.#needed = next.value;
  }

  *#stream(): Grammar<GuestState> {
    const input = this.#input;
    if ((yield* input.be32()) !== F.MAGIC) throw new ProtocolError("Not a migration stream");
    const version = yield* input.be32();
    if (version !== F.VERSION) throw new ProtocolError(`Unsupported migration stream version ${version}`);
    let state: GuestState | undefined;
    for (;;) {
      const type = yield* input.byte();
      if (type === F.CONFIGURATION) yield* this.#configuration();
      else if (type === F.COMMAND) yield* this.#command();
      else if (type === F.SECTION_START) yield* this.#announce();
      else if (type === F.SECTION_PART || type === F.SECTION_END) yield* this.#pages(type);
      else if (type === F.SECTION_FULL) state = yield* this.#device();
      else if (type === F.EOF && state) {
        yield* this.#description();
        return state;
      } else throw new ProtocolError(`Unknown savevm section type ${type}`);
    }
  }

  *#configuration(): Grammar<void> {
    const length = yield* this.#input.be32();
    if (length > MAX_FIELD) throw new ProtocolError(`Machine type of ${length} bytes`);
    const machine = (yield* this.#input.copy(length)).toString("latin1");
    if (machine !== this.#host.machine)
      throw new ProtocolError(`Machine type received is '${machine}' and local is '${this.#host.machine}'`);
  }

  *#command(): Grammar<void> {
    const command = yield* this.#input.be16();
    const length = yield* this.#input.be16();
    if (length > MAX_FIELD) throw new ProtocolError(`MIG_CMD ${command} has ${length} bytes`);
    const data = yield* this.#input.copy(length);
    if (command === COMMAND_OPEN_RETURN_PATH && length === 0) this.#host.openReturnPath();
    else if (command === COMMAND_PING && length === 4) this.#host.ping(data);
    else throw new ProtocolError(`MIG_CMD 0x${command.toString(16)} unknown (len 0x${length.toString(16)})`);
  }

  /** The start of RAM, with its blocks, which must be those of this VM. */
  *#announce(): Grammar<void> {
    const input = this.#input;
    const { blocks, pages } = this.#host.memory;
    this.#section = yield* this.#head("ram", F.RAM_VERSION);
    const total = yield* input.be64();
    if (total % PAGE_SIZE !== F.RAM_MEM_SIZE) throw new ProtocolError("The section of RAM begins without its blocks");
    for (let left = total - F.RAM_MEM_SIZE; left > 0; ) {
      const name = yield* input.name();
      const length = yield* input.be64();
      const own = blocks.find((block) => block.name === name);
      if (!own) throw new ProtocolError(`Unknown ramblock "${name}", cannot accept migration`);
      const here = own.pages * PAGE_SIZE;
      if (length !== here)
        throw new ProtocolError(`Size mismatch: ${name}: 0x${length.toString(16)} != 0x${here.toString(16)}`);
      left -= length;
    }
    if (total !== pages * PAGE_SIZE + F.RAM_MEM_SIZE) throw new ProtocolError("The stream lacks blocks of RAM");
    yield* this.#records();
    yield* this.#footer(this.#section);
  }

  *#pages(type: number): Grammar<void> {
    if (type === F.SECTION_END) this.#host.switchover();
    const section = yield* this.#input.be32();
    if (section !== this.#section) throw new ProtocolError(`Unknown savevm section ${section}`);
    yield* this.#records();
    yield* this.#footer(section);
  }

  /** Records up to the section's end. Every page comes this way, so nothing is made for one. */
  *#records(): Grammar<void> {
    const input = this.#input;
    const { memory } = this.#host;
    for (;;) {
      if (input.available < F.RECORD_HEADER) yield F.RECORD_HEADER;
      const at = input.take(F.RECORD_HEADER);
      const number = pageNumber(input.bytes, at);
      const flags = input.bytes.readUInt16BE(at + 6) & 0xfff;
      const kind = flags & ~F.RAM_CONTINUE;
      if (kind === F.RAM_EOS) return;
      if (kind !== F.RAM_PAGE && kind !== F.RAM_ZERO)
        throw new ProtocolError(`Unknown combination of migration flags: 0x${flags.toString(16)}`);
      if ((flags & F.RAM_CONTINUE) === 0) {
        const name = yield* input.name();
        this.#block = memory.blocks.find((block) => block.name === name);
        if (!this.#block) throw new ProtocolError(`Can't find block ${name}`);
      }
      const block = this.#block;
      if (!block || number >= block.pages) throw new ProtocolError(`Illegal RAM offset of page ${number}`);
      const page = block.firstPage + number;
      if (page <= this.#lastPage) this.#host.round(++this.#round);
      this.#lastPage = page;
      const length = kind === F.RAM_PAGE ? PAGE_SIZE : 1;
      if (input.available < length) yield length;
      const content = input.take(length);
      if (kind === F.RAM_PAGE) memory.store(page, input.bytes, content);
      else memory.storeZeros(page);
    }
  }

  *#device(): Grammar<GuestState> {
    const section = yield* this.#head(STATE_NAME, STATE_VERSION);
    this.#host.device();
    const length = yield* this.#input.be32();
    if (length > MAX_STATE) throw new ProtocolError(`The section "${STATE_NAME}" has ${length} bytes`);
    const state = decodeState(yield* this.#input.copy(length));
    const here = this.#host.memory.blocks[0]!.pages * PAGE_SIZE;
    if (state.memory !== here) throw new ProtocolError(`The guest has ${state.memory} bytes of memory, not ${here}`);
    yield* this.#footer(section);
    return state;
  }

  *#head(expected: string, version: number): Grammar<number> {
    const section = yield* this.#input.be32();
    const name = yield* this.#input.name();
    const instance = yield* this.#input.be32();
    if (name !== expected || instance !== 0)
      throw new ProtocolError(
        `Unknown savevm section or instance '${name}' ${instance}. Make sure that your current VM setup matches your saved VM setup, including any hotplugged devices`,
      );
    const has = yield* this.#input.be32();
    if (has !== version) throw new ProtocolError(`savevm: unsupported version ${has} for '${name}' v${version}`);
    return section;
  }

  *#footer(section: number): Grammar<void> {
    if ((yield* this.#input.byte()) !== F.SECTION_FOOTER || (yield* this.#input.be32()) !== section)
      throw new ProtocolError(`Missing section footer for section ${section}`);
  }

  /** QEMU reads the description of the devices too, so that it doesn't stay on the connection. */
  *#description(): Grammar<void> {
    if ((yield* this.#input.byte()) !== F.VMDESCRIPTION) throw new ProtocolError("Expected vmdescription section");
    const length = yield* this.#input.be32();
    if (length > MAX_DESCRIPTION) throw new ProtocolError(`The description of devices has ${length} bytes`);
    yield* this.#input.skip(length);
  }
}
