/** What `--json` says of the protocol that carries a connection, where its transport has several; else nothing. */
export function carried({ carrier }: { readonly carrier?: string | undefined }): { readonly carrier?: string } {
  return carrier === undefined ? {} : { carrier };
}

/** The same for people, after an address. */
export function overCarrier({ carrier }: { readonly carrier?: string | undefined }): string {
  return carrier === undefined ? "" : `, over ${carrier}`;
}
