import type net from "node:net";
import { VERSION } from "./answers.ts";
import { COMMANDS } from "./commands.ts";
import type { FakeVm } from "./fake-vm.ts";
import { JsonSplitter } from "./json-stream.ts";
import { listenAt } from "./listen.ts";
import { type Arguments, checkArguments } from "./qmp-arguments.ts";
import { QmpError } from "./qmp-error.ts";

/** Clients that wait for the one that is served to go; further ones are turned away. */
const MAX_WAITING = 16;
/** Commands of a client that wait for the one before; then no more are read. */
const MAX_QUEUE = 8;
/** Bytes of answers that a client does not read, beyond which it is let go. */
const MAX_UNREAD = 4 << 20;

export interface QmpServer {
  /** Lets all clients go once what was said to them is written, and removes the socket. */
  close(): Promise<void>;
  /** Drops everything at once. */
  destroy(): void;
}

/** Serves QMP at a unix socket, to one client at a time, as QEMU does. Rejects as `listenAt` does. */
export async function serveQmp(vm: FakeVm, path: string): Promise<QmpServer> {
  const waiting: net.Socket[] = [];
  let served: net.Socket | undefined;
  let closed = false;

  function serveNext(): void {
    served = closed ? undefined : waiting.shift();
    if (!served) return;
    const socket = served;
    const end = serveClient(vm, socket);
    socket.once("close", () => {
      end();
      serveNext();
    });
    if (socket.destroyed) socket.emit("close");
  }

  const server = await listenAt({ type: "unix", path }, (socket) => {
    socket.on("error", () => {});
    if (closed || waiting.length >= MAX_WAITING) {
      socket.destroy();
      return;
    }
    socket.pause();
    waiting.push(socket);
    if (!served) serveNext();
  });
  return {
    async close() {
      closed = true;
      for (const socket of waiting) socket.destroy();
      served?.end();
      const last = served;
      const timer = setTimeout(() => last?.destroy(), 200);
      await server.close();
      clearTimeout(timer);
    },
    destroy() {
      closed = true;
      for (const socket of [...waiting, served]) socket?.destroy();
      void server.close();
    },
  };
}

/** Serves one client; returns what stops telling it events. */
function serveClient(vm: FakeVm, socket: net.Socket): () => void {
  const splitter = new JsonSplitter();
  let negotiated = false;
  let oob = false;
  let queued = 0;
  let last: Promise<void> = Promise.resolve();

  const send = (message: object) => {
    if (socket.destroyed || socket.writableEnded) return;
    socket.write(`${JSON.stringify(message)}\r\n`);
    if (socket.writableLength > MAX_UNREAD) socket.destroy();
  };

  async function execute(message: Record<string, unknown>): Promise<unknown> {
    const { execute, "exec-oob": execOob, arguments: given = {} } = message;
    const name = execute ?? execOob;
    if (execOob !== undefined && !oob) throw new QmpError("QMP input member 'exec-oob' is unexpected");
    if (typeof name !== "string")
      throw new QmpError(
        name === undefined ? "QMP input lacks member 'execute'" : "QMP input member 'execute' must be a string",
      );
    if (typeof given !== "object" || given === null || Array.isArray(given))
      throw new QmpError("QMP input member 'arguments' must be an object");
    if (name === "qmp_capabilities") {
      if (negotiated)
        throw new QmpError("Capabilities negotiation is already complete, command ignored", "CommandNotFound");
      oob = readEnabled(checkArguments(given, { "enable?": "array" }));
      negotiated = true;
      return {};
    }
    if (!negotiated)
      throw new QmpError("Expecting capabilities negotiation with 'qmp_capabilities'", "CommandNotFound");
    const command = COMMANDS.get(name);
    if (!command) throw new QmpError(`The command ${name} has not been found`, "CommandNotFound");
    if (execOob !== undefined && !command.oob) throw new QmpError(`The command ${name} does not support OOB`);
    const checked = "*" in command.types ? (given as Arguments) : checkArguments(given, command.types);
    return await command.run(vm, checked);
  }

  async function answer(text: string): Promise<void> {
    let id: object = {};
    try {
      const message = parse(text);
      if ("id" in message) id = { id: message.id };
      send({ return: await execute(message), ...id });
    } catch (error) {
      if (!(error instanceof QmpError)) vm.parts.log(String(error));
      const kind = error instanceof QmpError ? error.class : "GenericError";
      send({ ...id, error: { class: kind, desc: (error as Error).message } });
    }
  }

  socket.on("data", (bytes: Buffer) => {
    const messages = splitter.push(bytes);
    if (!messages) {
      socket.destroy();
      return;
    }
    for (const text of messages) {
      if (++queued >= MAX_QUEUE) socket.pause();
      last = last.then(async () => {
        await answer(text);
        if (--queued < MAX_QUEUE) socket.resume();
      });
    }
  });
  socket.on("end", () => socket.end());
  const unlisten = vm.parts.events.listen((event) => {
    if (negotiated) send(event);
  });
  send({ QMP: { version: VERSION, capabilities: ["oob"] } });
  socket.resume();
  return unlisten;
}

const MEMBERS = ["execute", "exec-oob", "arguments", "id"];

function parse(text: string): Record<string, unknown> {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch (error) {
    throw new QmpError(`JSON parse error, ${(error as Error).message}`);
  }
  if (typeof message !== "object" || message === null || Array.isArray(message))
    throw new QmpError("QMP input must be a JSON object");
  const unexpected = Object.keys(message).find((key) => !MEMBERS.includes(key));
  if (unexpected !== undefined) throw new QmpError(`QMP input member '${unexpected}' is unexpected`);
  return message as Record<string, unknown>;
}

/** Whether a client wants commands out of band. */
function readEnabled({ enable }: Arguments): boolean {
  const wanted = (enable ?? []) as unknown[];
  for (const name of wanted)
    if (name !== "oob") throw new QmpError(`Parameter 'enable' does not accept value '${String(name)}'`);
  return wanted.length > 0;
}
