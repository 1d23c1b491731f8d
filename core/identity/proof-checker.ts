import { ShrinkerError } from "../errors.ts";
import type { PeerIdentity } from "../transport/transport.ts";
import type { AuthorizedPeer } from "./authorized-peers.ts";
import { type Identity, ownWords } from "./identity.ts";
import { SeenProofs } from "./nonces.ts";
import { type Proof, readProof } from "./proof.ts";

/** What a listener makes of proofs. One for each listener: each proof is good once. */
export class ProofChecker {
  readonly #seen = new SeenProofs();
  readonly #identity: () => Promise<Identity>;
  readonly #authorized: () => Promise<ReadonlyMap<string, AuthorizedPeer>>;
  readonly #note: (line: string) => void;

  constructor(
    identity: () => Promise<Identity>,
    authorized: () => Promise<ReadonlyMap<string, AuthorizedPeer>>,
    note: (line: string) => void = () => {},
  ) {
    this.#identity = identity;
    this.#authorized = authorized;
    this.#note = note;
  }

  /**
   * Who it is that gives this proof. Rejects in words that a peer may hear: with `refused`, which to somebody who may not come says
   * no more than that, and with `link` where that can't be told now.
   */
  async check(bytes: Buffer, now = Date.now()): Promise<PeerIdentity> {
    const proof = readProof(bytes, now);
    const peer = await this.#find(proof);
    if (!peer) throw new ShrinkerError("refused", `The key ${proof.key} is not authorized here`);
    const { key, name, permissions, expires } = peer;
    if (!ownWords(await this.#identity(), new Date(now)).includes(proof.server))
      throw new ShrinkerError("refused", `That proof of identity is for ${proof.server}, which is not this receiver`);
    if (expires !== undefined && expires.getTime() <= now)
      throw new ShrinkerError("refused", `The authorization of "${name}" here has expired`);
    this.#seen.admit(proof, name, now);
    if (key !== proof.key)
      this.#note(`${name} has a new key, which its old one vouches for: authorize ${proof.key} instead`);
    return { key: proof.key, name, permissions };
  }

  /** By today's key, or one that it has succeeded. */
  async #find({ key, before }: Proof): Promise<AuthorizedPeer | undefined> {
    const peers = await this.#authorized().catch((error: Error) => {
      // As while somebody edits it: nobody's session is to end by that.
      this.#note(error.message);
      throw new ShrinkerError("link", "This receiver can't tell now who may come: try again later, or ask there");
    });
    return [key, ...before].map((word) => peers.get(word)).find((peer) => peer !== undefined);
  }
}
