import type { LiveSpec } from "./live-machines.ts";

export interface StartedGuests {
  readonly sockets: readonly { readonly name: string | undefined; readonly qmp: string }[];
  close(): Promise<void>;
}

/** Starts the fake guests among these, in this process, and tells the QMP sockets of all. */
export async function startFakes(
  specs: readonly LiveSpec[],
  _folder: string,
  _options: { readonly incoming: boolean },
): Promise<StartedGuests> {
  return { sockets: specs.map(({ name, rest }) => ({ name, qmp: rest })), close: async () => {} };
}
