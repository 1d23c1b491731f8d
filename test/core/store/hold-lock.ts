/** Takes the lock that is its first argument (`exclusive` or `shared` is the second), says so, and holds it until its input ends. */
import { once } from "node:events";
import { takeLock } from "../../../core/files/lock.ts";

try {
  const lock = await takeLock(process.argv[2]!, process.argv[3] === "exclusive", "taken");
  console.log("held");
  process.stdin.resume();
  await once(process.stdin, "end");
  await lock.release();
} catch (error) {
  console.log((error as Error).message);
}
