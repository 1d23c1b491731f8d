import { createECDH, createHash, createPrivateKey } from "node:crypto";
import { keyPair } from "../core/identity/key.ts";
import { type DialSecurity, type ListenSecurity, SERVER_NAME } from "../core/transport/security.ts";

/**
 * The key that everybody has, for transports that have no way to go without TLS, where `insecure` says that nobody has to
 * prove anything. Both ends use it alike, so that an end that wants proof is never mistaken for one that doesn't. Runtimes
 * that can't leave a certificate unverified (Deno) can do this.
 */
const nobody = () => {
  const curve = createECDH("prime256v1");
  curve.setPrivateKey(createHash("sha256").update("shrinker: nobody's key, which everybody has").digest());
  const point = curve.getPublicKey();
  const [d, x, y] = [curve.getPrivateKey(), point.subarray(1, 33), point.subarray(33)].map((part) =>
    part.toString("base64url"),
  );
  return keyPair(createPrivateKey({ key: { kty: "EC", crv: "P-256", d: d!, x: x!, y: y! }, format: "jwk" }));
};

/** Loaded when it is needed: it takes longer than all the rest of a transport. */
const certificates = () => import("../core/identity/certificates.ts");

/** Of a dialler that trusts whoever answers. */
export async function dialAnybody(): Promise<DialSecurity> {
  const { synthesizeAnchor } = await certificates();
  return { anchor: synthesizeAnchor(nobody().word), serverName: SERVER_NAME };
}

/** Of a listener that has nothing to prove. */
export function listenAsNobody(): ListenSecurity {
  return { credentials: async () => (await certificates()).issueLeaf(nobody()) };
}
