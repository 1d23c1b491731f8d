// Times that are too long to be waited for in tests, which give shorter ones: what they are where nobody says otherwise.
import { expect, test } from "bun:test";
import { IDLE_MS } from "../../core/engine/out-stream.ts";
import { PATIENCE_MS } from "../../core/machines/image/stream.ts";
import { KILL_MS, STATUS_MS } from "../../transports/exec.ts";
import { STUCK_MS } from "../../transports/fd.ts";
import { CLOSE_MS as FRAMED_CLOSE_MS } from "../../transports/framed/connection.ts";
import { INTRODUCTION_MS } from "../../transports/introduction.ts";
import { TIMES as QUIC_TIMES } from "../../transports/quic.ts";
import { CONNECT_MS, HANDSHAKE_MS } from "../../transports/socket.ts";
import { CLOSE_MS } from "../../transports/stream.ts";
import { GOODBYE_MS } from "../../transports/webtransport/link.ts";
import { SERVING_TIMES } from "../../transports/webtransport/serve.ts";

test("times are what docs/limits.md says", () => {
  expect(QUIC_TIMES).toEqual({ connect: 10_000, idle: 15_000, handshake: 10_000, renewal: 60_000 });
  expect(SERVING_TIMES).toEqual({ handshake: 10_000, renewal: 60_000 });
  expect([CONNECT_MS, HANDSHAKE_MS, INTRODUCTION_MS]).toEqual([10_000, 10_000, 15_000]);
  expect([STATUS_MS, KILL_MS]).toEqual([500, 2000]);
  expect([CLOSE_MS, STUCK_MS, FRAMED_CLOSE_MS, GOODBYE_MS]).toEqual([1000, 1000, 1000, 300]);
  expect([IDLE_MS, PATIENCE_MS]).toEqual([3, 20]);
});
