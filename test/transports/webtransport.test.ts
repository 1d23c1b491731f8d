import { issueLeaf, synthesizeAnchor } from "../../core/identity/certificates.ts";
import { generateKey } from "../../core/identity/key.ts";
import { SERVER_NAME } from "../../core/transport/security.ts";
import { transportCompliance } from "./compliance.ts";
import { dial, listen } from "./helpers.ts";

const key = generateKey();
const secured = {
  dial: { security: { anchor: synthesizeAnchor(key.word), serverName: SERVER_NAME } },
  listen: { security: { credentials: async () => issueLeaf(key) } },
};

for (const [name, options] of [
  ["webtransport: (insecure)", { dial: { insecure: true }, listen: {} }],
  ["webtransport:", secured],
] as const) {
  transportCompliance(name, async () => {
    const listener = await listen("webtransport://127.0.0.1:0", options.listen);
    return {
      listener,
      dial: (signal) => dial(listener.address, { signal, ...options.dial }),
      listenElsewhere: (signal) => listen("webtransport://127.0.0.1:0", { signal, ...options.listen }),
      dialNothing: (signal) => dial("webtransport://127.0.0.1:9", { signal, ...options.dial }),
      close: () => listener.close(),
    };
  });
}
