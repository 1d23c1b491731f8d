import { issueLeaf, synthesizeAnchor } from "../../core/identity/certificates.ts";
import { generateKey } from "../../core/identity/key.ts";
import { SERVER_NAME } from "../../core/transport/security.ts";
import { parseAddress } from "../../core/transport/transport.ts";
import { quicTransport } from "../../transports/quic.ts";
import { transports } from "../../transports/registry.ts";
import { transportCompliance } from "./compliance.ts";
import { dial, listen } from "./helpers.ts";

const hasty = quicTransport({ connect: 700, idle: 700, handshake: 700, renewal: 20 });
const at = (text: string) => parseAddress(text, transports);

const key = generateKey();
const secured = {
  dial: { security: { anchor: synthesizeAnchor(key.word), serverName: SERVER_NAME } },
  listen: { security: { credentials: async () => issueLeaf(key) } },
};

for (const [name, options] of [
  ["quic: (insecure)", { dial: { insecure: true }, listen: {} }],
  ["quic:", secured],
] as const) {
  transportCompliance(name, async () => {
    const listener = await listen("quic://127.0.0.1:0", options.listen);
    return {
      listener,
      dial: (signal) => dial(listener.address, { signal, ...options.dial }),
      listenElsewhere: (signal) => listen("quic://127.0.0.1:0", { signal, ...options.listen }),
      dialNothing: (signal) => hasty.dial(at("quic://127.0.0.1:9"), { signal, ...options.dial }),
      close: () => listener.close(),
    };
  });
}
