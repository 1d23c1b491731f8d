import type { OptionSpec, Options } from "./options.ts";
import type { Output } from "./output.ts";
import type { Interrupt } from "./signals.ts";

export interface Invocation {
  /** What stands behind the command and is no option. */
  readonly args: readonly string[];
  readonly options: Options;
  readonly output: Output;
  readonly interrupt: Interrupt;
}

/** Runs a command; resolves with its exit code. What it throws is reported, and is the exit code, too. */
export type Action = (invocation: Invocation) => Promise<number>;

export interface CommandSpec {
  readonly name: string;
  /** Behind the name, in the help. */
  readonly args: string;
  readonly text: string;
  readonly options: readonly OptionSpec[];
  readonly examples: readonly string[];
  /** Whether stdout carries a stream or a bundle, so that words have to go to stderr. */
  dataOnStdout?(options: Options): boolean;
  /** Loaded when it is run, so that `--help` is quick. */
  load(): Promise<Action>;
}
