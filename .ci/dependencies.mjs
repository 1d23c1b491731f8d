/**
 * Checks what is installed: every dependency is one exact version, with the digest of what the registry gave when it was chosen; and none
 * that is shipped has a known vulnerability of severity high or critical, where the registry tells.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

const read = (name) => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), "utf8"));
const EXACT = /^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$/;
const faults = [];

const manifest = read("package.json");
for (const kind of ["dependencies", "devDependencies", "optionalDependencies", "overrides"]) {
  for (const [name, version] of Object.entries(manifest[kind] ?? {}))
    if (!EXACT.test(version)) faults.push(`package.json: ${kind} has "${name}" as "${version}", not one exact version`);
}
const locked = Object.entries(read("package-lock.json").packages).filter(([path, { link }]) => path !== "" && !link);
for (const [path, { integrity, resolved }] of locked) {
  if (!integrity?.startsWith("sha512-")) faults.push(`package-lock.json: ${path} has no SHA-512`);
  // Without an address it comes from the registry that is set.
  if (resolved && !resolved.startsWith("https://registry.npmjs.org/"))
    faults.push(`package-lock.json: ${path} is from ${resolved}`);
}
const shipped = locked.filter(([, { dev }]) => !dev).length;
console.log(`${locked.length} packages are pinned, ${shipped} of them shipped`);

const audit = spawnSync("npm", ["audit", "--omit=dev", "--json"], { encoding: "utf8", timeout: 60_000 });
let report;
try {
  report = JSON.parse(audit.stdout);
} catch {}
if (report?.auditReportVersion === undefined) {
  console.log(
    `The registry offers no audit, which is left out: ${report?.message ?? audit.error?.message ?? "it gives no reason"}`,
  );
} else {
  const severe = Object.values(report.vulnerabilities).filter(({ severity }) => /^(high|critical)$/.test(severity));
  for (const { name, severity, range } of severe) faults.push(`${name} ${range} has a vulnerability: ${severity}`);
  console.log(`audited: ${severe.length} of severity high or critical`);
}

for (const fault of faults) console.error(fault);
process.exitCode = faults.length > 0 ? 1 : 0;
