/**
 * The engine as a library: moves byte streams between two processes over any `Connection`, each distinct content once.
 * Transports are exported by `shrinker/transports`.
 */
export { type Opened, openAge } from "./age/decrypt.ts";
export { encryptTo } from "./age/encrypt.ts";
export { type AgeIdentity, type AgeRecipient, parseIdentities, parseRecipient } from "./age/keys.ts";
export { autoCodec } from "./engine/auto-codec.ts";
export type { ContentBroker } from "./engine/broker.ts";
export { CODEC_NAMES, type CodecName, type CodecPolicy, fixedCodec } from "./engine/codec-policy.ts";
export type { Counters } from "./engine/counters.ts";
export { acceptSession, type DestinationOptions, type DestinationSession } from "./engine/destination-session.ts";
export type { Agreement } from "./engine/handshake.ts";
export { type ContentStatistics, countContents } from "./engine/inspect.ts";
export type { ContentKeeper } from "./engine/keeper.ts";
export type { LinkListener } from "./engine/link.ts";
export { LINK_TIMES, type LinkTimes } from "./engine/link-times.ts";
export { type MigrationOptions, type StreamOutcome, sendAll } from "./engine/migration.ts";
export type { ReceivedStream } from "./engine/received-streams.ts";
export type { Redial } from "./engine/reconnect.ts";
export { ResumableSessions, ResumedSession } from "./engine/resumable.ts";
export type { SentStream } from "./engine/sender.ts";
export type { RecordingSigner } from "./engine/signature.ts";
export type { DestinationSite, PastContents, SiteKnowledge, SiteMemory } from "./engine/site.ts";
export { openSession, type SourceOptions, type SourceSession } from "./engine/source-session.ts";
export {
  CancelledError,
  ERROR_CODES,
  type ErrorCode,
  IntegrityError,
  LinkError,
  ProtocolError,
  ShrinkerError,
} from "./errors.ts";
export { type IndexFile, readIndexFile, writeIndexFile } from "./index/index-file.ts";
export { memoryIndex } from "./index/memory.ts";
export { PrefixTable, PrefixTableBuilder, prefixIndex } from "./index/prefix-table.ts";
export type { SiteIndex } from "./index/site-index.ts";
export { checkStreamName, type NamedSpec, parseMachine } from "./machines/image/name.ts";
export { type ImageSpec, openImage } from "./machines/image/source.ts";
export { standardOutputTarget } from "./machines/image/stdout.ts";
export { type DirectoryOptions, directoryTarget } from "./machines/image/target.ts";
export type {
  BytePiece,
  HolePiece,
  Piece,
  StreamInfo,
  StreamSink,
  StreamSource,
  StreamTarget,
} from "./machines/machine.ts";
export type { QemuObserver, QemuSection, QemuState, QemuStatistics } from "./segment/qemu/observer.ts";
export { createQemuSegmenter, type QemuSegmenter } from "./segment/qemu.ts";
export { segmentFormats, sniffFormat } from "./segment/registry.ts";
export { MAX_HELD, NO_KEY, type Segmenter, type SegmentFormat, type SegmentSink } from "./segment/segmenter.ts";
export { listSnapshots, type Manifest, readManifest, snapshotPath } from "./site/manifest.ts";
export { nothingHere } from "./site/nothing.ts";
export { type SeedFile, Seeds } from "./site/seeds.ts";
export { SharedStore } from "./site/shared-store.ts";
export { type SiteMemoryOptions, siteMemory } from "./site/site-memory.ts";
export { openStoreSite, type SiteParts } from "./site/store-site.ts";
export { Store, type StoreOptions } from "./store/store.ts";
export { type CountedConnection, countBytes } from "./transport/count.ts";
export { limitRate } from "./transport/limit.ts";
export type { Credentials, DialSecurity, ListenSecurity } from "./transport/security.ts";
export {
  type Address,
  type Connection,
  type DialOptions,
  type Listener,
  type ListenOptions,
  type PeerIdentity,
  type Permissions,
  parseAddress,
  type Transport,
  type TransportRegistry,
} from "./transport/transport.ts";
