/** `webtransport:` as it is where the library's HTTP/3 half is not, whether or not it is here. */
import { type DialOptions, type ListenOptions, parseAddress } from "../../core/transport/transport.ts";
import { transports } from "../../transports/registry.ts";
import { type LoadedLibrary, loadLibrary } from "../../transports/webtransport/library.ts";
import { webtransportTransport } from "../../transports/webtransport.ts";
import { never } from "./helpers.ts";

export async function http2Only(text: string): Promise<LoadedLibrary> {
  return { ...(await loadLibrary(text)), http3: false };
}

const transport = webtransportTransport({ load: http2Only });
const trust = (options: { security?: unknown }) => ({ signal: never, insecure: options.security === undefined });

/** As the helpers of the same names. */
export const overHttp2 = {
  dial: async (text: string, options: Partial<DialOptions> = {}) =>
    transport.dial(parseAddress(text, transports), { ...trust(options), ...options }),
  listen: async (text: string, options: Partial<ListenOptions> = {}) =>
    transport.listen(parseAddress(text, transports), { ...trust(options), ...options }),
};
