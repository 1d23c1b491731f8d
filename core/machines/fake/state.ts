import * as v from "valibot";
import { ProtocolError } from "../../errors.ts";
import { fakeSpec, PATTERNS } from "./spec.ts";

/** The version of the section `fake`, which holds a guest's state as JSON behind a be32 length. */
export const STATE_VERSION = 1;

/** More than any state has. */
export const MAX_STATE = 4096;

/** The run states in which a guest can be migrated. */
export const STATES_TO_KEEP = ["running", "paused", "prelaunch"] as const;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const schema = v.object({
  memory: count,
  dirty: count,
  pattern: v.picklist(PATTERNS),
  base: v.string(),
  private: count,
  zero: v.number(),
  workingSet: count,
  seed: count,
  sequence: v.pipe(count, v.maxValue(2 ** 32)),
  runState: v.picklist(STATES_TO_KEEP),
});

/** What tells all of a guest's memory, how it goes on, and whether it ran. Sizes as in a spec. */
export type GuestState = v.InferOutput<typeof schema>;

export function encodeState(state: GuestState): Buffer {
  return Buffer.from(JSON.stringify(state));
}

/** Throws a `ProtocolError` for what is no state of a guest. */
export function decodeState(bytes: Uint8Array): GuestState {
  try {
    const state = v.parse(schema, JSON.parse(Buffer.from(bytes).toString()));
    fakeSpec("incoming", { ...state, faults: [] });
    return state;
  } catch (error) {
    throw new ProtocolError(`The section "fake" holds no guest's state: it comes from another program or version`, {
      cause: error,
    });
  }
}
