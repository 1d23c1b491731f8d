import { asError, exitCode } from "./exit.ts";
import { createOutput, flushOutput } from "./output.ts";
import { run } from "./run.ts";

/** What nobody awaited went wrong: there is no telling in what state things are. */
function crash(thrown: unknown): void {
  const error = asError(thrown);
  createOutput({ json: false, quiet: true, dataOnStdout: true }).error(error);
  process.exit(exitCode(error));
}

process.on("uncaughtException", crash);
process.on("unhandledRejection", crash);
const code = await run(process.argv.slice(2));
await flushOutput();
// Not by itself: a read of stdin that nobody waits for would keep the process.
process.exit(code);
