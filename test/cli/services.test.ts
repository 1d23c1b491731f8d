// How the command line names services.
import { describe, expect, test } from "bun:test";
import { parseServices, serviceDialler } from "../../cli/services.ts";

const { signal } = new AbortController();

describe("services", () => {
  test.each([
    ["web=unix:/run/web.sock", "web", "unix", "/run/web.sock", "qemu"],
    ["web-1.b_2=tcp:127.0.0.1:49152", "web-1.b_2", "tcp", "127.0.0.1:49152", "qemu"],
    [`${"n".repeat(64)}=unix:/x`, "n".repeat(64), "unix", "/x", "qemu"],
    ["a=tcp://[::1]:0", "a", "tcp", "[::1]:0", "qemu"],
    ["nbd=unix:a=b,c.sock,format=bytes", "nbd", "unix", "a=b,c.sock", "bytes"],
  ])("%s", (text, name, scheme, rest, format) => {
    expect(parseServices([text], "listens")).toMatchObject([{ name, address: { scheme, rest }, format }]);
  });

  test.each([
    ["", "listens", /Cannot parse/],
    ["web", "listens", /Cannot parse/],
    ["=unix:/x", "listens", /service's name/],
    ["-x=unix:/x", "listens", /service's name/],
    [`${"n".repeat(65)}=unix:/x`, "listens", /service's name/],
    ["a b=unix:/x", "listens", /service's name/],
    ["a=/run/x", "listens", /Cannot parse "\/run\/x"/],
    ["a=exec:cat", "listens", /expected NAME=unix:PATH or NAME=tcp:HOST:PORT/],
    ["a=file:/x", "dials", /expected NAME=unix:PATH/],
    ["a=unix:", "listens", /expected NAME=unix:PATH/],
    ["a=tcp:host", "dials", /expected NAME=unix:PATH/],
    ["a=tcp:host:0", "dials", /expected NAME=unix:PATH/],
    ["a=unix:/x,format=raw", "listens", /Unknown format "raw"/],
    ["a=unix:/x,format=", "listens", /Unknown format ""/],
    ["a=unix:/x,format=bytes", "dials", /is for `shrinker tunnel`/],
  ] as const)("not %j where it %s", (text, side, message) => {
    expect(() => parseServices([text], side)).toThrow(message);
  });

  test("not two of one name", () => {
    expect(() => parseServices(["a=unix:/x", "a=unix:/y"], "listens")).toThrow(/Two services are called "a"/);
  });

  test("one that is not there is said to be so, and nobody is sent to start a receiver", async () => {
    const [service] = parseServices(["a=unix:/nonexistent/socket"], "dials");
    const error = await serviceDialler(service!)(signal).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: "link", message: "nothing listens at unix:/nonexistent/socket" });
  });
});
