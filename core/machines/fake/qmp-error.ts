export type QmpErrorClass = "GenericError" | "CommandNotFound" | "DeviceNotFound";

/** A command that fails, in QEMU's words. */
export class QmpError extends Error {
  readonly class: QmpErrorClass;
  constructor(message: string, kind: QmpErrorClass = "GenericError") {
    super(message);
    this.name = "QmpError";
    this.class = kind;
  }
}
