import type { Sender } from "../../engine/sender.ts";
import { LinkError } from "../../errors.ts";
import type { Connection, Listener } from "../../transport/transport.ts";
import type { TunnelEntrance } from "../../tunnel/entrance.ts";
import { machineService } from "../../wire/handover.ts";

export interface StreamContext {
  readonly sender: Sender;
  readonly entrance: TunnelEntrance;
  /** Listens at a socket of its own, for QEMU; `unix:PATH` is its address. */
  readonly listenLocal: () => Promise<Listener>;
}

/** Where QEMU sends a guest, which is carried to the destination: one connection, or with post-copy two. */
export interface GuestStream {
  /** `unix:PATH` */
  readonly address: string;
  /** Rejects with what broke one of them, else never settles. */
  readonly broken: Promise<never>;
  /** Breaks the connections that have not ended. */
  close(): Promise<void>;
}

export async function openStream(
  migration: Uint8Array,
  { listenLocal, entrance, sender }: StreamContext,
): Promise<GuestStream> {
  const listener = await listenLocal();
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => {});
  const open = new Set<Connection>();
  const service = machineService(migration);
  const carry = (connection: Connection) => {
    open.add(connection);
    void entrance
      .carry(sender, connection, { service, format: "qemu" })
      .catch(broken.reject)
      .finally(() => open.delete(connection));
  };
  const accept = async () => {
    for (let next = await listener.accept(); next; next = await listener.accept()) carry(next);
  };
  accept().catch(broken.reject);
  return {
    address: listener.address,
    broken: broken.promise,
    async close() {
      await listener.close();
      for (const connection of open)
        void connection.destroy(new LinkError("The guest's stream is not wanted any more"));
    },
  };
}
