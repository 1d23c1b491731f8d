import * as v from "valibot";
import { text } from "../../wire/map.ts";
import type { QmpClient } from "./qmp.ts";
import { ask } from "./reply.ts";

const capabilitiesSchema = v.pipe(v.array(v.object({ capability: text(256), state: v.boolean() })), v.maxLength(1024));
const parametersSchema = v.record(text(256), v.unknown());

/** An integer that a number can't hold is kept by its digits: libvirt's limits go up to 2^63. */
export type SettingValue = boolean | number | string | { readonly integer: string };

/** Some of QEMU's settings of migrations. Plain, so that a journal can keep it as JSON. */
export interface MigrationSettings {
  readonly capabilities: Readonly<Record<string, boolean>>;
  readonly parameters: Readonly<Record<string, SettingValue>>;
}

/** What QEMU says of a parameter; undefined for a list or a map, which this tool leaves alone. */
function toSetting(value: unknown): SettingValue | undefined {
  if (typeof value === "bigint") return { integer: `${value}` };
  return typeof value === "boolean" || typeof value === "number" || typeof value === "string" ? value : undefined;
}

/**
 * All settings as they are. What a QEMU doesn't know is not in there; nor is a parameter that nobody has set and that has
 * no default, such as `tls-creds` of an old QEMU.
 */
export async function readSettings(qmp: QmpClient): Promise<MigrationSettings> {
  const [capabilities, parameters] = await Promise.all([
    ask(qmp, capabilitiesSchema, "query-migrate-capabilities"),
    ask(qmp, parametersSchema, "query-migrate-parameters"),
  ]);
  return {
    capabilities: Object.fromEntries(capabilities.map(({ capability, state }) => [capability, state])),
    parameters: Object.fromEntries(
      Object.entries(parameters).flatMap(([name, value]) => {
        const setting = toSetting(value);
        return setting === undefined ? [] : [[name, setting] as const];
      }),
    ),
  };
}

/** Those of `settings` that `others` have too. */
export function common(settings: MigrationSettings, others: MigrationSettings): MigrationSettings {
  const pick = <T>(from: Readonly<Record<string, T>>, like: object) =>
    Object.fromEntries(Object.entries(from).filter(([name]) => Object.hasOwn(like, name)));
  return {
    capabilities: pick(settings.capabilities, others.capabilities),
    parameters: pick(settings.parameters, others.parameters),
  };
}

/**
 * Makes settings so, also those that `readSettings` has given: all of them must be known to this QEMU. Rejects with a
 * `QmpError` for what QEMU doesn't take; capabilities can't be changed while a migration is under way.
 */
export async function writeSettings(qmp: QmpClient, { capabilities, parameters }: MigrationSettings): Promise<void> {
  const states = Object.entries(capabilities).map(([capability, state]) => ({ capability, state }));
  // Together: QEMU checks what goes with what.
  if (states.length > 0) await qmp.execute("migrate-set-capabilities", { capabilities: states });
  const values = Object.entries(parameters).map(
    ([name, value]) => [name, typeof value === "object" ? BigInt(value.integer) : value] as const,
  );
  if (values.length > 0) await qmp.execute("migrate-set-parameters", Object.fromEntries(values));
}
