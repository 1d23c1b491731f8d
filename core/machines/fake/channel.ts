import net from "node:net";

/** Where a migration goes to or comes from. */
export type ChannelAddress =
  | { readonly type: "unix"; readonly path: string }
  | { readonly type: "inet"; readonly host: string; readonly port: number };

/** A peer that doesn't answer within this time is not there. */
const CONNECT_MS = 10_000;

/** What QEMU says of a connection that broke. */
export const CHANNEL_ERROR = "Channel error: Input/output error";

const WHY: Record<string, string> = {
  ENOENT: "No such file or directory",
  ECONNREFUSED: "Connection refused",
  ECONNRESET: "Connection reset by peer",
  EPIPE: "Broken pipe",
  EACCES: "Permission denied",
  EADDRINUSE: "Address already in use",
  ETIMEDOUT: "Connection timed out",
  EHOSTUNREACH: "No route to host",
};

/** A system's error in the words that QEMU would use. */
export function explain(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  return WHY[code ?? ""] ?? message ?? "Input/output error";
}

/** `unix:/run/in.sock` without its scheme, or `127.0.0.1:4444`. */
export function describeAddress(address: ChannelAddress): string {
  return address.type === "unix" ? address.path : `${address.host}:${address.port}`;
}

/** A connected socket that carries a migration, with the buffers of its runtime and its kernel and no others. */
export class Channel {
  readonly #socket: net.Socket;
  #broken: Error | undefined;
  #wake: () => void = () => {};

  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("error", (error) => this.#break(error));
    socket.on("close", () => this.#break(new Error("the connection is closed")));
    socket.on("drain", () => this.#wake());
  }

  /** Why nothing can be sent any more. */
  get broken(): Error | undefined {
    return this.#broken;
  }

  /** Resolves when the socket can take more, or rejects once it is broken. The bytes are the socket's from now on. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#broken) throw this.#broken;
    if (this.#socket.write(bytes)) return;
    while (this.#socket.writableNeedDrain && !this.#broken) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#broken) throw this.#broken;
  }

  /** Ends this direction and resolves when all of it has left the process, or can't. */
  end(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#broken) return resolve();
      this.#socket.once("close", () => resolve());
      this.#socket.end(() => resolve());
    });
  }

  onData(take: (bytes: Uint8Array) => void): void {
    this.#socket.on("data", take);
  }

  /** The peer has ended its direction, or the connection broke; called once. */
  onEnd(ended: () => void): void {
    let told = false;
    const tell = () => {
      if (!told) ended();
      told = true;
    };
    this.#socket.on("end", tell).on("close", tell);
  }

  /** Takes nothing from the peer any more; its bytes stay where they are. */
  stall(): void {
    this.#socket.pause();
  }

  destroy(): void {
    this.#socket.destroy();
    this.#break(new Error("the connection is closed"));
  }

  #break(cause: Error): void {
    this.#broken ??= new Error(CHANNEL_ERROR, { cause });
    this.#wake();
  }
}

/** Connects; rejects in QEMU's words, or with the signal's reason. */
export function connectChannel(address: ChannelAddress, signal: AbortSignal): Promise<Channel> {
  return new Promise((resolve, reject) => {
    const to = address.type === "unix" ? { path: address.path } : { host: address.host, port: address.port };
    const socket = net.connect({ ...to, allowHalfOpen: true } as net.NetConnectOpts);
    const fail = (error: unknown) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      socket.destroy();
      reject(new Error(`Failed to connect to '${describeAddress(address)}': ${explain(error)}`, { cause: error }));
    };
    const abort = () => fail(signal.reason);
    const timer = setTimeout(() => fail({ code: "ETIMEDOUT" }), CONNECT_MS);
    signal.addEventListener("abort", abort);
    socket.once("error", fail);
    socket.once("connect", () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      socket.off("error", fail);
      resolve(new Channel(socket));
    });
  });
}
