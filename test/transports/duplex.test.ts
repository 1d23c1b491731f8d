import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { issueLeaf, synthesizeAnchor } from "../../core/identity/certificates.ts";
import { generateKey } from "../../core/identity/key.ts";
import { SERVER_NAME } from "../../core/transport/security.ts";
import { stripedTransport } from "../../transports/striped.ts";
import { transportCompliance } from "./compliance.ts";
import { at, dial, listen, program, readAll } from "./helpers.ts";

const open = (text: string, signal: AbortSignal, options = {}) => dial(text, { signal, ...options });

const onDeno = "Deno" in globalThis;
let names = 0;
transportCompliance("memory:", async () => {
  const listener = await listen(`memory:compliance${names++}`);
  return {
    listener,
    dial: (signal) => open(listener.address, signal),
    listenElsewhere: (signal) => listen(`memory:compliance${names++}`, { signal }),
    dialNothing: (signal) => open("memory:nobody", signal),
    close: () => listener.close(),
  };
});

const key = generateKey();
const secured = {
  dial: { security: { anchor: synthesizeAnchor(key.word), serverName: SERVER_NAME } },
  listen: { security: { credentials: async () => issueLeaf(key) } },
};
for (const [name, options] of [
  ["tcp: (insecure)", { dial: {}, listen: {} }],
  ["tcp:", secured],
] as const) {
  transportCompliance(name, async () => {
    const listener = await listen("tcp://127.0.0.1:0", options.listen);
    const gone = await listen("tcp://127.0.0.1:0", options.listen);
    await gone.close();
    return {
      listener,
      endsWhileWriting: !onDeno,
      dial: (signal) => open(listener.address, signal, options.dial),
      listenElsewhere: (signal) => listen("tcp://127.0.0.1:0", { signal, ...options.listen }),
      dialNothing: (signal) => open(gone.address, signal, options.dial),
      close: () => listener.close(),
    };
  });
}

// Whatever carries them: several connections do as one does.
for (const [scheme, connections] of [
  ["memory", 3],
  ["tcp", 2],
] as const) {
  transportCompliance(`${scheme}: (${connections} connections)`, async () => {
    const anywhere = () => (scheme === "memory" ? `memory:several${names++}` : "tcp://127.0.0.1:0");
    const striped = stripedTransport(at(anywhere()).transport, connections);
    const listenAt = (signal: AbortSignal) => striped.listen(at(anywhere()).address, { signal, insecure: true });
    const { signal } = new AbortController();
    const [listener, gone] = [await listenAt(signal), await listenAt(signal)];
    await gone.close();
    const dialAt = (address: string, signal: AbortSignal) =>
      striped.dial(at(address).address, { signal, insecure: true });
    return {
      listener,
      endsWhileWriting: scheme === "memory" || !onDeno,
      dial: (signal) => dialAt(listener.address, signal),
      listenElsewhere: listenAt,
      dialNothing: (signal) => dialAt(gone.address, signal),
      close: () => listener.close(),
    };
  });
}

transportCompliance("unix:", async () => {
  const folder = mkdtempSync(join(tmpdir(), "shrinker-"));
  const listener = await listen(`unix:${folder}/a`);
  return {
    listener,
    dial: (signal) => open(listener.address, signal),
    listenElsewhere: (signal) => listen(`unix:${folder}/b${names++}`, { signal }),
    dialNothing: (signal) => open(`unix:${folder}/nobody`, signal),
    async close() {
      await listener.close();
      rmSync(folder, { recursive: true });
    },
  };
});

// The command joins its stdio to a socket, so this is also the suite of what `--stdio` uses.
transportCompliance("exec:", async () => {
  const folder = mkdtempSync(join(tmpdir(), "shrinker-"));
  const listener = await listen(`unix:${folder}/a`);
  return {
    listener,
    // Deno holds a duplicate of stdout.
    acceptorCanEnd: !onDeno,
    dial: (signal) => open(`exec:${program("bridge.ts")} 'unix:${folder}/a' 2>/dev/null`, signal),
    listenElsewhere: (signal) => listen(`unix:${folder}/b${names++}`, { signal }),
    async dialNothing(signal) {
      const connection = await open("exec:exit 7", signal);
      try {
        await readAll(connection.input);
      } finally {
        await connection.destroy();
      }
    },
    async close() {
      await listener.close();
      rmSync(folder, { recursive: true });
    },
  };
});
