import { expect, test } from "bun:test";
import { snapshotPath } from "../../../core/site/manifest.ts";
import { openLayout } from "../../../core/store/layout.ts";
import { tempFolder } from "../store/contents.ts";

test("the name of a snapshot is one of a stream, of 200 bytes", async () => {
  using folder = tempFolder();
  const layout = await openLayout(folder.path, "test", true);
  const name = "\u00e9".repeat(100);
  expect(snapshotPath(layout, name).endsWith(`/${name}.snapshot`)).toBe(true);
  for (const other of [`${name}x`, "a/b", "a\nb", "..", ""])
    expect(() => snapshotPath(layout, other)).toThrow(expect.objectContaining({ code: "refused" }));
});
