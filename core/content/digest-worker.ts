/** The worker thread that digest-host.ts starts: nothing but a digest server at its port. */
import { parentPort } from "node:worker_threads";
import { digestServer } from "./digest-server.ts";

const port = parentPort!;
port.on(
  "message",
  digestServer((reply, transfer) => port.postMessage(reply, transfer)),
);
port.postMessage("ready");
