import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { writeConfig } from '../../../src/config/write-config.ts';
import { awaiting } from '../../support/e2e-faults.ts';

const WORKER = fileURLToPath(new URL('../../../src/worker.ts', import.meta.url));
const SECRET = 'h0rse-battery';
const folder = mkdtempSync(join(tmpdir(), 'offsite-secrets-'));

afterAll(() => rmSync(folder, { recursive: true }));

const address = () => new URL(inject('postgresUrl')).host;

/** Runs a worker until it has said `word` or ended. @returns all that it said */
async function whatIsSaid(url: string, word: string): Promise<string> {
  const configPath = join(folder, 'b.yaml');
  await writeConfig(configPath, {
    site: 'b',
    node: 'b1',
    dataDir: folder,
    database: { url: 'postgres://db/placeholder' },
    temporal: { address: '127.0.0.1:1' },
    logLevel: 'trace',
    metrics: { listen: '127.0.0.1:0' },
    replica: { listen: '127.0.0.1:0' },
  });
  const environment = { ...process.env, OFFSITE_DEBUG: '1', OFFSITE_DATABASE_URL: url };
  const worker = spawn(process.execPath, [WORKER, '--config', configPath], { env: environment });
  const ended = new Promise(resolve => worker.once('exit', resolve));
  let said = '';
  for (const stream of [worker.stdout, worker.stderr]) stream.on('data', text => (said += text));
  try {
    await awaiting(word, () => said.includes(word) || worker.exitCode !== null, 20_000);
  } finally {
    worker.kill('SIGTERM');
    await ended;
  }
  return said;
}

describe('a worker that cannot reach its database', () => {
  it('tells of a wrong password without the password or the address that holds it', async () => {
    const said = await whatIsSaid(`postgres://postgres:${SECRET}@${address()}/postgres`, 'does not answer');
    expect(said).toContain('password authentication failed');
    expect(said).not.toContain(SECRET);
    expect(said).not.toContain('postgres://');
  });

  it('tells of an address that cannot be read without showing it', async () => {
    const said = await whatIsSaid(`postgres://postgres:${SECRET}@db:port/postgres`, 'cannot be read');
    expect(said).toContain('cannot be read');
    expect(said).not.toContain(SECRET);
    expect(said).not.toContain('postgres://');
  });
});
