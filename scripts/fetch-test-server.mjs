/**
 * Fetches Temporal's test server, which can skip time, with what it needs: jars, through Maven, into .cache. Only
 * `npm run test:year` needs it. Each file must be the one that SHA256SUMS names; nothing else may be there.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = join(dirname(fileURLToPath(import.meta.url)), 'test-server');
const cache = join(dirname(dirname(here)), '.cache');
const target = join(cache, 'temporal-test-server');
const COPY = 'org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies';

const wanted = new Map(
  readFileSync(join(here, 'SHA256SUMS'), 'utf8')
    .trim()
    .split('\n')
    .map(line => line.split(/\s+/).toReversed()),
);

/** @returns what is wrong with the folder, null when it holds exactly the wanted files */
function faultIn(folder) {
  if (!existsSync(folder)) return 'nothing was fetched yet';
  const names = readdirSync(folder);
  const stranger = names.find(name => !wanted.has(name));
  if (stranger !== undefined) return `${stranger} is not one of those that are wanted`;
  for (const [name, sha256] of wanted) {
    if (!names.includes(name)) return `${name} is missing`;
    const found = createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex');
    if (found !== sha256) return `${name} is not the file that is wanted`;
  }
  return null;
}

function fail(message, hint) {
  console.error(`offsite: ${message}. ${hint}`);
  process.exit(1);
}

function requireTool(command, args, debianPackage) {
  if (spawnSync(command, args).error === undefined) return;
  fail(`the simulated year needs ${command}`, `apt-get install -y ${debianPackage}`);
}

requireTool('java', ['-version'], 'openjdk-17-jre-headless');
if (faultIn(target) !== null) {
  requireTool('mvn', ['-version'], 'maven');
  console.error("Fetching Temporal's test server ...");
  const fresh = `${target}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  const args = ['-q', '-B', '-f', join(here, 'pom.xml'), COPY, '-DincludeScope=runtime'];
  const { status, stdout } = spawnSync('mvn', [...args, `-DoutputDirectory=${fresh}`], { encoding: 'utf8' });
  if (status !== 0) fail('Maven did not fetch the test server', `Its words:\n${stdout.trim()}`);
  const fault = faultIn(fresh);
  if (fault !== null) fail(fault, 'Compare with scripts/test-server/SHA256SUMS.');
  rmSync(target, { recursive: true, force: true });
  renameSync(fresh, target);
}
