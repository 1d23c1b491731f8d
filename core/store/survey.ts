import { IntegrityError } from "../errors.ts";
import { listPacks, MAX_PACKS, PACK_HEADER, type ScannedGroup, scanPack } from "./pack.ts";

/** Bytes of a pack in which no group can be told. */
export interface Gap {
  readonly offset: number;
  /** Infinity where nothing is known of the rest. */
  readonly end: number;
  readonly why: string;
}

/** What is known of a pack before it is read. */
export interface Expected {
  /** Where groups begin, ascending; asked for only where one is not told by the one before it. */
  known(): readonly number[];
  /** Up to where the index says that there are groups. */
  readonly promised: number;
  /** Whether what lies behind the promised bytes may be the end of a write that was cut off, which is no damage. */
  readonly mayTear: boolean;
}

/** What reading a pack has shown, apart from its groups. */
export interface Survey {
  gaps: Gap[];
  /** From where it was read: its beginning, and behind each gap. */
  starts: number[];
  /** Up to where it was read. */
  end: number;
  size: number;
  /** Where a write was cut off. */
  torn: number | undefined;
}

export function newSurvey(): Survey {
  return { gaps: [], starts: [], end: 0, size: 0, torn: undefined };
}

/** The packs of a folder that an index can name, ascending. */
export async function packsOf(folder: string): Promise<number[]> {
  return (await listPacks(folder)).filter((pack) => pack >= 1 && pack <= MAX_PACKS);
}

/**
 * Reads all groups of a pack that can be told, also behind damage: a group whose body is damaged still says how long it is; where
 * a head is damaged, it goes on where the index knows of a further group. Rejects as `scanPack`, but not for damage.
 */
export async function* surveyPack(
  path: string,
  { known, promised, mayTear }: Expected,
  survey: Survey,
): AsyncGenerator<ScannedGroup, void, undefined> {
  for (let start: number | undefined = 0; start !== undefined; ) {
    survey.starts.push(start);
    let beginning = false;
    try {
      yield* scanPack(path, start, survey);
    } catch (error) {
      if (!(error instanceof IntegrityError)) throw error;
      beginning = true;
    }
    const { end, size } = survey;
    if (end >= size) break;
    const next = beginning ? PACK_HEADER : known().find((offset) => offset > end);
    start = next !== undefined && next < size ? next : undefined;
    const why = beginning ? "its beginning is damaged" : "the head of a group is damaged";
    addGap(survey.gaps, { offset: end, end: start ?? Number.POSITIVE_INFINITY, why });
  }
  const { gaps, size } = survey;
  const rest = gaps.at(-1)?.end === Number.POSITIVE_INFINITY ? gaps.pop()! : undefined;
  if (size < promised) {
    const why = `it is cut short: ${size} bytes are left of at least ${promised}`;
    gaps.push({ offset: rest?.offset ?? survey.end, end: Number.POSITIVE_INFINITY, why });
  } else if (rest && rest.offset >= promised && (mayTear || size < PACK_HEADER)) survey.torn = rest.offset;
  else if (rest) gaps.push(rest);
}

/** Damage that follows at once on other damage is the same. */
function addGap(gaps: Gap[], gap: Gap): void {
  const last = gaps.at(-1);
  if (last?.end === gap.offset) gaps[gaps.length - 1] = { ...last, end: gap.end };
  else gaps.push(gap);
}
