import { expect, test } from "bun:test";
import { ShrinkerError } from "../../../../core/errors.ts";
import { checkSocketPath } from "../../../../core/machines/qemu/socket-path.ts";

test("a socket's path has 107 bytes at most, and none of them is zero", () => {
  checkSocketPath(`/${"x".repeat(106)}`);
  checkSocketPath(`/x${"ü".repeat(52)}x`);
  for (const path of [`/${"x".repeat(107)}`, `/x${"ü".repeat(53)}`, "", "/a\0b"]) {
    const error = (() => {
      try {
        return checkSocketPath(path);
      } catch (thrown) {
        return thrown as ShrinkerError;
      }
    })();
    expect(error).toBeInstanceOf(ShrinkerError);
    expect(error!.code).toBe("usage");
  }
});
