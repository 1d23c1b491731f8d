import { describe, expect, test } from "bun:test";
import { CancelledError, ShrinkerError } from "../../core/errors.ts";
import { socketError } from "../../transports/advice.ts";
import { connectSocket } from "../../transports/socket.ts";
import { at, dial, errorOf, listen, never } from "./helpers.ts";

describe("tcp", () => {
  test.each([
    "tcp://",
    "tcp://127.0.0.1",
    "tcp://127.0.0.1:",
    "tcp://127.0.0.1:65536",
    "tcp://127.0.0.1:1x",
    "tcp://::1:4747",
    "tcp://[::1]",
    "tcp://:4747",
    "tcp://a b:1",
    "tcp://127.0.0.1:80/path",
  ])("%s is not an address", async (text) => {
    for (const act of [dial, listen]) {
      const error = await errorOf(act(text));
      expect(error).toHaveProperty("code", "usage");
      expect(error.message).toMatch(/expected tcp:\/\/HOST:PORT/);
    }
  });

  test.each(["tcp://127.0.0.1:0", "tcp://0.0.0.0:0", "tcp://192.0.2.1:4747", "tcp://[::1]:4747"])(
    "%s is refused where nothing says whom to trust",
    async (text) => {
      const { address, transport } = at(text);
      for (const act of [transport.dial, transport.listen]) {
        const error = await errorOf(act(address, { signal: never }));
        expect(error).toHaveProperty("code", "refused");
        expect(error.message).toMatch(/without authentication.*--insecure/);
      }
    },
  );

  test("listens everywhere", async () => {
    const listener = await listen("tcp://0.0.0.0:0");
    expect(listener.address).toMatch(/^tcp:\/\/0\.0\.0\.0:[1-9]\d*$/);
    const near = await dial(listener.address.replace("0.0.0.0", "127.0.0.1"));
    const far = (await listener.accept())!;
    expect(far.peer).toMatch(/^tcp:\/\/(127\.0\.0\.1|\[::ffff:127\.0\.0\.1\]):\d+$/);
    await Promise.all([near.destroy(), far.destroy(), listener.close()]);
  });

  test("IPv6, and names", async () => {
    for (const text of ["tcp://[::1]:0", "tcp://localhost:0"]) {
      const listener = await listen(text);
      const near = await dial(listener.address);
      expect(near.peer).toBe(listener.address);
      const far = (await listener.accept())!;
      await Promise.all([near.destroy(), far.destroy(), listener.close()]);
    }
  });

  test("a host is reached by any of its addresses", async () => {
    const listener = await listen("tcp://127.0.0.1:0");
    const near = await dial(listener.address.replace("127.0.0.1", "localhost"));
    await Promise.all([near.destroy(), (await listener.accept())!.destroy(), listener.close()]);
  });

  test("an address that is taken is refused, and free again after the close", async () => {
    const listener = await listen("tcp://127.0.0.1:0");
    const error = await errorOf(listen(listener.address));
    expect(error).toHaveProperty("code", "link");
    expect(error.message).toMatch(/another process listens there/);
    await listener.close();
    await (await listen(listener.address)).close();
  });

  test("port 0 can't be dialled", async () => {
    expect(await errorOf(dial("tcp://127.0.0.1:0"))).toHaveProperty("code", "usage");
  });

  test("an unknown host is a link failure that names it", async () => {
    const error = await errorOf(dial("tcp://no-such-host.invalid:1"));
    expect(error).toHaveProperty("code", "link");
    expect(error.message).toMatch(/no-such-host\.invalid/);
  });

  test("a connection attempt ends in time, or with its signal", async () => {
    const start = performance.now();
    // TEST-NET-1 is routed nowhere: depending on the machine it is unreachable, or silent until the time is over.
    const error = await errorOf(
      connectSocket({ host: "192.0.2.1", port: 9 }, "tcp://192.0.2.1", { signal: never, timeoutMs: 100 }),
    );
    expect(error).toHaveProperty("code", "link");
    expect(performance.now() - start).toBeLessThan(5000);
    const controller = new AbortController();
    const dialling = errorOf(
      connectSocket({ host: "192.0.2.1", port: 9 }, "tcp://192.0.2.1", { signal: controller.signal }),
    );
    controller.abort(new CancelledError("stop"));
    expect((await dialling).message).toBe("stop");
  });

  test("an aborted resolution doesn't wait for the name server", async () => {
    const controller = new AbortController();
    const { address, transport } = at("tcp://slow.invalid:1");
    const dialling = errorOf(transport.dial(address, { signal: controller.signal, insecure: true }));
    controller.abort(new CancelledError("stop"));
    expect((await dialling).message).toBe("stop");
  });

  test("system errors become advice, ours stay", () => {
    const own = new ShrinkerError("refused", "no");
    expect(socketError("Cannot connect to", "tcp://a:1", own)).toBe(own);
    const refused = socketError("Cannot connect to", "tcp://a:1", { code: "ECONNREFUSED" });
    expect(refused.message).toBe(
      "Cannot connect to tcp://a:1: nothing listens there; start `shrinker receive --listen tcp://a:1` there first",
    );
    expect(socketError("Lost", "x:", undefined).message).toBe("Lost x:: the connection closed early");
  });
});
