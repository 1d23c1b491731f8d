/** What people and scripts write: units, addresses, names, machines, services, fake VMs. */
import fc from "fast-check";
import { findTransport } from "../../../cli/addresses.ts";
import { parseLive } from "../../../cli/live-machines.ts";
import { parseServices } from "../../../cli/services.ts";
import { harmless, jsonLine } from "../../../cli/text.ts";
import { parseAge, parseCount, parseDuration, parseRate, parseSize } from "../../../cli/units.ts";
import { parseFakeSpec } from "../../../core/machines/fake/spec.ts";
import { checkStreamName, parseMachine } from "../../../core/machines/image/name.ts";
import { holdPath } from "../../../core/store/holds.ts";
import { folderName, type Layout } from "../../../core/store/layout.ts";
import { type Parser, parser } from "../parser.ts";

const WORDS = [
  ...[
    "512M",
    "4GiB",
    "12.5MB",
    "100Mbit",
    "45s",
    "90min",
    "30d",
    "1e9",
    "9".repeat(400),
    "0.0000001",
    "-1",
    "Infinity",
  ],
  ...["tcp://", "unix:", "exec:", "file:", "qmp:", "fake:", "nbd:", "127.0.0.1:4747", "[::1]:1", ":99999", "memory:x"],
  ...[
    "=",
    "?",
    "&",
    "%",
    "%41",
    "%zz",
    "/",
    "..",
    ".",
    "~",
    "-",
    ",format=nbd",
    "memory=1M",
    "fail=die@round:2",
    "seed=1",
  ],
  ...[
    "\u001b[31m",
    "\n",
    "\0",
    "\u202e",
    "\u2028",
    "\ud800",
    "ü",
    "a",
    "web",
    " ",
    "__proto__",
    "constructor",
    "a".repeat(300),
  ],
];
/** What is right, as the readers want it: beginnings of what is changed. */
const RIGHT = ["45s", "7", "30d", "2min", "512M", "100Mbit", "web=unix:/run/web.in", "web=tcp:127.0.0.1:80,format=nbd"];
const texts = fc.oneof(
  fc.constantFrom(...RIGHT),
  fc.array(fc.constantFrom(...WORDS), { maxLength: 6 }).map((words) => words.join("")),
  fc.string({ unit: "binary", maxLength: 40 }),
);

/** What a terminal would obey, or a line could be broken by. */
const UNSAFE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/u;
const positive = (value: number) => {
  if (!(value >= 0 && Number.isFinite(value))) throw new Error(`${value} was read`);
};

const READERS: Readonly<Record<string, (text: string) => unknown>> = {
  size: (text) => positive(parseSize(text)),
  rate: (text) => positive(parseRate(text)),
  age: (text) => positive(parseAge(text)),
  duration: (text) => positive(parseDuration(text)),
  count: (text) => positive(parseCount(text, 64)),
  address: findTransport,
  listening: (text) => parseServices([text, "x=unix:/a"], "listens"),
  dialling: (text) => parseServices([text.replace(/,format=.*/, "")], "dials"),
  machine: parseMachine,
  guest: (text) => parseLive([text]),
  fake: (text) => parseFakeSpec(text, { size: parseSize }),
  name(text) {
    const name = checkStreamName(text);
    if (/[/\0]/.test(name) || UNSAFE.test(name) || name === "." || name === "..") throw new Error(`${name} is a name`);
  },
  hold(text) {
    const path = holdPath({ holds: "/holds" } as Layout, text);
    if (path !== `/holds/${text}.hold`) throw new Error(`a hold is at ${path}`);
  },
  domain(text) {
    if (!/^[A-Za-z0-9%_-]{1,100}$/.test(folderName(text))) throw new Error("a domain's folder has another name");
  },
  shown(text) {
    if (UNSAFE.test(harmless(text)) || UNSAFE.test(jsonLine({ [text]: text })))
      throw new Error("a terminal would obey");
    if (Object.keys(JSON.parse(jsonLine({ [text]: 1 })))[0] !== text && text.isWellFormed())
      throw new Error("JSON was changed");
  },
};

export const textParsers: readonly Parser[] = Object.entries(READERS).map(([name, read]) =>
  parser(`texts: ${name}`, texts, read, { codes: name === "shown" ? [] : ["usage", "refused"], runs: 150 }),
);
