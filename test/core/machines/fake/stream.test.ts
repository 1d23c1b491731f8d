// A stream can be read in any pieces, and one that is wrong is refused, whatever is wrong with it.
import { expect, test } from "bun:test";
import fc from "fast-check";
import { ProtocolError } from "../../../../core/errors.ts";
import { Guest } from "../../../../core/machines/fake/guest.ts";
import { ReturnPath } from "../../../../core/machines/fake/return-path.ts";
import { encodeState } from "../../../../core/machines/fake/state.ts";
import { StreamReader } from "../../../../core/machines/fake/stream-reader.ts";
import { describeDevices, StreamWriter } from "../../../../core/machines/fake/stream-writer.ts";
import { MACHINE_TYPE } from "../../../../core/machines/fake/vm-parts.ts";
import { SECTION_END } from "../../../../core/segment/qemu/format.ts";
import { createQemuWriter } from "../../../support/qemu-writer.ts";
import { spec } from "./support.ts";

const SPEC = spec("a?memory=1M&private=64K&zero=0.75");

function write(): Buffer {
  const guest = new Guest(SPEC, false);
  const writer = new StreamWriter(guest.memory);
  const pieces: Buffer[] = [];
  writer.begin(MACHINE_TYPE);
  writer.command(1);
  writer.command(2, Buffer.of(0, 0, 0, 9));
  writer.blockList();
  writer.beginRam(SECTION_END);
  for (let page = 0; page < guest.memory.pages; page++) {
    writer.page(page);
    if (writer.full) pieces.push(writer.take());
  }
  writer.endRam();
  writer.state(encodeState(guest.state("paused")));
  writer.end(describeDevices());
  return Buffer.concat([...pieces, writer.take()]);
}

function reader(said: string[] = []) {
  const guest = new Guest(SPEC, true);
  const host = {
    memory: guest.memory,
    machine: MACHINE_TYPE,
    openReturnPath: () => void said.push("open"),
    ping: (value: Uint8Array) => void said.push(`ping ${value.at(-1)}`),
    round: (round: number) => void said.push(`round ${round}`),
    switchover: () => void said.push("switchover"),
    device: () => void said.push("device"),
  };
  return { guest, stream: new StreamReader(host) };
}

const stream = write();

test("is read in pieces of any size", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 300_000 }), { maxLength: 20 }), (sizes) => {
      const said: string[] = [];
      const { guest, stream: reading } = reader(said);
      for (let at = 0, turn = 0; at < stream.length; turn++) {
        const end = Math.min(at + (sizes[turn % (sizes.length + 1)] ?? 40_000), stream.length);
        reading.push(stream.subarray(at, end));
        expect(reading.state !== undefined).toBe(end === stream.length);
        at = end;
      }
      guest.restore(reading.state!);
      expect(guest.check()).toEqual({ pages: guest.memory.pages, wrong: 0 });
      expect(said).toEqual(["open", "ping 9", "switchover", "round 1", "device"]);
    }),
    { numRuns: 30 },
  );
});

test("that was changed anywhere is refused, or loads a guest; nothing else happens", () => {
  // Most of it is pages, so the changes are aimed at what is not.
  const head = stream.indexOf("fake", 200) - 10;
  const at = fc.oneof(fc.nat(200), fc.integer({ min: head, max: stream.length - 1 }), fc.nat(stream.length - 1));
  fc.assert(
    fc.property(at, fc.integer({ min: 1, max: 255 }), (offset, change) => {
      const changed = Buffer.from(stream);
      changed[offset]! ^= change;
      const { guest, stream: reading } = reader();
      try {
        reading.push(changed);
        if (reading.state) guest.restore(reading.state);
        guest.check();
      } catch (error) {
        expect(error).toBeInstanceOf(ProtocolError);
      }
    }),
    { numRuns: 100 },
  );
});

test.each([
  [
    "another machine's",
    createQemuWriter().header().machine("pc-i440fx-10.0"),
    "Machine type received is 'pc-i440fx-10.0' and local is 'fake-10.0'",
  ],
  ["no", createQemuWriter().raw(...Buffer.from("GET / HTTP/1.1\r\n")), "Not a migration stream"],
  ["QEMU's own", createQemuWriter().header().named(4, 3, "timer", 2), "Unknown savevm section or instance 'timer' 0"],
  ["post-copy", createQemuWriter().header().command(3, Buffer.alloc(16)), "MIG_CMD 0x3 unknown"],
  ["a hostile", createQemuWriter().header().raw(7, 255, 255, 255, 255), "Machine type of 4294967295 bytes"],
] as const)("%s stream is refused in QEMU's words", (_, writer, message) => {
  expect(() => reader().stream.push(writer.take())).toThrow(message);
});

test("what a destination says is read in pieces, and nothing else is taken", () => {
  const path = new ReturnPath();
  for (const byte of Buffer.from("00020004000000010001000400000000", "hex")) {
    expect(path.outcome).toBeUndefined();
    path.push(Uint8Array.of(byte));
  }
  expect(path.outcome).toBe("loaded");
  const failed = new ReturnPath();
  failed.push(Buffer.from("0001000400000001", "hex"));
  expect(failed.outcome).toBe("failed");
  for (const bytes of ["0003000400000000", "0002ffff", "00010002"])
    expect(() => new ReturnPath().push(Buffer.from(bytes, "hex"))).toThrow("unexpected message");
});
