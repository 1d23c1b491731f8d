/** One connection of QUIC, or of HTTP, with its one stream. */
export interface StreamLink {
  readonly remote: { readonly ip: string; readonly port: number };
  /** At the dialler: the key that the listener's certificate was issued by, as text, where the runtime shows it. */
  readonly issuer?: string | undefined;
  /** The next bytes of the stream, the caller's to keep. Rejects with a `StreamFailure` once it is broken, or at its end. */
  read(): Promise<readonly Uint8Array[]>;
  /** Sends buffers in order. Resolves when they may change, and more can be taken. Calls don't overlap. */
  write(buffers: readonly Uint8Array[]): Promise<void>;
  /** Ends the connection at once, whatever is on its way. Resolves when the peer has been told, as far as can be known. */
  close(): Promise<void>;
}

/** Why a connection could not be made, or broke: a system error's code where one fits, so that it gets its advice. */
export class StreamFailure extends Error {
  readonly code: "UNTRUSTED" | "PROTOCOL" | "ETIMEDOUT" | "ECONNREFUSED" | "ECONNRESET" | "EADDRINUSE" | "OTHER";
  /** Of an untrusted listener, the key that its certificate names, as text, where the runtime shows it. */
  readonly claims: string | undefined;
  constructor(code: StreamFailure["code"], cause?: unknown, claims?: string) {
    super(cause instanceof Error ? cause.message : String(cause ?? code), { cause });
    this.name = "StreamFailure";
    this.code = code;
    this.claims = claims;
  }
}
