/** The transports as a library, and what has the ends of a link know each other (docs/security.md). */
export { type AuthorizedPeer, parseAuthorizedPeers } from "../core/identity/authorized-peers.ts";
export { type Identity, loadIdentity, newIdentity, rotate, saveIdentity } from "../core/identity/identity.ts";
export { authorityOf, type KnownPeers, parseKnownPeers } from "../core/identity/known-peers.ts";
export { AuthorizedPeers, loadKnownPeers } from "../core/identity/peer-files.ts";
export { transports } from "./registry.ts";
export { secureTransport, type Trust } from "./secure.ts";
export { stripedTransport } from "./striped.ts";
