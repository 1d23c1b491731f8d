// docs/limits.md says of each bound where it is enforced and what tests it: both have to be there.
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..");

interface Row {
  readonly line: number;
  readonly cells: Readonly<Record<string, string>>;
}

/** The rows of all tables, by the names of their columns. */
function rowsOf(markdown: string): Row[] {
  const rows: Row[] = [];
  let names: string[] | undefined;
  markdown.split("\n").forEach((text, i) => {
    if (!text.startsWith("|")) {
      names = undefined;
      return;
    }
    const cells = text
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
    if (!names) names = cells;
    else if (!cells.every((cell) => /^-+$/.test(cell))) {
      // A row that has lost a cell, or has one too many, would have its cells under wrong names.
      expect([i + 1, cells.length]).toEqual([i + 1, names.length]);
      rows.push({ line: i + 1, cells: Object.fromEntries(names.map((name, at) => [name, cells[at]!])) });
    }
  });
  return rows;
}

const quoted = (cell: string) => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text!);

/** Paths below the root; one that isn't there is beside the one before it, or in a folder above that. */
function pathsOf(cell: string): string[] {
  let beside = "";
  return quoted(cell).map((text) => {
    const path = [text, join(beside, text), join(beside, "..", text)].find((at) => existsSync(join(ROOT, at))) ?? text;
    beside = dirname(path);
    return path;
  });
}

const rows = rowsOf(readFileSync(join(ROOT, "docs", "limits.md"), "utf8"));

test("what enforces each bound is there, or is another program", () => {
  const wrong = rows.flatMap(({ line, cells: { where } }) => {
    if (where === undefined) return [];
    if (quoted(where).length === 0)
      return /\b(Bun|Deno|QEMU|qemu-nbd|Linux)\b/.test(where) ? [] : [{ line, what: where }];
    return pathsOf(where)
      .filter((path) => !existsSync(join(ROOT, path)))
      .map((what) => ({ line, what }));
  });
  expect(wrong).toEqual([]);
});

test("what tests each bound is there", () => {
  const tested = rows.filter(({ cells }) => cells.test !== undefined);
  expect(tested.length).toBeGreaterThan(60);
  const wrong = tested.flatMap(({ line, cells }) => {
    const { where = "", test: cell = "" } = cells;
    const files = quoted(cell);
    // What is another program's has no test here.
    const theirs =
      quoted(where).length === 0 || /\b(Bun|Deno|runtimes|package|URL)\b/.test(Object.values(cells).join());
    if (files.length === 0 && !theirs) return [{ line, what: cell }];
    return files
      .filter((file) => !/^[\w./-]+\.test\.ts$/.test(file) || !existsSync(join(ROOT, "test", file)))
      .map((what) => ({ line, what }));
  });
  expect(wrong).toEqual([]);
});
