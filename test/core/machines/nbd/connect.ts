/** Clients of the tests' own server. */
import { once } from "node:events";
import { connect } from "node:net";
import { type ClientOptions, type NbdClient, openClient } from "../../../../core/machines/nbd/client.ts";
import { type FakeOptions, type FakeServer, startNbdServer } from "../../../support/nbd-server.ts";

export interface Pair extends AsyncDisposable {
  readonly server: FakeServer;
  readonly client: NbdClient;
}

/** Connects to a server that has to answer as `options` say. */
export async function openPair(options: FakeOptions, more: Partial<ClientOptions> = {}): Promise<Pair> {
  const server = await startNbdServer(options);
  const socket = connect(server.path);
  try {
    await once(socket, "connect");
    const client = await openClient(socket, { path: "disk", ...more });
    return {
      server,
      client,
      async [Symbol.asyncDispose]() {
        await client.close();
        await server[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    socket.destroy();
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

/** What a promise is rejected with. */
export async function failure(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  try {
    await promise;
  } catch (error) {
    return error as Error;
  }
  throw new Error("it did not fail");
}
