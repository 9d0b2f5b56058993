import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, inject, test } from 'vitest';
import { temporaryFolder, until } from './support.ts';

const root = resolve(import.meta.dirname, '../../..');

/** A small project with our own scripts, and an npm that links the packages of this clone and keeps count. */
function smallClone() {
  const folder = temporaryFolder();
  const clone = join(folder, 'clone');
  const sources = ['src/domain/errors.ts', 'src/domain/plain-words.ts', 'src/contract/fence.ts'];
  for (const name of ['bin', 'scripts', 'tsconfig.json', 'tsconfig.build.json', ...sources]) {
    cpSync(join(root, name), join(clone, name), { recursive: true });
  }
  cpSync(join(root, 'src/dev/temporal-cli.ts'), join(clone, 'src/dev/temporal-cli.ts'));
  writeFileSync(
    join(clone, 'src/starter.ts'),
    `process.stdout.write(\`\${process.argv.slice(2).join()}\\n\`);\n`,
  );
  writeFileSync(join(clone, 'package.json'), '{ "type": "module" }');
  writeFileSync(join(clone, 'package-lock.json'), '{ "packages": {} }');
  const npmLog = join(folder, 'npm.log');
  const npmPids = join(folder, 'npm.pids');
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  const packages = ['node', 'typescript', '@types', 'undici-types']
    .map(name => `ln -sfn ${join(root, 'node_modules', name)} node_modules/${name}`)
    .join('\n');
  writeFileSync(
    join(bin, 'npm'),
    `#!/bin/sh\necho "$@" >> ${npmLog}\necho $$ >> ${npmPids}\nrm -rf node_modules; mkdir node_modules; sleep 0.5\n${packages}\n`,
  );
  chmodSync(join(bin, 'npm'), 0o755);
  const env = {
    PATH: `${bin}:${process.env.PATH}`,
    HOME: folder,
    OFFSITE_TEMPORAL_CLI: inject('temporalCliPath'),
  };
  const linesOf = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : []);
  return {
    ...{ clone, bin, env },
    npmCalls: () => linesOf(npmLog).length,
    npmPids: () => linesOf(npmPids).map(Number),
  };
}

type Clone = ReturnType<typeof smallClone>;

function start(
  { clone, env }: Clone,
  ...args: string[]
): { child: ChildProcess; ended: Promise<number | null>; text: () => string } {
  const child = spawn(process.execPath, args, { cwd: clone, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => {
      output += chunk;
    });
  }
  const ended = new Promise<number | null>(done => child.once('close', done));
  return { child, ended, text: () => output };
}

function run(clone: Clone, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    cwd: clone.clone,
    env: clone.env,
    encoding: 'utf8',
  });
  return { status, output: stdout + stderr };
}

/** Of one that has ended and was not waited for nothing is left to run. */
function isRunning(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

const bootstrap = (clone: Clone) => run(clone, 'scripts/bootstrap.mjs');

describe('bootstrap', () => {
  test('two at once install and build once; then there is nothing to do; then only what changed is done', async () => {
    const clone = smallClone();
    const both = [start(clone, 'scripts/bootstrap.mjs'), start(clone, 'scripts/bootstrap.mjs')];
    expect(await Promise.all(both.map(one => one.ended))).toEqual([0, 0]);
    const texts = both.map(one => one.text()).sort((a, b) => a.length - b.length);
    expect(texts).toEqual(
      [
        'Another start is setting up this folder; waiting for it ...\n',
        'Installing packages (npm ci) ...\nBuilding ...\n',
      ].sort((a, b) => a.length - b.length),
    );
    expect(clone.npmCalls()).toBe(1);

    expect(bootstrap(clone)).toEqual({ status: 0, output: '' });

    const before = realpathSync(join(clone.clone, 'dist'));
    appendFileSync(join(clone.clone, 'src/starter.ts'), 'process.exitCode = 5;\n');
    expect(bootstrap(clone)).toEqual({ status: 0, output: 'Building ...\n' });
    expect(clone.npmCalls()).toBe(1);
    // Who still runs the build before keeps it.
    expect(existsSync(join(before, 'starter.js'))).toBe(true);
    expect(realpathSync(join(clone.clone, 'dist'))).not.toBe(before);
    expect(lstatSync(join(clone.clone, 'dist')).isSymbolicLink()).toBe(true);

    writeFileSync(join(clone.clone, 'package-lock.json'), '{ "packages": {}, "changed": true }');
    expect(bootstrap(clone).output).toBe('Installing packages (npm ci) ...\nBuilding ...\n');
    expect(clone.npmCalls()).toBe(2);

    rmSync(join(clone.clone, 'src/dev'), { recursive: true });
    run(clone, 'scripts/run24.mjs', 'scripts/build.mjs');
    expect(readdirSync(join(clone.clone, 'dist/dev'))).toEqual([]);
  });

  test('a start that was killed holds nobody up, and what it left half done is done again', async () => {
    const clone = smallClone();
    const first = start(clone, 'scripts/bootstrap.mjs');
    await until('it installs', () => first.text().includes('Installing'));
    first.child.kill('SIGKILL');
    await first.ended;
    const second = bootstrap(clone);
    expect(second).toEqual({ status: 0, output: 'Installing packages (npm ci) ...\nBuilding ...\n' });
  });

  test('the npm of a start that was killed does not go on beside that of the next', async () => {
    const clone = smallClone();
    const npm = join(clone.bin, 'npm');
    const sound = readFileSync(npm, 'utf8');
    const late = join(clone.clone, 'late');
    // A child of npm, as its install scripts are, writes long after.
    writeFileSync(npm, `${sound}(sleep 2; touch ${late}) &\nsleep 600\n`);
    const first = start(clone, 'scripts/bootstrap.mjs');
    await until(
      'npm runs',
      () => clone.npmPids().length === 1 && existsSync(join(clone.clone, '.cache/npm.json')),
    );
    first.child.kill('SIGKILL');
    await first.ended;
    const [orphan = 0] = clone.npmPids();
    expect(isRunning(orphan)).toBe(true);
    writeFileSync(npm, sound);
    expect(bootstrap(clone).status).toBe(0);
    expect(isRunning(orphan)).toBe(false);
    expect(clone.npmCalls()).toBe(2);
    await sleep(2_500);
    expect(existsSync(late)).toBe(false);
    expect(bootstrap(clone)).toEqual({ status: 0, output: '' });
  });

  test('the command works at once on a fresh clone', () => {
    const clone = smallClone();
    const { status, output } = run(clone, 'bin/offsite.mjs', 'schedule', '--json');
    expect(output).toBe('schedule,--json\nInstalling packages (npm ci) ...\nBuilding ...\n');
    expect(status).toBe(0);
  });

  test.each([
    ['no npm', null, 'npm was not found. Install npm'],
    [
      'no network',
      'echo "npm error code EAI_AGAIN" >&2; exit 1',
      'the npm registry is out of reach (EAI_AGAIN)',
    ],
    ['another failure', 'echo "npm error because" >&2; exit 1', 'npm ci failed. The lines above say why.'],
  ])('says in one line what stops it: %s', (_, npm, line) => {
    const clone = smallClone();
    const path = join(clone.bin, 'npm');
    if (npm === null) {
      rmSync(path);
      clone.env.PATH = clone.bin;
    } else {
      writeFileSync(path, `#!/bin/sh\n${npm}\n`);
    }
    const { status, output } = bootstrap(clone);
    expect(status).toBe(1);
    expect(output.trimEnd().split('\n').at(-1)).toContain(`offsite: ${line}`);
  });

  test('type errors and a wrong Temporal setting stop it with the reason', () => {
    const clone = smallClone();
    const starter = join(clone.clone, 'src/starter.ts');
    const text = readFileSync(starter, 'utf8');
    writeFileSync(starter, 'export const wrong: number = "text";\n');
    const broken = bootstrap(clone);
    expect(broken.status).toBe(1);
    expect(broken.output).toContain('src/starter.ts(1,14): error TS2322');
    expect(broken.output).toContain('offsite: the build failed.');
    writeFileSync(starter, text);
    clone.env.OFFSITE_TEMPORAL_CLI = dirname(clone.bin);
    const { status, output } = bootstrap(clone);
    expect(status).toBe(1);
    expect(output).toContain(`offsite: OFFSITE_TEMPORAL_CLI names ${dirname(clone.bin)}, which does not run`);
  });
});
