// What needs no process of its own: options, verdicts, progress, and text that must do no harm.
import { describe, expect, test } from "bun:test";
import { asError, exitCode, verdict } from "../../cli/exit.ts";
import { parseChoice, readOptions } from "../../cli/options.ts";
import { describer } from "../../cli/progress.ts";
import { harmless, jsonLine, table } from "../../cli/text.ts";
import { noCounters } from "../../core/engine/counters.ts";
import { ERROR_CODES, ShrinkerError } from "../../core/errors.ts";

const SPECS = [
  { name: "output", value: "DIR", text: "" },
  { name: "spool-limit", value: "SIZE", text: "" },
  { name: "json", text: "" },
  { name: "no-progress", text: "" },
];
const read = (argv: string[], env: Record<string, string> = {}) => readOptions(argv, SPECS, env);

describe("options", () => {
  test("stay the text that was given", () => {
    expect(read(["--output", "007"]).options.text("output")).toBe("007");
    expect(read(["--output=1e3"]).options.text("output")).toBe("1e3");
    expect(read(["--output", "-"]).options.text("output")).toBe("-");
  });

  test("a flag leaves what follows it alone", () => {
    const { args, options } = read(["--json", "007", "-", "--no-progress", "true"]);
    expect(args).toEqual(["007", "-", "true"]);
    expect(options.flag("json")).toBe(true);
    expect(options.flag("no-progress")).toBe(true);
  });

  test("behind -- everything is an argument", () => {
    expect(read(["--json", "--", "--output", "-x"]).args).toEqual(["--output", "-x"]);
  });

  test.each([
    [["--bogus"], "Unknown option --bogus"],
    [["-x"], "Unknown option -x"],
    [["--output"], "Option --output needs a value"],
    [["--output", "--json"], "Option --output needs a value"],
    [["--json=1"], "Option --json takes no value"],
  ])("%j is a usage error", (argv, message) => {
    expect(() => read(argv as string[])).toThrow(message as string);
  });

  test("come from the environment where the command line is silent", () => {
    const env = { SHRINKER_OUTPUT: "there", SHRINKER_JSON: "1", SHRINKER_NO_PROGRESS: "0", SHRINKER_SPOOL_LIMIT: "" };
    const { options } = read([], env);
    expect(options.text("output")).toBe("there");
    expect(options.flag("json")).toBe(true);
    expect(options.flag("no-progress")).toBe(false);
    expect(options.text("spool-limit")).toBe(undefined);
    expect(options.given("output")).toBe(false);
    expect(read(["--output", "here"], env).options.text("output")).toBe("here");
    expect(() => read([], { SHRINKER_JSON: "maybe" }).options.flag("json")).toThrow("SHRINKER_JSON");
  });

  test("an error names where the value came from", () => {
    const choice = parseChoice(["a", "b"]);
    expect(() => read(["--output", "c"]).options.read("output", choice)).toThrow('--output: Cannot parse "c"');
    expect(() => read([], { SHRINKER_OUTPUT: "c" }).options.read("output", choice)).toThrow("SHRINKER_OUTPUT: ");
  });
});

describe("verdicts", () => {
  const failed = (name: string, code: ShrinkerError["code"]) => ({
    name,
    landed: false,
    error: { code, message: `no ${name}` },
  });
  const landed = (name: string) => ({ name, landed: true });

  test("all landed is no error, none landed the first one, some landed is partial", () => {
    expect(verdict([landed("a"), landed("b")], undefined)).toBe(undefined);
    expect(verdict([failed("a", "exists"), failed("b", "space")], undefined)?.code).toBe("exists");
    const partial = verdict([landed("a"), failed("b", "space")], undefined);
    expect(partial?.code).toBe("partial");
    expect(partial?.message).toContain('"b" did not: no b');
  });

  test("what broke the session counts", () => {
    const broke = new ShrinkerError("link", "cut");
    expect(verdict([], broke)).toBe(broke);
    expect(verdict([{ name: "a", landed: false }], broke)).toBe(broke);
    expect(verdict([landed("a"), { name: "b", landed: false }], broke)?.message).toContain("cut");
    expect(verdict([landed("a")], broke)?.code).toBe("partial");
  });

  test("with --all-or-nothing the cause is told, not its consequence", () => {
    expect(verdict([failed("a", "partial"), failed("b", "exists")], undefined)?.code).toBe("exists");
  });

  test("every error has its exit code", () => {
    const codes = ERROR_CODES.map((code) => [code, exitCode(new ShrinkerError(code, ""))]);
    expect(Object.fromEntries(codes)).toEqual({
      usage: 2,
      input: 3,
      refused: 4,
      link: 5,
      integrity: 6,
      exists: 7,
      space: 8,
      partial: 9,
      cancelled: 5,
      unsettled: 10,
      timeout: 11,
      bug: 70,
    });
    expect(exitCode(undefined)).toBe(0);
    expect(asError(new TypeError("oops")).code).toBe("bug");
  });
});

describe("progress", () => {
  const gauge = (done: number, total: number | undefined) => ({
    phase: "sending",
    counters: { ...noCounters(), plain: done },
    wire: done / 4,
    done,
    total,
  });

  test("never runs backwards, nor beyond its end", () => {
    const describe = describer();
    const seen = [100, 400, 200, 900, 1200].map((done, i) => describe(gauge(done, 1000), i + 1).percent);
    expect(seen).toEqual([10, 40, 40, 90, 100]);
  });

  test("tells rate and remaining time", () => {
    const describe = describer();
    const { rate, left, text } = describe(gauge(250_000, 1_000_000), 1);
    expect(rate).toBe(250_000);
    expect(left).toBe(3);
    expect(text).toContain("sending 25 %");
    expect(text).toContain("3.0 s left");
  });

  test("promises nothing where the end is unknown", () => {
    expect(describer()(gauge(250_000, undefined), 1)).toMatchObject({ percent: null, left: null });
  });
});

describe("text from outside", () => {
  const evil = "a\x1b[2Jb\nc\u202ed\x9b";
  const unsafe = /[\p{Cc}\p{Bidi_Control}]/u;

  test("does no harm on a terminal", () => {
    expect(harmless(evil)).toBe("a\\u{1b}[2Jb\\u{a}c\\u{202e}d\\u{9b}");
    expect(harmless("Žluťoučký 🐎")).toBe("Žluťoučký 🐎");
  });

  test("does none as JSON, and is still the same text", () => {
    expect(unsafe.test(jsonLine({ evil }))).toBe(false);
    expect(JSON.parse(jsonLine({ evil }))).toEqual({ evil });
  });

  test("columns line up", () => {
    expect(
      table([
        ["a", "1"],
        ["bcd", "200"],
      ]),
    ).toEqual(["a      1", "bcd  200"]);
  });
});
