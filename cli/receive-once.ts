import type { Connection } from "../core/transport/transport.ts";
import type { Invocation } from "./command.ts";
import { exitCode } from "./exit.ts";
import { showProgress } from "./progress.ts";
import { type ReceivingOptions, startReceiving } from "./receive-session.ts";
import { sessionEvent, sessionTable } from "./summary.ts";

/**
 * Receives one session, shows how it goes, and sums it up. Resolves with the exit code.
 * @param total bytes that are going to be read, where that is known
 * @param wireName of the wire bytes, in the table: `in the bundle`
 */
export async function receiveOnce(
  connection: Connection,
  receiving: ReceivingOptions,
  total: number | undefined,
  wireName: string,
  { options, output, interrupt }: Invocation,
): Promise<number> {
  const { gauge, summary } = startReceiving(connection, receiving);
  const progress = showProgress(output, !options.flag("no-progress"), () => ({ ...gauge(), total }));
  const result = await summary;
  progress.stop();
  const { error, streams } = result;
  if (!error || streams.some(({ landed }) => landed)) {
    output.result([...sessionTable(result, wireName), ...(result.note === undefined ? [] : [result.note])]);
  }
  if (error) output.error(error);
  output.event({ type: "summary", ...sessionEvent(result) });
  return error ? (interrupt.code ?? exitCode(error)) : 0;
}
