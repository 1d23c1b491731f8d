import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { writeWhole } from "../../../core/files/whole.ts";
import { folderName, listDomains, openLayout, readIdentity, writeIdentity } from "../../../core/store/layout.ts";
import { failure, range, type TempFolder, tempFolder } from "./contents.ts";

let folder: TempFolder;
let dir: string;
beforeEach(() => {
  folder = tempFolder();
  dir = join(folder.path, "store");
});
afterEach(() => folder[Symbol.dispose]());

describe("a domain's folder", () => {
  test.each([
    ["default", "default"],
    ["A-z_09", "A-z_09"],
    [".", "%2e"],
    ["..", "%2e%2e"],
    ["../../etc", "%2e%2e%2f%2e%2e%2fetc"],
    ["a b", "a%20b"],
    ["%41", "%2541"],
    ["~!*'()", "%7e%21%2a%27%28%29"],
    ["é€𝄞", "%c3%a9%e2%82%ac%f0%9d%84%9e"],
    ["\0\n", "%00%0a"],
    ["CON:", "CON%3a"],
  ])("of %j is called %s", (domain, name) => expect(folderName(domain)).toBe(name));

  test("is a plain name of its own, whatever the domain is", () => {
    const domain = fc.oneof(fc.string({ minLength: 1, unit: "binary" }), fc.string({ minLength: 1, maxLength: 300 }));
    fc.assert(
      fc.property(domain, domain, (one, other) => {
        const names = [one, other].map(folderName);
        for (const name of names) expect(name).toMatch(/^[A-Za-z0-9%_-]{1,100}$/);
        expect(names[0] === names[1]).toBe(one === other);
      }),
      { numRuns: 500 },
    );
  });

  test("of a long one is called by its digest", () => {
    expect(folderName("x".repeat(100))).toBe("x".repeat(100));
    const long = "x".repeat(101);
    expect(folderName(long)).toBe(createHash("sha256").update(long).digest("hex"));
    expect(folderName("é".repeat(17))).toHaveLength(64);
  });

  test("can't be had for what is no text", () => {
    for (const domain of ["", "\ud800", "a\udc00b"]) expect(() => folderName(domain)).toThrow("domain");
  });
});

describe("a store's folder", () => {
  const parts = ["holds", "index", "logs", "packs", "site", "snapshots"];

  test("is made where it is to be written, for nobody else to read", async () => {
    const deep = join(dir, "deep");
    const layout = await openLayout(deep, "a/b", true);
    expect(layout.folder).toBe(join(deep, "domains", "a%2fb"));
    expect(readFileSync(join(deep, "shrinker-store"), "utf8")).toBe("version 1\n");
    expect(readdirSync(layout.folder).sort()).toEqual(parts);
    for (const path of [deep, join(deep, "domains"), layout.folder, layout.packs, layout.holds])
      expect(statSync(path).mode & 0o777).toBe(0o700);
    for (const path of [join(deep, "shrinker-store"), join(layout.folder, "site")])
      expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await openLayout(deep, "a/b", false)).toEqual(layout);
    expect(await listDomains(deep)).toEqual(["a/b"]);
  });

  test("is made where there is nothing but what a file system, or an attempt, has left", async () => {
    mkdirSync(join(dir, "lost+found"), { recursive: true });
    writeFileSync(join(dir, "shrinker-store.0123456789ab.new"), "vers");
    await openLayout(dir, "test", true);
    expect(await listDomains(dir)).toEqual(["test"]);
  });

  test("is not made of what is something else", async () => {
    mkdirSync(dir);
    writeFileSync(join(dir, "photo.jpg"), "");
    const full = await failure(openLayout(dir, "test", true));
    expect([full.code, full.message]).toEqual(["input", expect.stringContaining("not empty")]);
    expect(readdirSync(dir)).toEqual(["photo.jpg"]);
    const file = await failure(openLayout(join(dir, "photo.jpg"), "test", true));
    expect([file.code, file.message]).toEqual(["input", expect.stringContaining("photo.jpg")]);
    // To be read there has to be one.
    for (const path of [dir, join(dir, "photo.jpg"), join(dir, "none")])
      expect((await failure(openLayout(path, "test", false))).code).toBe("input");
    expect((await failure(listDomains(dir))).code).toBe("input");
    expect(readdirSync(dir)).toEqual(["photo.jpg"]);
  });

  test("of another version is refused, one that can't be told is damaged", async () => {
    await openLayout(dir, "test", true);
    for (const [text, code] of [
      ["version 2\n", "refused"],
      ["version 999999999\n", "refused"],
      ["version 0\n", "refused"],
      ["", "integrity"],
      ["version 1", "integrity"],
      ["version one\n", "integrity"],
      ["version 1\nversion 2\n", "integrity"],
      ["x".repeat(100_000), "integrity"],
    ] as const) {
      writeFileSync(join(dir, "shrinker-store"), text);
      for (const write of [false, true]) expect((await failure(openLayout(dir, "test", write))).code).toBe(code);
      expect((await failure(listDomains(dir))).code).toBe(code);
    }
  });

  test("that several make at once becomes one", async () => {
    const make = async (domain: string) => {
      const layout = await openLayout(dir, domain, true);
      return { layout, first: await readIdentity(layout) };
    };
    const made = await Promise.all(range(0, 12).map((i) => make(i % 2 === 0 ? "even" : "odd")));
    const layouts = made.map(({ layout }) => layout);
    const before = made.map(({ first }) => first);
    for (const [i, layout] of layouts.entries()) expect(await readIdentity(layout)).toEqual(before[i]!);
    for (const i of range(2, 10)) expect(before[i]).toEqual(before[i % 2]!);
    expect(before[0]!.site).not.toEqual(before[1]!.site);
    expect(readdirSync(layouts[0]!.folder).sort()).toEqual(parts);
    expect(await listDomains(dir)).toEqual(["even", "odd"]);
  });
});

describe("an identity", () => {
  test("stays as it was written", async () => {
    const layout = await openLayout(dir, "test", true);
    const made = await readIdentity(layout);
    await openLayout(dir, "test", true);
    expect(await readIdentity(layout)).toEqual(made);
    const next = { site: made.site, generation: Buffer.alloc(16, 0xab) };
    await writeIdentity(layout, next);
    expect(await readIdentity(layout)).toEqual(next);
    expect(JSON.parse(readFileSync(join(layout.folder, "site"), "utf8"))).toEqual({
      domain: "test",
      site: made.site.toString("hex"),
      generation: "ab".repeat(16),
    });
  });

  test("that is damaged is said to be so, with the remedy; and that helps", async () => {
    const layout = await openLayout(dir, "test", true);
    const path = join(layout.folder, "site");
    const right = readFileSync(path, "utf8");
    for (const text of [
      "",
      "no json",
      "null",
      "[]",
      "{}",
      right.slice(0, 60),
      right.replace("test", "other"),
      right.replace(/"site":"../, '"site":"'),
      right.replace(/"site":"../, '"site":"XY'),
      right.replace('"generation"', '"generations"'),
      `${right}${" ".repeat(5000)}`,
    ]) {
      writeFileSync(path, text);
      const error = await failure(readIdentity(layout));
      expect([error.code, error.message]).toEqual([
        "integrity",
        expect.stringContaining(`"${path}" is damaged: remove`),
      ]);
    }
    writeFileSync(path, "no json");
    expect(await listDomains(dir)).toEqual([]);
    rmSync(path);
    expect((await failure(readIdentity(layout))).code).toBe("input");
    await openLayout(dir, "test", true);
    expect((await readIdentity(layout)).site).toHaveLength(16);
  });

  test("that is not there means that the store has nothing of the domain", async () => {
    await openLayout(dir, "test", true);
    const error = await failure(readIdentity(await openLayout(dir, "other", false)));
    expect([error.code, error.message]).toEqual(["input", `The store "${dir}" holds nothing of the domain "other"`]);
  });
});

describe("a file that is written whole", () => {
  test("replaces another, and leaves nothing beside it", async () => {
    const path = join(folder.path, "file");
    await writeWhole(path, [Buffer.from("one"), Buffer.from(" two")]);
    await writeWhole(path, [Buffer.from("three")]);
    expect(readFileSync(path, "utf8")).toBe("three");
    mkdirSync(join(folder.path, "folder"));
    const error = await failure(writeWhole(join(folder.path, "folder"), [Buffer.from("x")]));
    expect(error.message).toContain(join(folder.path, "folder"));
    expect(readdirSync(folder.path).sort()).toEqual(["file", "folder"]);
    expect((await failure(writeWhole(join(folder.path, "none", "file"), []))).code).toBe("input");
  });
});
