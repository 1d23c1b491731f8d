import { ShrinkerError } from "../core/errors.ts";
import { formatAuthorizedPeer, parseAuthorizedPeers } from "../core/identity/authorized-peers.ts";
import { current, type Identity, loadIdentity, newIdentity, rotate, saveIdentity } from "../core/identity/identity.ts";
import { parsePoint } from "../core/identity/key.ts";
import { authorityOf, parseKnownPeers, withKnownPeer } from "../core/identity/known-peers.ts";
import { readPeerFile, writePeerFile } from "../core/identity/peer-files.ts";
import { findTransport } from "./addresses.ts";
import type { Action, Invocation } from "./command.ts";
import { authorizedPeersPath, identityPath, knownPeersPath, openIdentity, readPassphrase } from "./trust.ts";
import { formatTime } from "./units.ts";

/** What a peer's line may say of it, in its order. */
const PERMISSIONS = ["name", "domains", "services", "vms", "max-sessions", "memory", "rate", "expires"] as const;

/** Makes, shows and rotates this end's key, and notes those of others. */
export const identity: Action = async (invocation) => {
  const { args, options } = invocation;
  const ways = ["rotate", "pin", "authorize"].filter((name) => options.given(name));
  if (ways.length > 1) throw new ShrinkerError("usage", `One at a time: --${ways[0]} or --${ways[1]}`);
  const stray = PERMISSIONS.find((name) => options.given(name));
  if (stray !== undefined && !options.given("authorize"))
    throw new ShrinkerError("usage", `--${stray} is for --authorize KEY`);
  if (options.given("pin")) return await pin(invocation);
  if (args.length > 0) throw new ShrinkerError("usage", `Unknown argument "${args[0]}"`);
  if (options.given("authorize")) return await authorize(invocation);
  return options.flag("rotate") ? await rotateIdentity(invocation) : await makeOrShow(invocation);
};

async function makeOrShow({ options, output }: Invocation): Promise<number> {
  const path = identityPath(options);
  const passphrase = await readPassphrase(options);
  const there = await loadIdentity(path, async () => {
    if (passphrase !== undefined) return passphrase;
    throw new ShrinkerError("usage", `"${path}" is encrypted: give SHRINKER_PASSPHRASE, or --passphrase-file FILE`);
  });
  const identity = there ?? newIdentity();
  if (!there) {
    await saveIdentity(path, identity, passphrase);
    output.note(`made a new identity, ${passphrase === undefined ? "" : "encrypted, "}at ${path}`);
  }
  show(identity, path, there ? "shown" : "made", output);
  return 0;
}

async function rotateIdentity({ options, output }: Invocation): Promise<number> {
  const path = identityPath(options);
  const young = rotate(await openIdentity(options));
  await saveIdentity(path, young, await readPassphrase(options));
  output.note(
    "who has pinned or authorized the old key is told of the new one, for 90 days; receivers that run show it within a minute",
  );
  show(young, path, "rotated", output);
  return 0;
}

function show(identity: Identity, path: string, did: string, output: Invocation["output"]): void {
  const before = current(identity.successions).map(({ from, notAfter }) => ({
    key: from,
    until: notAfter.toISOString(),
  }));
  // Nothing else on stdout: scripts take it from there.
  output.result([identity.word]);
  for (const { key, until } of before) output.note(`${key} vouches for it until ${formatTime(Date.parse(until))}`);
  output.event({ type: "identity", did, key: identity.word, path, before });
}

async function pin({ args, options, output }: Invocation): Promise<number> {
  const [key, ...others] = args;
  const { address, transport } = findTransport(options.text("pin")!);
  if (key === undefined || others.length > 0)
    throw new ShrinkerError("usage", "Which key? Give --pin ADDRESS KEY, as `shrinker identity` shows it there");
  if (!transport.authenticates)
    throw new ShrinkerError("usage", `${address.scheme}: has no keys: it stays on this machine, or is a command's`);
  parsePoint(key);
  const path = knownPeersPath(options);
  const authority = authorityOf(address);
  const text = (await readPeerFile(path))?.text ?? "";
  const before = parseKnownPeers(text, path).get(authority);
  await writePeerFile(path, withKnownPeer(text, authority, key));
  output.note(
    before === undefined || before === key ? `pinned, in ${path}` : `pinned instead of ${before}, in ${path}`,
  );
  output.event({ type: "pinned", peer: authority, key, path, ...(before !== undefined && { before }) });
  return 0;
}

async function authorize({ options, output }: Invocation): Promise<number> {
  const key = options.text("authorize")!;
  parsePoint(key);
  const path = authorizedPeersPath(options);
  const said = PERMISSIONS.flatMap((name) => {
    const value = options.given(name) ? options.text(name) : undefined;
    if (value !== undefined && /[\s#]/.test(value))
      throw new ShrinkerError("usage", `--${name} takes no spaces: "${value}"`);
    return value === undefined ? [] : [[name, value] as const];
  });
  if (!options.given("name")) throw new ShrinkerError("usage", "What is that peer called? Give --name NAME");
  const before = (await readPeerFile(path))?.text ?? "";
  const others = before.split("\n").filter((line) => line.trim().split(/\s+/)[0] !== key);
  while (others.at(-1) === "") others.pop();
  const text = [...others, formatAuthorizedPeer(key, said), ""].join("\n");
  // As a listener will read it: a line that is wrong would keep everybody out.
  const { name } = parseAuthorizedPeers(text, path).get(key)!;
  await writePeerFile(path, text);
  output.note(`authorized, in ${path}`);
  output.event({ type: "authorized", key, name, path });
  return 0;
}
