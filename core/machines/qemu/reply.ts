import * as v from "valibot";
import { ProtocolError } from "../../errors.ts";
import type { ExecuteOptions, QmpClient } from "./qmp.ts";
import { words } from "./qmp-errors.ts";

/** What a query returns, once it has the shape that it should have; else rejects with a `ProtocolError` that names the field. */
export async function ask<S extends v.GenericSchema>(
  qmp: QmpClient,
  schema: S,
  command: string,
  args: Readonly<Record<string, unknown>> = {},
  options: ExecuteOptions = {},
): Promise<v.InferOutput<S>> {
  const result = v.safeParse(schema, await qmp.execute(command, args, options));
  if (result.success) return result.output;
  const [issue] = result.issues;
  const where = v.getDotPath(issue) ?? "value";
  throw new ProtocolError(`QEMU's reply to "${command}" has a bad ${where}: ${words(issue.message).slice(0, 200)}`);
}
