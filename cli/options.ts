import { parseArgs } from "node:util";
import { ShrinkerError, systemCode } from "../core/errors.ts";

/** An option, as it is parsed, listed by `--help`, and read from the environment (`SHRINKER_SPOOL_LIMIT`). */
export interface OptionSpec {
  /** Without the dashes. */
  readonly name: string;
  /** One letter that stands for it behind a single dash. */
  readonly short?: string;
  /** What stands for its value in the help; a flag has none. */
  readonly value?: string;
  /** Whether it may be given several times. */
  readonly many?: boolean;
  readonly text: string;
}

/** What the command line says, and where it is silent, the environment. */
export interface Options {
  /** Whether the command line itself says it. */
  given(name: string): boolean;
  flag(name: string): boolean;
  text(name: string): string | undefined;
  /** All values of an option that may be given several times. */
  all(name: string): readonly string[];
  /** As `parse` reads it, whose error is then told with the option's name. */
  read<T>(name: string, parse: (text: string) => T): T | undefined;
}

const YES = ["1", "true", "yes"];
const NO = ["0", "false", "no"];

export function variableOf(name: string): string {
  return `SHRINKER_${name.toUpperCase().replaceAll("-", "_")}`;
}

/**
 * Reads the arguments behind a command's name. Throws `usage` for an option that is unknown or lacks its value.
 *
 * By Node's own parser: cac's takes `007` for 7, drops a lone `-`, and gives a flag the argument that follows it.
 */
export function readOptions(
  argv: readonly string[],
  specs: readonly OptionSpec[],
  env: Readonly<Record<string, string | undefined>>,
): { args: string[]; options: Options } {
  const types = specs.map(({ name, short, value, many = false }) => {
    const type: "boolean" | "string" = value === undefined ? "boolean" : "string";
    return [name, { type, multiple: many, ...(short && { short }) }] as const;
  });
  let values: Record<string, unknown>;
  let args: string[];
  try {
    const config = { args: [...argv], options: Object.fromEntries(types), allowPositionals: true, strict: true };
    ({ values, positionals: args } = parseArgs(config));
  } catch (error) {
    throw new ShrinkerError("usage", explain(error), { cause: error });
  }
  const fromEnv = (name: string) => env[variableOf(name)] || undefined;
  const text = (name: string) => (values[name] as string | undefined) ?? fromEnv(name);
  const options: Options = {
    given: (name) => values[name] !== undefined,
    flag(name) {
      const said = fromEnv(name)?.toLowerCase();
      if (values[name] !== undefined || said === undefined) return values[name] === true;
      if (YES.includes(said)) return true;
      if (NO.includes(said)) return false;
      throw new ShrinkerError("usage", `Cannot parse "${said}" of ${variableOf(name)}: expected 1 or 0`);
    },
    text,
    all(name) {
      const said = fromEnv(name);
      return (values[name] as string[] | undefined) ?? (said === undefined ? [] : [said]);
    },
    read(name, parse) {
      const said = text(name);
      if (said === undefined) return undefined;
      try {
        return parse(said);
      } catch (error) {
        const where = values[name] === undefined ? variableOf(name) : `--${name}`;
        throw new ShrinkerError("usage", `${where}: ${(error as Error).message}`, { cause: error });
      }
    },
  };
  return { args, options };
}

/** The first sentence of the parser's message, with what to do about it. */
function explain(error: unknown): string {
  const message = (error as Error).message;
  const option = /'(-[^' ]*)/.exec(message)?.[1] ?? "";
  switch (systemCode(error)) {
    case "ERR_PARSE_ARGS_UNKNOWN_OPTION":
      return `Unknown option ${option}: see --help; a file of such a name is written ./${option}`;
    case "ERR_PARSE_ARGS_INVALID_OPTION_VALUE":
      if (message.includes("does not take")) return `Option ${option} takes no value`;
      return `Option ${option} needs a value: one that begins with a dash is written ${option}=-VALUE`;
    default:
      return message.split("\n")[0]!;
  }
}

/** One of `names`. Throws `usage` for anything else. */
export function parseChoice<T extends string>(names: readonly T[]): (text: string) => T {
  return (text) => {
    const found = names.find((name) => name === text);
    if (!found) throw new ShrinkerError("usage", `Cannot parse "${text}": expected one of ${names.join(", ")}`);
    return found;
  };
}
