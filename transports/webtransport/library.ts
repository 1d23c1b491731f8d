import dgram from "node:dgram";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { ShrinkerError } from "../../core/errors.ts";

/**
 * What is used of `@fails-components/webtransport`, whose version is pinned. What is marked so is not of its interface: it
 * has no other way to say whom to trust, to bound what strangers hold, or to cut a connection.
 */
export interface Library {
  readonly WebTransport: new (url: string, options: object) => ClientSession;
  readonly Http2Server: new (options: object) => Server;
  readonly Http3Server: new (options: object) => Server;
}

export interface Session {
  readonly ready: Promise<void>;
  /** Settles when the session is over. */
  readonly closed: Promise<unknown>;
  readonly incomingBidirectionalStreams: ReadableStream<BidirectionalStream>;
  readonly incomingUnidirectionalStreams: ReadableStream<unknown>;
  readonly datagrams: { readonly readable: ReadableStream<unknown> };
  /** `HOST:PORT`, of an accepted one. */
  readonly peerAddress?: string;
  close(): void;
}

export interface ClientSession extends Session {
  /** `supports-unreliable` over HTTP/3. */
  readonly reliability: string;
  createBidirectionalStream(): Promise<BidirectionalStream>;
  /** Not of the interface: begins to connect, in the constructor. */
  startUpConnection(parts: ClientParts): void;
  /** Not of the interface. */
  readonly sessionint: { readonly objint?: NativeSession };
}

/** Not of the interface, as what follows. */
export interface ClientParts {
  readonly client: { readonly args: { createReliableClient(client: unknown): ReliableClient } };
}

/** A client's HTTP/2 half. */
export interface ReliableClient {
  readonly initialSessionFlowControlWindow: number;
  readonly initialStreamFlowControlWindow: number;
  readonly initialUnidirectionalStreams: number;
  readonly initialBidirectionalStreams: number;
  readonly jsobj: {
    onClientConnected(event: { readonly success: boolean }): void;
    onClientWebTransportSupport(event: object): void;
  };
  clientInt?: unknown;
  createTransport(): void;
}

export interface BidirectionalStream {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
}

/** Not of the interface: a session of the HTTP/2 half. */
export interface NativeSession {
  capsParser?: {
    parseData(data: Buffer): void;
    /** The beginning of a capsule, until more of it has come. */
    saveddata?: Uint8Array;
  };
}

export interface Server {
  readonly ready: Promise<void>;
  startServer(): void;
  stopServer(): void;
  updateCert(certificates: string, privateKey: string): void;
  address(): { readonly port: number } | null;
  sessionStream(path: string): ReadableStream<Session>;
  /** Not of the interface, as what follows here. */
  createTransportInt(): Promise<void>;
  readonly transportInt: unknown;
  onHttpWTSessionVisitor(event: { readonly session: NativeSession; readonly peerAddress: string }): void;
}

export interface LoadedLibrary extends Library {
  /** Whether its HTTP/3 half can run: its native part is there, and could be loaded. */
  readonly http3: boolean;
}

const LIBRARY: string = "@fails-components/webtransport";
const HTTP3 = "@fails-components/webtransport-transport-http3-quiche";
/** What the library prints where it has no HTTP/3, which users can't do anything about in the middle of a migration. */
const COMPLAINTS = /^(http3 loader:|Problem loading http3-quiche|Did you install @fails-components)/;

let loading: Promise<LoadedLibrary> | undefined;

/**
 * Loads it, once. Throws `usage` where it is not installed.
 * @param text the address that needs it, for messages
 */
export async function loadLibrary(text: string, name = LIBRARY): Promise<LoadedLibrary> {
  try {
    if (name !== LIBRARY) return await load(name);
    loading ??= load(name);
    return await loading;
  } catch (error) {
    const advice = `run \`npm install ${LIBRARY}\`, or use tcp://HOST:PORT at both ends`;
    throw new ShrinkerError("usage", `Cannot use ${text}: ${LIBRARY} is not installed; ${advice}`, { cause: error });
  }
}

async function load(name: string): Promise<LoadedLibrary> {
  const native = hasNativePart(http3Folder());
  if (native) completeDatagrams();
  const { complained, speak } = hush();
  try {
    const library = (await import(name)) as Library & { readonly quicheLoaded: Promise<void> };
    await library.quicheLoaded;
    // Its server half complains of the same, and gives no promise for it.
    await turn();
    const { WebTransport, Http2Server, Http3Server } = library;
    return { WebTransport, Http2Server, Http3Server, http3: native && !complained() };
  } finally {
    speak();
  }
}

/** Where its HTTP/3 half is, or would be: the library looks from its own place. */
function http3Folder(): string | undefined {
  try {
    return fileURLToPath(new URL("..", `file://${createRequire(import.meta.resolve(LIBRARY)).resolve(HTTP3)}`));
  } catch {
    return undefined;
  }
}

/**
 * Whether the compiled file is where the HTTP/3 half loads it from. That half's own promise says so even where the file is
 * missing, since it comes from a download that an install may go without.
 * @param folder the package's
 */
export function hasNativePart(folder: string | undefined): boolean {
  if (folder === undefined) return false;
  const own = join(folder, `build_${process.platform}_${process.arch}`);
  const build = existsSync(own) ? own : join(folder, "build");
  const debug = process.env.NODE_ENV !== "production" && existsSync(join(build, "Debug", "webtransport.node"));
  return debug || existsSync(join(build, "Release", "webtransport.node"));
}

/** What the HTTP/3 half asks of a socket before it sends, and Deno 2.9 lacks. */
function completeDatagrams(): void {
  if (!("getSendQueueCount" in dgram.Socket.prototype))
    Object.defineProperty(dgram.Socket.prototype, "getSendQueueCount", { value: () => 0 });
}

/** Keeps the library's complaints, and nothing else, off stdout and stderr until it may speak. */
function hush(): { complained(): boolean; speak(): void } {
  const { log, error } = console;
  let complaints = 0;
  const quiet =
    (print: typeof log) =>
    (...words: unknown[]) => {
      if (COMPLAINTS.test(String(words[0]))) complaints++;
      else print(...words);
    };
  const [quietLog, quietError] = [quiet(log), quiet(error)];
  console.log = quietLog;
  console.error = quietError;
  return {
    complained: () => complaints > 0,
    speak() {
      if (console.log === quietLog) console.log = log;
      if (console.error === quietError) console.error = error;
    },
  };
}

/** Stops a server, also one whose socket is closed already or was never there: the library throws then. */
export function stopServer(server: Pick<Server, "stopServer">): void {
  try {
    server.stopServer();
  } catch {
    // There is nothing left to stop.
  }
}

/** A field that is not of the interface. Throws `bug` where another version has put it elsewhere. */
export function internal(owner: unknown, name: string): unknown {
  const value: unknown = typeof owner === "object" && owner !== null ? Reflect.get(owner, name) : undefined;
  if (value !== undefined) return value;
  throw missing(name);
}

/** As `internal`, of what is to be called, or to be stood in for: else nobody would call what stands there. */
export function internalMethods(owner: unknown, ...names: readonly string[]): void {
  for (const name of names) if (typeof internal(owner, name) !== "function") throw missing(name);
}

/** What another version of the library lacks: without it, strangers or keys could not be told from others. */
export function missing(name: string): ShrinkerError {
  return new ShrinkerError("bug", `This version of ${LIBRARY} has no ${name}: install the one that package.json names`);
}
