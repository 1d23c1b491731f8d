import { cac } from "cac";
import { commands } from "./commands.ts";
import { variableOf } from "./options.ts";

const NOTE = {
  title: "Environment",
  body: `  An option's default may come from a variable, such as ${variableOf("spool-limit")} for --spool-limit`,
};

/** Prints the help of one command, or of the program. */
export function printHelp(name: string | undefined): void {
  const cli = cac("shrinker");
  cli.help((sections) => [...sections.filter(({ title }) => !title?.startsWith("For more")).map(tidy), NOTE]);
  cli.option("--version", "Display the version");
  for (const { name, args, text, options, examples } of commands) {
    const command = cli.command(`${name} ${args}`, text).usage(`${name} ${args} [options]`);
    for (const { name, short, value, text } of options) {
      const names = short ? `-${short}, --${name}` : `--${name}`;
      command.option(value ? `${names} <${value}>` : names, text);
    }
    for (const example of examples) command.example(`  ${example}`);
  }
  const command = cli.commands.find((command) => command.isMatched(name ?? ""));
  (command ?? cli.globalCommand).outputHelp();
}

/** cac takes `--no-progress` for the opposite of an option that is on by default. */
function tidy({ title, body }: { title?: string; body: string }) {
  return { ...(title && { title }), body: body.replaceAll(" (default: true)", "").replace(/ +$/gm, "") };
}
