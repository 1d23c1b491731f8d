import { PAGE_SIZE } from "../core/content/page.ts";
import type { Difference } from "../core/site/diff.ts";
import type { Estimate } from "../core/site/sample.ts";
import { table } from "./text.ts";
import { formatBytes, formatRate, formatSeconds, formatShare } from "./units.ts";

const pagesOf = (bytes: number) => Math.floor(bytes / PAGE_SIZE);
const bytesOf = ({ ratio, total }: Estimate) => Math.round(ratio * total);
const errorOf = ({ error, total }: Estimate) => Math.round(error * total);

/** What `--json` says of a comparison. @param bandwidth bytes a second */
export function differenceEvent(difference: Difference, bandwidth: number | undefined): object {
  const { plain, zero, same, elsewhere, duplicate, fresh, literal, resent, known, wire } = difference;
  const { contents, literals, digests, frames, total, error } = wire;
  return {
    bytes: { plain, zero, samePlace: same ?? null, elsewhere, duplicate, new: fresh, resent, literal },
    pages: {
      zero: pagesOf(zero),
      samePlace: same === undefined ? null : pagesOf(same),
      elsewhere: pagesOf(elsewhere),
      duplicate: pagesOf(duplicate),
      new: pagesOf(fresh),
      resent: pagesOf(resent),
      known,
    },
    wire: { contents: bytesOf(contents), literals: bytesOf(literals), digests, frames, total, error },
    sample: {
      contents: sampleOf(contents),
      literals: sampleOf(literals),
    },
    ...(bandwidth !== undefined && {
      transfer: { rate: bandwidth, seconds: total / bandwidth, error: error / bandwidth },
    }),
  };
}

function sampleOf({ units, sampled, total, ratio, error }: Estimate) {
  return { units, bytes: sampled, of: total, ratio, error };
}

/** The same for people. */
export function differenceLines(difference: Difference, bandwidth: number | undefined): string[] {
  const { plain, zero, same, elsewhere, duplicate, fresh, literal, resent, known, wire } = difference;
  const row = (name: string, bytes: number) => [
    name,
    formatBytes(bytes),
    String(pagesOf(bytes)),
    formatShare(bytes, plain),
  ];
  const { contents, literals, digests, frames, total, error } = wire;
  const cost = (name: string, bytes: number, uncertain: number, note = "") => [
    name,
    formatBytes(bytes),
    uncertain > 0 ? `± ${formatBytes(uncertain)}` : "",
    note,
  ];
  const uncertain = (text: string, spread: string) => (error > 0 ? `${text} ± ${spread}` : text);
  const notes: string[] = [];
  if (bandwidth !== undefined) {
    const time = uncertain(formatSeconds(total / bandwidth), formatSeconds(error / bandwidth));
    notes.push(`${time} at ${formatRate(bandwidth)}`);
  }
  if (resent > 0)
    notes.push(
      `${formatBytes(resent)} of the new contents are further versions of pages: what crosses is what changed, and less`,
    );
  return [
    ...table([
      ["", "bytes", "pages", ""],
      row("zero", zero),
      same === undefined ? ["there, at the same place", "-", "-", ""] : row("there, at the same place", same),
      row("there, elsewhere", elsewhere),
      row("own duplicates", duplicate),
      row("new", fresh),
      row("in no page", literal),
      row("all", plain),
    ]),
    "",
    ...table([
      ["would cross", "", "", ""],
      cost("new contents", bytesOf(contents), errorOf(contents), sampleNote(contents)),
      cost("in no page", bytesOf(literals), errorOf(literals), sampleNote(literals)),
      cost(`digests of ${known} contents`, digests, 0),
      cost("frames", frames, 0),
      cost("all", total, error, `${formatShare(total, plain)} of plain`),
    ]),
    ...notes,
  ];
}

function sampleNote({ units, sampled, total, ratio, error }: Estimate): string {
  if (total === 0) return "";
  const percent = (part: number) => (100 * part).toFixed(1);
  if (sampled === total) return `compressed to ${percent(ratio)} %`;
  return `compressed to ${percent(ratio)} % ± ${percent(error)}, by ${units} samples of ${formatBytes(sampled)} in all`;
}
