import type { VmDescription } from "./description.ts";

const MIB = 2 ** 20;

/**
 * What keeps a guest from going on at a destination: sentences that say what to do, none where nothing is known to. Devices
 * can't be compared: QEMU tells by loading.
 */
export function compatible(source: VmDescription, destination: VmDescription): string[] {
  const against: string[] = [];
  const differs = (what: string, here: string, there: string, remedy: string) => {
    if (here !== there)
      against.push(`${what} ${here} at the source and ${there} at the destination: start that QEMU with ${remedy}`);
  };
  differs("The machine is", source.machine, destination.machine, `-machine ${source.machine}`);
  differs("The memory is", mib(source), mib(destination), `-m ${source.ramBytes / MIB}`);
  differs("The number of processors is", `${source.vcpus}`, `${destination.vcpus}`, `-smp ${source.vcpus}`);
  if (source.cpuModel !== undefined && destination.cpuModel !== undefined)
    differs("The processor is", source.cpuModel, destination.cpuModel, `-cpu ${source.cpuModel}`);

  const { qemu: from } = source;
  const { qemu: to } = destination;
  if (to.major < from.major || (to.major === from.major && to.minor < from.minor)) {
    against.push(
      `The destination's QEMU ${to.major}.${to.minor} is older than the source's: install ${from.major}.${from.minor} or later there`,
    );
  }
  return against;
}

const mib = ({ ramBytes }: VmDescription) => `${ramBytes / MIB} MiB`;
