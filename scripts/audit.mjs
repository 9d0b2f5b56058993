/**
 * `npm run audit`: known vulnerabilities of what is shipped, as the registry knows them.
 * Exit codes: 0 none, 1 some, 2 this registry offers no audit: nothing was checked.
 */
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { stdout, stderr, error } = spawnSync('npm', ['audit', '--omit=dev', '--json'], {
  cwd: root,
  encoding: 'utf8',
});
if (error !== undefined) {
  console.error(`npm cannot be run: ${error.message}`);
  process.exit(2);
}
const report = parsed(stdout);
if (report?.metadata === undefined) {
  const reason = report?.message ?? report?.error?.summary ?? (stderr.trim().split('\n')[0] || 'no answer');
  console.error(`NOT AUDITED: this registry offers no audit (${String(reason).slice(0, 200)}).`);
  console.error('Run it again against a registry that does: npm run audit --registry=URL');
  process.exit(2);
}
const { vulnerabilities } = report.metadata;
const found = Object.entries(vulnerabilities).filter(([level, count]) => level !== 'total' && count > 0);
for (const { name, severity, range } of Object.values(report.vulnerabilities ?? {})) {
  process.stdout.write(`${severity}: ${name} ${range}\n`);
}
process.stdout.write(
  found.length === 0
    ? 'no known vulnerability\n'
    : `${found.map(([level, count]) => `${count} ${level}`).join(', ')}\n`,
);
process.exit(found.length === 0 ? 0 : 1);

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
