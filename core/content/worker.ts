/** The worker thread that worker-host.ts starts: it serves what comes to its port, and nothing else. */
import { parentPort } from "node:worker_threads";
import { serveWork } from "./worker-server.ts";

const port = parentPort!;
port.on(
  "message",
  serveWork((reply, transfer) => port.postMessage(reply, transfer)),
);
port.postMessage("ready");
