import { IntegrityError, ShrinkerError } from "../errors.ts";
import { listPacks, MAX_PACKS, PACK_HEADER, packPath, type ScannedGroup, scanPack } from "./pack.ts";

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

/** The packs of a folder, ascending. Rejects with `input` for one whose number no index could name. */
export async function packsOf(folder: string): Promise<number[]> {
  const packs = await listPacks(folder);
  const alien = packs.find((pack) => pack < 1 || pack > MAX_PACKS);
  if (alien === undefined) return packs;
  throw new ShrinkerError("input", `"${packPath(folder, alien)}" is no pack of this store: move it away`);
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
  const read = { end: 0, size: 0 };
  let groups = 0;
  for (let start = 0; ; ) {
    survey.starts.push(start);
    let beginning = false;
    try {
      for await (const group of scanPack(path, start, read)) {
        groups++;
        yield group;
        survey.end = group.offset;
      }
    } catch (error) {
      if (!(error instanceof IntegrityError)) throw error;
      beginning = true;
    }
    survey.end = Math.max(read.end, start);
    survey.size = read.size;
    if (!beginning && survey.end >= read.size) break;
    const next = beginning ? PACK_HEADER : known().find((offset) => offset > survey.end);
    const why = beginning ? "its beginning is damaged" : "the head of a group is damaged";
    if (next !== undefined && next < read.size) {
      addGap(survey.gaps, { offset: survey.end, end: next, why });
      start = next;
      continue;
    }
    addGap(survey.gaps, { offset: survey.end, end: Number.POSITIVE_INFINITY, why });
    break;
  }
  const rest = survey.gaps.at(-1);
  const end = rest?.end === Number.POSITIVE_INFINITY ? rest.offset : survey.end;
  // A pack that has no whole header never had a group.
  const never = promised === 0 && survey.size < PACK_HEADER;
  if (survey.size < promised) {
    if (end !== survey.end || rest?.offset === end) survey.gaps.pop();
    const why = `it is cut short: it has ${survey.size} bytes of at least ${promised}`;
    survey.gaps.push({ offset: end, end: Number.POSITIVE_INFINITY, why });
  } else if (end < survey.size && end >= promised && (mayTear || never) && (end > 0 || groups === 0)) {
    survey.gaps.pop();
    survey.torn = end;
  }
}

/** Damage that follows at once on other damage is the same. */
function addGap(gaps: Gap[], gap: Gap): void {
  const last = gaps.at(-1);
  if (last?.end === gap.offset) gaps[gaps.length - 1] = { ...last, end: gap.end };
  else gaps.push(gap);
}
