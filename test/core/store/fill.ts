/** Appends to a spool in the folder that is its argument until that fails, and prints the error's code and message. */
import { ContentFile } from "../../../core/store/content-file.ts";

const file = new ContentFile(process.argv[2]!);
const pages = Buffer.alloc(64 * 4096, 1);
try {
  for (let i = 0; i < 64; i++) await file.append(pages, 64);
  console.log("no error");
} catch (error) {
  const { code, message } = error as { code?: string; message: string };
  const page = Buffer.alloc(4096);
  if (file.next > 0) file.read(file.next - 1, 1, page, 0);
  console.log(JSON.stringify({ code, message, held: file.next, last: page[0] }));
}
file.close();
