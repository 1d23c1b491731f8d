/** One end of a cable, as a process: all bytes of each connection are passed on, and digested where that is asked for. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect, createServer, type ListenOptions, type NetConnectOpts, type Socket } from "node:net";

/** What a cable's end is told. */
export interface CableOrder {
  readonly wires: readonly { readonly listen: ListenOptions; readonly to: NetConnectOpts }[];
  /** Whether each byte that goes to the far site is digested, by SHA-256. */
  readonly digests: boolean;
}

function pass(from: Socket, to: Socket): void {
  from.pipe(to);
  from.on("error", () => to.destroy());
}

const { wires, digests } = JSON.parse(process.argv[2] ?? "") as CableOrder;
for (const { listen, to } of wires) {
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ ...to, allowHalfOpen: true });
    if (digests) {
      const hash = createHash("sha256");
      near.on("data", (bytes) => hash.update(bytes));
    }
    pass(near, far);
    pass(far, near);
  });
  server.listen(listen);
  await once(server, "listening");
}
console.log("listening");
