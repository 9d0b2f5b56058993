/** Everything that must hold before a commit; `--no-tests` leaves the tests out. */
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runNode } from '../bin/launch.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const packageFile = path => join(root, 'node_modules', path);

const STEPS = [
  {
    name: 'format and lint',
    args: [packageFile('@biomejs/biome/bin/biome'), 'check', '--error-on-warnings', '.'],
  },
  { name: 'types', args: [packageFile('typescript/bin/tsc'), '-p', 'tsconfig.json'] },
  { name: 'import rules', args: [packageFile('dependency-cruiser/bin/dependency-cruiser.mjs'), 'src'] },
  { name: 'dependencies', args: [join(root, 'scripts', 'check-dependencies.mjs')] },
  { name: 'dead code', args: [packageFile('knip/bin/knip.js')] },
];

const results = [];

function report(name, isOk, startedAtMs) {
  results.push(isOk);
  const seconds = ((Date.now() - startedAtMs) / 1000).toFixed(1);
  process.stdout.write(`${isOk ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)\n`);
}

for (const { name, args } of STEPS) {
  const startedAtMs = Date.now();
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  if (status !== 0) process.stdout.write(`${stdout}${stderr}`);
  report(name, status === 0, startedAtMs);
}
if (!process.argv.includes('--no-tests')) {
  const startedAtMs = Date.now();
  const { exitCode } = await runNode(process.execPath, [join(root, 'scripts', 'test.mjs')]);
  report('tests', exitCode === 0, startedAtMs);
}
process.exit(results.every(Boolean) ? 0 : 1);
