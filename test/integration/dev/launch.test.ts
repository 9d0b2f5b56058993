import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { exitOf, isRunning, temporaryFolder, until } from './support.ts';

const root = resolve(import.meta.dirname, '../../..');

/** Starts run24.mjs under `node` with a script of the given text; what it prints is collected. */
function launch(text: string, args: readonly string[] = [], env: NodeJS.ProcessEnv = process.env) {
  const script = join(temporaryFolder(), 'script.mjs');
  writeFileSync(script, text);
  const child = spawn(process.execPath, [join(root, 'scripts', 'run24.mjs'), script, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env,
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const launched = { child, output: '' };
  child.stdout.on('data', chunk => {
    launched.output += chunk;
  });
  return launched;
}

const STAYS = 'console.log(process.pid); setInterval(() => {}, 60_000);';
const says = (signal: string): string =>
  `process.on('${signal}', () => { console.log('${signal}'); process.exit(7); });`;

async function pidPrinted(launched: { child: ChildProcess; output: string }): Promise<number> {
  await until('the script has started', () => launched.output.endsWith('\n'));
  return Number(launched.output.split('\n')[0]);
}

test('runs the script on Node 24 with its arguments and stdio, and exits with its code', async () => {
  const text = `
    process.stdin.on('data', chunk => { process.stdout.write(chunk); });
    process.stdin.on('end', () => { console.log(process.version, ...process.argv.slice(2)); process.exitCode = 3; });`;
  const launched = launch(text, ['a b', '--c']);
  launched.child.stdin?.end('typed\n');
  expect(await exitOf(launched.child)).toEqual({ code: 3, signal: null });
  expect(launched.output).toMatch(/^typed\nv24\.\d+\.\d+ a b --c\n$/);
});

test('a script that is done ends by itself, though a channel ties it to its parent', async () => {
  expect(await exitOf(launch('').child)).toEqual({ code: 0, signal: null });
});

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('passes %s on, and waits for the end', async signal => {
  const launched = launch(says(signal) + STAYS);
  const pid = await pidPrinted(launched);
  launched.child.kill(signal);
  expect(await exitOf(launched.child)).toEqual({ code: 7, signal: null });
  expect(launched.output).toBe(`${pid}\n${signal}\n`);
});

test('ends by the signal that ended the script', async () => {
  const launched = launch(STAYS);
  process.kill(await pidPrinted(launched), 'SIGKILL');
  expect(await exitOf(launched.child)).toEqual({ code: null, signal: 'SIGKILL' });
});

test('the script gets SIGTERM when its launcher is killed by SIGKILL', async () => {
  const mark = join(temporaryFolder(), 'mark');
  const handler = `process.on('SIGTERM', () => { fs.writeFileSync(${JSON.stringify(mark)}, ''); process.exit(0); });`;
  const launched = launch(`import fs from 'node:fs'; ${handler} ${STAYS}`);
  const pid = await pidPrinted(launched);
  launched.child.kill('SIGKILL');
  await until('it has ended', () => !isRunning(pid));
  expect(existsSync(mark)).toBe(true);
});

test('under `npm start` the script gets SIGTERM when npm is killed by SIGKILL', async () => {
  const script = join(temporaryFolder(), 'script.mjs');
  writeFileSync(script, STAYS);
  const npm = `
    const command = ${JSON.stringify(`${process.execPath} ${join(root, 'scripts', 'run24.mjs')} ${script}; true`)};
    require('child_process').spawn('sh', ['-c', command], { stdio: 'inherit' });`;
  const child = spawn(process.execPath, ['-e', npm], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, npm_lifecycle_event: 'start' },
  });
  const launched = { child, output: '' };
  child.stdout.on('data', chunk => {
    launched.output += chunk;
  });
  const pid = await pidPrinted(launched);
  child.kill('SIGKILL');
  await until('it has ended', () => !isRunning(pid));
});
