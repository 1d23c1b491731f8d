import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CancelledError } from "../../../../core/errors.ts";
import type { Piece } from "../../../../core/machines/machine.ts";
import { type NbdSpec, openNbd } from "../../../../core/machines/nbd/source.ts";
import { type NbdProgram, writeNbdProgram } from "../../../support/nbd-program.ts";
import { within } from "../../../support/session.ts";
import { folder, noise, readAll, sha256 } from "../image/files.ts";
import { failure } from "./connect.ts";

const MIB = 1 << 20;
let dir: ReturnType<typeof folder>;
let program: NbdProgram;
beforeEach(() => {
  dir = folder();
  program = writeNbdProgram(dir.path);
});
afterEach(() => dir.remove());

const at = (name: string) => join(dir.path, name);
const open = (name: string, more: Partial<NbdSpec> = {}) => openNbd({ path: at(name), program: program.path, ...more });
const disk = Buffer.concat([noise(2 * MIB + 4096), Buffer.alloc(3 * MIB), noise(5000, 2)]);

describe("a disk", () => {
  test("is told by name, format and size, and comes with its digest", async () => {
    writeFileSync(at("disk.qcow2"), disk);
    const source = await open("disk.qcow2");
    expect(source.info).toEqual({ name: "disk.qcow2", format: "raw", size: disk.length });
    let holes = 0;
    const count = (piece: Piece) => {
      if ("zeros" in piece) holes += piece.zeros;
    };
    const got = await within(readAll(source, count));
    expect(Buffer.compare(got, disk)).toBe(0);
    expect(holes).toBe(3 * MIB);
    expect(Buffer.compare(await source.plainDigest!(), sha256(disk))).toBe(0);
    expect(program.runs()).toBe(false);
    await source.close?.();
  });

  test("has another name where one is given, and no digest where none is wanted", async () => {
    writeFileSync(at("disk.qcow2"), disk);
    const source = await open("disk.qcow2", { name: "web", digest: false });
    expect([source.info.name, source.plainDigest]).toEqual(["web", undefined]);
    expect(Buffer.compare(await within(readAll(source)), disk)).toBe(0);
  });

  test("that nobody reads is closed, also twice", async () => {
    writeFileSync(at("disk"), disk);
    const source = await open("disk");
    expect(program.runs()).toBe(true);
    await within(Promise.all([source.close?.(), source.close?.()]));
    expect(program.runs()).toBe(false);
    expect((await failure(within(readAll(source)))).message).toContain("it is closed");
  });

  test("that is left in the middle is closed", async () => {
    writeFileSync(at("disk"), disk);
    const source = await open("disk");
    for await (const piece of source.pieces(new AbortController().signal)) {
      expect("bytes" in piece && piece.bytes.length).toBe(MIB);
      break;
    }
    expect(program.runs()).toBe(false);
  });
});

describe("what can't be read", () => {
  test("is told at once", async () => {
    expect((await failure(open("nothing"))).message).toBe(`Cannot read "${at("nothing")}": no such file or directory`);
    mkdirSync(at("folder"));
    expect((await failure(open("folder"))).message).toContain("it is a directory");
    writeFileSync(at("a\nb"), disk);
    expect((await failure(open("a\nb"))).code).toBe("refused");
  });

  test("and in the server's words where that knows more", async () => {
    writeFileSync(at("disk"), "BROKEN");
    const error = await failure(within(open("disk")));
    const path = at("disk");
    expect(error.code).toBe("input");
    expect(error.message).toBe(`Cannot read "${path}": Failed to open '${path}'; it is broken`);
    expect(program.runs()).toBe(false);
  });

  test("as the server speaks another protocol: it is ended", async () => {
    writeFileSync(at("disk"), "NO NBD");
    const error = await failure(within(open("disk")));
    expect(error.code).toBe("integrity");
    expect(error.message).toContain(`Cannot read "${at("disk")}": its NBD server breaks the protocol: `);
    expect(program.runs()).toBe(false);
  });

  test("any more, for the server has ended, is told in its words", async () => {
    writeFileSync(at("disk"), Buffer.concat([Buffer.from("GONE!!"), disk]));
    const error = await failure(within(readAll(await open("disk"))));
    expect([error.code, error.message]).toEqual(["input", `Cannot read "${at("disk")}": the disk is gone`]);
  });

  test("for it changed meanwhile", async () => {
    writeFileSync(at("disk"), disk);
    const source = await open("disk");
    // Not with the first piece: by then a disk of this size may have been read ahead, and looked at.
    utimesSync(at("disk"), 1000, 1000);
    expect((await failure(within(readAll(source)))).message).toContain("it changed while it was read");
    expect(program.runs()).toBe(false);
  });

  test("as the server is silent: the signal ends it", async () => {
    writeFileSync(at("disk"), Buffer.concat([Buffer.from("SILENT"), disk]));
    const source = await open("disk");
    const abort = new AbortController();
    const pieces = source.pieces(abort.signal)[Symbol.asyncIterator]();
    setTimeout(() => abort.abort(new CancelledError("by hand")), 50);
    expect((await failure(within(pieces.next()))).message).toBe("by hand");
    expect(program.runs()).toBe(false);
  });

  test("as opening it was aborted before", async () => {
    writeFileSync(at("disk"), disk);
    const signal = AbortSignal.abort(new CancelledError("by hand"));
    expect((await failure(within(open("disk", { signal })))).message).toBe("by hand");
  });
});
