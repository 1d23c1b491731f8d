/** The interfaces of QUIC (RFC 9000) that runtimes have, as far as they are used. */

/** `node:quic`. */
export type NodeQuic = typeof import("node:quic");

/** What Deno has, with `--unstable-net`. */
export interface DenoQuic {
  readonly QuicEndpoint: new (options: { hostname: string; port: number }) => DenoEndpoint;
  connectQuic(
    options: DenoTransportOptions & {
      hostname: string;
      port: number;
      serverName: string;
      alpnProtocols: string[];
      caCerts: string[];
      endpoint: DenoEndpoint;
    },
  ): Promise<DenoConnection>;
}

export interface DenoTransportOptions {
  keepAliveInterval: number;
  maxIdleTimeout: number;
  maxConcurrentBidirectionalStreams: number;
  maxConcurrentUnidirectionalStreams: number;
}

export interface DenoEndpoint {
  readonly addr: { readonly hostname: string; readonly port: number };
  listen(options: DenoTransportOptions & { cert: string; key: string; alpnProtocols: string[] }): DenoListener;
  close(): void;
}

export interface DenoListener {
  incoming(): Promise<DenoIncoming>;
  stop(): void;
}

export interface DenoIncoming {
  accept(): Promise<DenoConnection>;
  refuse(): void;
}

export interface DenoConnection {
  readonly remoteAddr: { readonly hostname: string; readonly port: number };
  readonly closed: Promise<unknown>;
  readonly incomingBidirectionalStreams: ReadableStream<DenoStream>;
  createBidirectionalStream(): Promise<DenoStream>;
  close(info: { closeCode: number; reason: string }): void;
}

export interface DenoStream {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
}

/** Which of them there is. */
export type QuicApi = { readonly node: NodeQuic } | { readonly deno: DenoQuic };
