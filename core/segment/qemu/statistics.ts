import type { RamBlock } from "./blocks.ts";
import type { Progress } from "./grammar.ts";
import type { QemuBlockStatistics, QemuStatistics } from "./observer.ts";
import type { Ram } from "./ram.ts";

export function collectStatistics(ram: Ram, progress: Progress, offset: number): QemuStatistics {
  const { list, others } = ram.blocks;
  return {
    state: progress.state,
    ...(progress.reason === undefined ? {} : { lost: { reason: progress.reason, offset } }),
    blocks: list.map(describeBlock),
    pages: list.reduce((sum, block) => sum + block.pages, others.pages),
    zeroRecords: list.reduce((sum, block) => sum + block.zeros, others.zeros),
    xbzrle: ram.xbzrle,
    compressed: ram.compressed,
  };
}

function describeBlock({ name, length, pages, zeros }: RamBlock): QemuBlockStatistics {
  return { name, length, pages, zeros };
}
