import { describe, expect, test } from "bun:test";
import { changeSettings } from "../../../../core/machines/qemu/local-hop.ts";
import { QmpError } from "../../../../core/machines/qemu/qmp.ts";
import { type MigrationSettings, readSettings, writeSettings } from "../../../../core/machines/qemu/settings.ts";
import { failure } from "../nbd/connect.ts";
import { openPair } from "./connect.ts";
import { fakeQemu } from "./fake-qemu.ts";

const INT64_MAX = { integer: "9223372036854775807" };

describe("settings", () => {
  test("that are changed are those that this QEMU has, and are put back as they were, through JSON", async () => {
    const machine = fakeQemu();
    await using pair = await openPair(machine.commands);
    const before = { capabilities: { ...machine.capabilities }, parameters: { ...machine.parameters } };
    const wanted = {
      capabilities: { events: true, multifd: false, "of-the-future": true },
      parameters: { "max-bandwidth": 5, "tls-creds": "", "of-the-future": 1 },
    };
    let kept: string | undefined;
    const saved = await changeSettings(pair.qmp, wanted, async (settings) => {
      expect(pair.server.orders).toEqual([]);
      kept = JSON.stringify(settings);
    });
    expect(machine.capabilities).toEqual({ ...before.capabilities, events: true, multifd: false });
    expect(machine.parameters).toEqual({ ...before.parameters, "max-bandwidth": 5, "tls-creds": "" });
    expect(saved).toEqual({
      capabilities: { events: false, multifd: true },
      parameters: { "max-bandwidth": INT64_MAX, "tls-creds": "creds0" },
    });
    await writeSettings(pair.qmp, JSON.parse(kept!) as MigrationSettings);
    expect(machine.capabilities).toEqual(before.capabilities);
    expect(machine.parameters).toEqual({ ...before.parameters, "max-bandwidth": 2 ** 63 });
    // To the last digit.
    expect(pair.server.lines.at(-1)).toContain(`"max-bandwidth":${INT64_MAX.integer}`);
  });

  test("are read without what isn't a plain value", async () => {
    await using pair = await openPair(
      fakeQemu({ parameters: { "block-bitmap-mapping": [], "downtime-limit": 3 } }).commands,
    );
    expect((await readSettings(pair.qmp)).parameters).toMatchObject({ "downtime-limit": 3 });
    expect((await readSettings(pair.qmp)).parameters).not.toHaveProperty("block-bitmap-mapping");
  });

  test("that QEMU refuses are told, and nothing is asked for where there is nothing to set", async () => {
    await using pair = await openPair(fakeQemu({ busy: true }).commands);
    await writeSettings(pair.qmp, { capabilities: {}, parameters: {} });
    expect(pair.server.requests).toEqual([]);
    const error = await failure(writeSettings(pair.qmp, { capabilities: { events: true }, parameters: {} }));
    expect(error).toBeInstanceOf(QmpError);
    expect(error.message).toContain("a migration process in progress");
  });
});
