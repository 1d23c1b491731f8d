/** A QMP server for tests, in this process: it says what it is told to. It shares no code with the client. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface QmpRequest {
  readonly command: string;
  readonly args: Record<string, unknown>;
  readonly id: unknown;
  readonly outOfBand: boolean;
}

/** Thrown by a command's function: QEMU's refusal. */
export class Refusal extends Error {
  readonly kind: string;
  constructor(desc: string, kind = "GenericError") {
    super(desc);
    this.kind = kind;
  }
}

/** No reply; the end of the connection instead of one. */
export const SILENCE = Symbol("silence");
export const END = Symbol("end");

/** What a command returns, or a function that gives it. */
export type Reply = unknown;

export interface QmpServerOptions {
  /** By command; one that isn't there is not found. `qmp_capabilities` is, unless given. */
  readonly commands?: Record<string, Reply>;
  /** Said first, in place of QEMU's greeting; null for nothing. */
  readonly greeting?: string | null;
  readonly version?: readonly [number, number, number];
  /** Lengths in which it writes, in turn. */
  readonly split?: readonly number[];
}

export interface QmpServer extends AsyncDisposable {
  readonly path: string;
  /** All but `qmp_capabilities`, in order. */
  readonly requests: QmpRequest[];
  /** What came, as it came. */
  readonly lines: string[];
  /** The names of the commands in `requests` that don't only ask. */
  readonly orders: string[];
  /** What commands return; may be changed at any time. */
  readonly commands: Record<string, Reply>;
  /** Says something to whoever is connected. */
  say(text: string): void;
  event(name: string, data?: Record<string, unknown>): void;
  /** Ends the connection. */
  drop(): void;
}

const GREETING = (version: readonly number[]) => {
  const [major, minor, micro] = version;
  return `${JSON.stringify({ QMP: { version: { qemu: { major, minor, micro }, package: "" }, capabilities: ["oob"] } })}\r\n`;
};

/** Listens on a socket in a folder of its own. As QEMU, it serves one client at a time: others are not greeted. */
export async function startQmpServer(options: QmpServerOptions = {}): Promise<QmpServer> {
  const { greeting, version = [10, 0, 2], split = [] } = options;
  const commands: Record<string, Reply> = { qmp_capabilities: {}, ...options.commands };
  const folder = mkdtempSync(join(tmpdir(), "qmp-"));
  const path = join(folder, "qmp");
  const requests: QmpRequest[] = [];
  const received: string[] = [];
  const sockets = new Set<Socket>();
  let served: Socket | undefined;
  let turn = 0;

  const say = (text: string) => {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; ) {
      const end = split.length === 0 ? bytes.length : at + split[turn++ % split.length]!;
      served?.write(bytes.subarray(at, end));
      at = end;
    }
  };
  const answer = ({ command, args, id }: QmpRequest) => {
    try {
      const given = commands[command];
      if (given === undefined) throw new Refusal(`The command ${command} has not been found`, "CommandNotFound");
      const value = typeof given === "function" ? given(args, id) : given;
      if (value === END) served?.destroy();
      else if (value !== SILENCE) say(`${JSON.stringify({ return: value, id })}\r\n`);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      say(`${JSON.stringify({ id, error: { class: error.kind, desc: error.message } })}\r\n`);
    }
  };
  const serve = (socket: Socket) => {
    served = socket;
    let text = "";
    socket.on("data", (piece) => {
      text += piece.toString();
      const lines = text.split("\n");
      text = lines.pop()!;
      for (const line of lines) {
        received.push(line);
        const message = JSON.parse(line) as Record<string, unknown>;
        const command = String(message.execute ?? message["exec-oob"]);
        const args = (message.arguments ?? {}) as Record<string, unknown>;
        const request = { command, args, id: message.id, outOfBand: "exec-oob" in message };
        if (command !== "qmp_capabilities") requests.push(request);
        answer(request);
      }
    });
    if (greeting !== null) say(greeting ?? GREETING(version));
  };

  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => {
      sockets.delete(socket);
      if (socket !== served) return;
      served = undefined;
      const [next] = sockets;
      if (next) serve(next);
    });
    if (!served) serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    path,
    requests,
    lines: received,
    get orders() {
      return requests.map(({ command }) => command).filter((command) => !command.startsWith("query-"));
    },
    commands,
    say,
    event: (name, data = {}) => say(`${JSON.stringify({ timestamp: { seconds: 1 }, event: name, data })}\r\n`),
    drop: () => void served?.destroy(),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
