import { ShrinkerError } from "../../errors.ts";

/**
 * Faults that a fake VM commits on purpose, at one moment of a migration. docs/fake.md says what each does at either end.
 */
export const FAULT_KINDS = ["die", "stall", "refuse", "corrupt", "hang", "late"] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export const FAULT_POINTS = ["setup", "round", "switchover", "device", "loaded", "cont"] as const;
export type FaultPoint = (typeof FAULT_POINTS)[number];

export interface Fault {
  readonly kind: FaultKind;
  readonly point: FaultPoint;
  /** Which pass over memory, from 1, of the point `round`; else 0. */
  readonly round: number;
}

/** Where each kind makes sense. */
const MEANINGFUL: Record<FaultKind, readonly FaultPoint[]> = {
  die: FAULT_POINTS,
  stall: FAULT_POINTS,
  refuse: ["setup", "switchover", "cont"],
  corrupt: ["round", "switchover", "loaded"],
  hang: ["switchover"],
  late: ["device", "loaded"],
};

const MAX_ROUND = 1000;

/** How late `late` is, in milliseconds. */
export const LATE_MS = 2000;

/** Reads `KIND@POINT`, such as `die@round:2`. Throws `usage` for a kind that has no meaning at that point. */
export function parseFault(text: string): Fault {
  const match = /^([a-z]+)@([a-z]+)(?::(\d{1,4}))?$/.exec(text);
  const kind = FAULT_KINDS.find((known) => known === match?.[1]);
  const point = FAULT_POINTS.find((known) => known === match?.[2]);
  const round = Number(match?.[3] ?? 0);
  if (!kind || !point || (point === "round") !== round > 0 || round > MAX_ROUND)
    throw new ShrinkerError(
      "usage",
      `Cannot parse "${text}": expected KIND@POINT, of the kinds ${FAULT_KINDS.join(", ")} and the points setup, round:N, switchover, device, loaded, cont`,
    );
  if (!MEANINGFUL[kind].includes(point))
    throw new ShrinkerError("usage", `Cannot ${kind} at ${point}: ${kind} is for ${MEANINGFUL[kind].join(", ")}`);
  return { kind, point, round };
}

/** The kinds of fault that are due at this point, each of which happens once only. */
export class FaultPlan {
  #left: Fault[];

  constructor(faults: readonly Fault[]) {
    this.#left = [...faults];
  }

  /** Whether a fault of this kind is due, which thereby has happened. A round that is past is due, too. */
  take(kind: FaultKind, point: FaultPoint, round = 0): boolean {
    const at = this.#left.findIndex((fault) => fault.kind === kind && fault.point === point && fault.round <= round);
    if (at < 0) return false;
    this.#left.splice(at, 1);
    return true;
  }
}
