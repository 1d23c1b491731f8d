import { ShrinkerError } from "../core/errors.ts";
import type { CommandSpec } from "./command.ts";
import { commands } from "./commands.ts";
import { asError, exitCode } from "./exit.ts";
import { printHelp } from "./help.ts";
import { type Options, readOptions } from "./options.ts";
import { createOutput, type Output } from "./output.ts";
import { watchSignals } from "./signals.ts";
import { emptySummary, sessionEvent } from "./summary.ts";
import { version } from "./version.ts";

/**
 * Runs the command line.
 * @param argv what stands behind the program
 * @returns the exit code
 */
export async function run(argv: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<number> {
  const plain = createOutput({ json: false, quiet: false, dataOnStdout: false });
  const end = argv.includes("--") ? argv.indexOf("--") : argv.length;
  const asks = (...names: string[]) => argv.slice(0, end).some((arg) => names.includes(arg));
  const [name, ...rest] = argv;
  const spec = commands.find((command) => command.name === name);
  if (asks("--help", "-h") || name === "help") {
    printHelp(name === "help" ? rest[0] : name);
    return 0;
  }
  if (asks("--version", "-v") && !spec) {
    plain.result([`shrinker ${version}`]);
    return 0;
  }
  if (!spec) {
    const names = commands.map((command) => command.name).join(", ");
    const message = name === undefined ? "No command" : `Unknown command "${name}"`;
    plain.error(new ShrinkerError("usage", `${message}: use one of ${names}; see shrinker --help`));
    return exitCode(new ShrinkerError("usage", message));
  }
  let parsed: { args: string[]; options: Options };
  try {
    parsed = readOptions(rest, spec.options, env);
    return await runCommand(spec, parsed.args, parsed.options);
  } catch (thrown) {
    return fail(asks("--json") ? createOutput({ json: true, quiet: false, dataOnStdout: false }) : plain, thrown);
  }
}

async function runCommand(spec: CommandSpec, args: string[], options: Options): Promise<number> {
  const json = options.flag("json");
  const output = createOutput({
    json,
    quiet: options.flag("quiet"),
    dataOnStdout: spec.dataOnStdout?.(options) ?? false,
  });
  const interrupt = watchSignals();
  try {
    const action = await spec.load();
    return await action({ args, options, output, interrupt });
  } catch (thrown) {
    const code = fail(output, thrown);
    return interrupt.code ?? code;
  }
}

function fail(output: Output, thrown: unknown): number {
  const error = asError(thrown);
  output.error(error);
  output.event({ type: "summary", ...sessionEvent(emptySummary(error)) });
  return exitCode(error);
}
