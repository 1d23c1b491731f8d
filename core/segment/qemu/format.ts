/** Numbers of QEMU's migration stream, version 3, as QEMU's docs/devel/migration and migration/{savevm,ram}.c define them. */

export const MAGIC = 0x5145564d; // "QEVM"
export const VERSION = 3;

/** How a stream begins that goes on with a post-copy (`migrate` with `resume`): COMMAND, which asks for what was received (RECV_BITMAP). */
export const RESUMED = Buffer.of(0x08, 0x00, 0x0a);

/** What a byte at the top level announces. */
export const EOF = 0x00;
export const SECTION_START = 0x01;
export const SECTION_PART = 0x02;
export const SECTION_END = 0x03;
export const SECTION_FULL = 0x04;
export const SUBSECTION = 0x05;
export const VMDESCRIPTION = 0x06;
export const CONFIGURATION = 0x07;
export const COMMAND = 0x08;
export const SECTION_FOOTER = 0x7e;

/** Commands that matter here: one tells of huge pages, the other's data does not stop at the length it states. */
export const COMMAND_POSTCOPY_ADVISE = 3;
export const COMMAND_PACKAGED = 7;

/** The only version of the section "ram" that these records belong to. */
export const RAM_VERSION = 4;

/** A RAM record begins with a page's address (be64), whose low 12 bits are these flags. */
export const RAM_ZERO = 0x02;
export const RAM_MEM_SIZE = 0x04;
export const RAM_PAGE = 0x08;
export const RAM_EOS = 0x10;
export const RAM_CONTINUE = 0x20;
export const RAM_XBZRLE = 0x40;
export const RAM_HOOK = 0x80;
export const RAM_COMPRESSED = 0x100;
export const RAM_MULTIFD_FLUSH = 0x200;

/** Bytes of a record's address and flags. */
export const RECORD_HEADER = 8;

/** Bits of an address that the page size of 4096 takes; the target's page size must be the same. */
export const PAGE_BITS = 12;
