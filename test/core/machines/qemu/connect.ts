/** Clients of the tests' own QMP server. */
import { QmpClient } from "../../../../core/machines/qemu/qmp.ts";
import { type QmpServer, type QmpServerOptions, startQmpServer } from "../../../support/qmp-server.ts";

export const never = new AbortController().signal;

export interface Pair extends AsyncDisposable {
  readonly server: QmpServer;
  readonly qmp: QmpClient;
}

/** Connects to a server that answers as `commands` say. */
export async function openPair(
  commands: QmpServerOptions["commands"] = {},
  options: Omit<QmpServerOptions, "commands"> = {},
): Promise<Pair> {
  const server = await startQmpServer({ ...options, commands });
  const qmp = await QmpClient.connect(server.path, { signal: never }).catch(async (error) => {
    await server[Symbol.asyncDispose]();
    throw error;
  });
  return {
    server,
    qmp,
    async [Symbol.asyncDispose]() {
      await qmp.close();
      await server[Symbol.asyncDispose]();
    },
  };
}
