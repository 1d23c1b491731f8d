import { autoCodec } from "../core/engine/auto-codec.ts";
import { CODEC_NAMES, type CodecName, type CodecPolicy, fixedCodec } from "../core/engine/codec-policy.ts";
import { type Options, parseChoice } from "./options.ts";

export function readCompress(options: Options, otherwise: CodecName): CodecName {
  return options.read("compress", parseChoice(CODEC_NAMES)) ?? otherwise;
}

/** What is recorded has no link whose speed could be weighed against the processor's. */
export function chooseCodec(name: CodecName, recorded: boolean): CodecPolicy {
  if (name !== "auto") return fixedCodec(name);
  return recorded ? fixedCodec("zstd") : autoCodec();
}
