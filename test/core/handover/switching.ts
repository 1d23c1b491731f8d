/** Fake VMs taught post-copy's commands, which they otherwise refuse: each test says what they do. */
import { COMMANDS, type QmpCommand } from "../../../core/machines/fake/commands.ts";
import type { FakeVm } from "../../../core/machines/fake/fake-vm.ts";
import { MigrationRecord } from "../../../core/machines/fake/migration-record.ts";

/** What `query-migrate` says from now on, whatever the fake does. */
export function pretend(vm: FakeVm, status: string): void {
  const { migration } = vm.parts;
  MigrationRecord.prototype.set.call(migration, status as never);
  migration.set = () => {};
}

/** Has every fake allow post-copy, and serve these commands so until it is disposed of. */
export function teach(vms: readonly FakeVm[], commands: Record<string, QmpCommand["run"]>): Disposable {
  const all = COMMANDS as Map<string, QmpCommand>;
  const before = new Map([...all].filter(([name]) => name in commands));
  for (const [name, run] of Object.entries(commands)) all.set(name, { ...before.get(name)!, run });
  for (const { parts } of vms) {
    const set = parts.capabilities.set.bind(parts.capabilities);
    parts.capabilities.set = (states) => set(states.filter(({ capability }) => !capability.startsWith("postcopy")));
  }
  return {
    [Symbol.dispose]() {
      for (const [name, command] of before) all.set(name, command);
    },
  };
}
