import { QmpError } from "./qmp-error.ts";

interface Whole {
  readonly type: "uint8_t" | "uint64" | "size";
  readonly value: number;
  readonly least?: number;
  readonly most?: number;
}
interface Choice {
  readonly type: "choice";
  readonly value: string;
  readonly choices: readonly string[];
}
interface Other {
  readonly type: "boolean" | "string";
  readonly value: boolean | string;
}

/** Milliseconds. */
const MAX_DOWNTIME = 2000 * 1000;
const level = (value: number, most: number): Whole => ({ type: "uint8_t", value, most });
const percent = (value: number, least: number, most = 99): Whole => ({ type: "uint8_t", value, least, most });
const delay = (value: number, least = 1): Whole => ({ type: "size", value, least, most: 100_000 });
const size = (value: number): Whole => ({ type: "uint64", value });

/** QEMU 10's parameters with their types, bounds and defaults. Those that a fake VM has no use for are only remembered. */
const PARAMETERS: Readonly<Record<string, Whole | Choice | Other>> = {
  "announce-initial": delay(50, 0),
  "announce-max": delay(550, 0),
  "announce-rounds": { type: "size", value: 5, most: 1000 },
  "announce-step": { type: "size", value: 100, least: 1, most: 10_000 },
  "throttle-trigger-threshold": percent(50, 1, 100),
  "cpu-throttle-initial": percent(20, 1),
  "cpu-throttle-increment": percent(10, 1),
  "cpu-throttle-tailslow": { type: "boolean", value: false },
  "max-cpu-throttle": percent(99, 1),
  "tls-creds": { type: "string", value: "" },
  "tls-hostname": { type: "string", value: "" },
  "tls-authz": { type: "string", value: "" },
  "max-bandwidth": { type: "uint64", value: 128 * 2 ** 20 },
  "avail-switchover-bandwidth": size(0),
  "downtime-limit": { type: "uint64", value: 300, most: MAX_DOWNTIME },
  "x-checkpoint-delay": { type: "uint64", value: 20_000, most: 2 ** 32 - 1 },
  "multifd-channels": { type: "uint8_t", value: 2, least: 1, most: 255 },
  "xbzrle-cache-size": { type: "uint64", value: 64 * 2 ** 20, least: 4096 },
  "max-postcopy-bandwidth": size(0),
  "multifd-compression": { type: "choice", value: "none", choices: ["none", "zlib", "zstd", "qatzip"] },
  "multifd-zlib-level": level(1, 9),
  "multifd-zstd-level": level(1, 20),
  "multifd-qatzip-level": percent(1, 1, 9),
  "x-vcpu-dirty-limit-period": { type: "uint64", value: 1000, least: 1, most: 1000 },
  "vcpu-dirty-limit": { type: "uint64", value: 1, least: 1 },
  mode: { type: "choice", value: "normal", choices: ["normal", "cpr-reboot", "cpr-transfer"] },
  "zero-page-detection": { type: "choice", value: "multifd", choices: ["none", "legacy", "multifd"] },
  "direct-io": { type: "boolean", value: false },
};

type Value = string | number | boolean;

/** The parameters of migrations, which may change while one goes on. */
export class Parameters {
  readonly #values = new Map<string, Value>(Object.entries(PARAMETERS).map(([name, { value }]) => [name, value]));

  list(): Record<string, Value> {
    return Object.fromEntries(this.#values);
  }

  /** All or none of them. Throws a `QmpError` in QEMU's words for an unknown one, a wrong type or a value out of bounds. */
  set(given: Readonly<Record<string, unknown>>): void {
    const checked = Object.entries(given).map(([name, value]) => [name, check(name, value)] as const);
    for (const [name, value] of checked) this.#values.set(name, value);
  }

  /** Bytes a second. */
  get maxBandwidth(): number {
    return this.#number("max-bandwidth") || Number.POSITIVE_INFINITY;
  }

  /** Bytes a second; 0 where it is to be estimated. */
  get switchoverBandwidth(): number {
    return this.#number("avail-switchover-bandwidth");
  }

  /** Milliseconds. */
  get downtimeLimit(): number {
    return this.#number("downtime-limit");
  }

  #number(name: string): number {
    return Number(this.#values.get(name));
  }
}

function check(name: string, value: unknown): Value {
  const parameter = Object.hasOwn(PARAMETERS, name) ? PARAMETERS[name] : undefined;
  if (!parameter) throw new QmpError(`Parameter '${name}' is unexpected`);
  switch (parameter.type) {
    case "boolean":
    case "string":
      if (typeof value === parameter.type) return value as boolean | string;
      throw new QmpError(`Invalid parameter type for '${name}', expected: ${parameter.type}`);
    case "choice":
      if (typeof value !== "string") throw new QmpError(`Invalid parameter type for '${name}', expected: string`);
      if (parameter.choices.includes(value)) return value;
      throw new QmpError(`Parameter '${name}' does not accept value '${value}'`);
    default:
      return checkWhole(name, parameter, value);
  }
}

/** QEMU names a parameter in C's way where its value is out of bounds. */
function checkWhole(name: string, { type, least = 0, most }: Whole, value: unknown): number {
  if (typeof value !== "number" || !Number.isInteger(value) || (type === "uint8_t" && (value < 0 || value > 255)))
    throw new QmpError(`Parameter '${name}' expects ${type}`);
  const inC = name.replaceAll("-", "_");
  // A negative number is a very large one to QEMU.
  const meant = value < 0 ? 2 ** 64 + value : value;
  if (name === "downtime-limit" && meant > MAX_DOWNTIME)
    throw new QmpError(`Parameter '${inC}' expects an integer in the range of 0 to (2000 * 1000) ms`);
  if (meant < least || (most !== undefined && meant > most))
    throw new QmpError(`Parameter '${inC}' expects a value between ${least} and ${most ?? "2^64"}`);
  return meant;
}
