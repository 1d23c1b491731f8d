import type { ChannelAddress } from "./channel.ts";
import { QmpError } from "./qmp-error.ts";

export type QmpType = "string" | "boolean" | "array" | "object" | "any";
/** The arguments that a command takes; a `?` at the end of the name makes one optional. */
export type ArgumentTypes = Readonly<Record<string, QmpType>>;
export type Arguments = Readonly<Record<string, unknown>>;

const typeOf = (value: unknown) => (Array.isArray(value) ? "array" : value === null ? "null" : typeof value);

/** Checks an object against the types of its members. Throws a `QmpError` in QEMU's words. */
export function checkArguments(given: unknown, types: ArgumentTypes, where = ""): Arguments {
  if (typeof given !== "object" || given === null || Array.isArray(given))
    throw new QmpError(`Invalid parameter type for '${where}', expected: object`);
  const named = (name: string) => (where === "" ? name : `${where}.${name}`);
  const values = given as Arguments;
  for (const [key, type] of Object.entries(types)) {
    const name = key.replace("?", "");
    if (!Object.hasOwn(values, name)) {
      if (key.endsWith("?")) continue;
      throw new QmpError(`Parameter '${named(name)}' is missing`);
    }
    if (type !== "any" && typeOf(values[name]) !== type)
      throw new QmpError(`Invalid parameter type for '${named(name)}', expected: ${type}`);
  }
  for (const name of Object.keys(values))
    if (!(name in types) && !(`${name}?` in types)) throw new QmpError(`Parameter '${named(name)}' is unexpected`);
  return values;
}

/** One of `names`; `name` is the parameter's. */
export function checkChoice<T extends string>(value: unknown, names: readonly T[], name: string): T {
  if (typeof value !== "string") throw new QmpError(`Invalid parameter type for '${name}', expected: string`);
  const found = names.find((known) => known === value);
  if (!found) throw new QmpError(`Parameter '${name}' does not accept value '${value}'`);
  return found;
}

const MAIN = { "channel-type": "string", addr: "object" } as const;

/** Where `migrate` and `migrate-incoming` are to connect or listen, by `uri` or by the main one of `channels`. */
export function readAddress({ uri, channels }: Arguments): ChannelAddress {
  if ((typeof uri === "string") === (Array.isArray(channels) && channels.length > 0))
    throw new QmpError("need either 'uri' or 'channels' argument");
  if (typeof uri === "string") return parseUri(uri);
  const list = channels as unknown[];
  if (list.length > 1) throw new QmpError("Channel list must have only one entry, for type 'main'");
  const channel = checkArguments(list[0], MAIN, "channels[0]");
  checkChoice(channel["channel-type"], ["main"], "channel-type");
  const address = channel.addr as Arguments;
  if (checkChoice(address.transport, ["socket", "exec", "rdma", "file"], "transport") !== "socket")
    throw new QmpError(`transport '${address.transport}' is not supported by this VM`);
  const type = checkChoice(address.type, ["inet", "unix", "vsock", "fd"], "type");
  if (type === "unix" && typeof address.path === "string") return { type, path: address.path };
  if (type === "inet" && typeof address.host === "string" && typeof address.port === "string")
    return inet(address.host, address.port);
  throw new QmpError(`Invalid socket address of type '${type}'`);
}

function parseUri(uri: string): ChannelAddress {
  if (uri.startsWith("unix:")) return { type: "unix", path: uri.slice(5) };
  const match = /^tcp:(\[[^\]]*\]|[^:,]*):(\d*)(?:,.*)?$/.exec(uri);
  if (match) return inet(match[1]!.replace(/^\[|\]$/g, ""), match[2]!);
  if (uri.startsWith("tcp:")) throw new QmpError(`error parsing address '${uri.slice(4)}'`);
  throw new QmpError(`unknown migration protocol: ${uri}`);
}

function inet(host: string, text: string): ChannelAddress {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  if (port < 0 || port > 65_535) throw new QmpError(`error parsing port in address '${host}:${text}'`);
  return { type: "inet", host: host === "" ? "0.0.0.0" : host, port };
}
