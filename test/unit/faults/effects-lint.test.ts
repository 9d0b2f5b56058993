import { describe, expect, it } from 'vitest';
import { createEffectsLint } from './effects-lint.ts';

const lint = createEffectsLint();
const BAD = 'src/images/bad.ts';

/** The effects of a snippet that the lint finds to be without a point, as `line name`. */
function unwrapped(text: string, path = BAD): string[] {
  const { violations } = lint({ [path]: text });
  return violations
    .filter(({ rule, what }) => rule === 'effect without a fault point' && what.startsWith(`${path}:`))
    .map(({ what }) => what.slice(path.length + 1));
}

describe('the side effects of src/', { timeout: 300_000 }, () => {
  it('stand at fault points, each point at one effect', () => {
    const { violations, effectCount } = lint();
    expect(violations).toEqual([]);
    expect(effectCount).toBeGreaterThan(40);
  });
});

describe('the lint finds', { timeout: 300_000 }, () => {
  it('files that are written, synced, renamed, linked or removed', () => {
    const text = `import { rename as move, open, type FileHandle } from 'node:fs/promises';
      import * as fs from 'node:fs';
      export async function bad(file: FileHandle, flags: 'r' | 'a') {
        await move('a', 'b');
        await file.datasync();
        fs.unlinkSync('a');
        await open('a', 'w');
        await open('a', flags);
        await open('a', 'r');
        return fs.promises.readFile('a');
      }`;
    expect(unwrapped(text)).toEqual(['4 rename', '5 datasync', '6 unlinkSync', '7 open', '8 open']);
  });

  it('an effect that is handed on, and one behind promisify', () => {
    const text = `import { write, fsync } from 'node:fs';
      import { promisify } from 'node:util';
      const writeAt = promisify(write);
      export const sync = fsync;
      export const put = (fd: number, bytes: Buffer) => writeAt(fd, bytes, 0, 1, 0);`;
    expect(unwrapped(text)).toEqual(['4 fsync', '5 writeAt']);
  });

  it('statements and transactions outside of the helper, and not those within', () => {
    const text = `import { type Database, inTransaction, type Transaction } from './database.ts';
      const SQL = 'update hosts set ident = 1';
      export async function bad(db: Database, either: Database | Transaction) {
        await db('hosts').where({ id: 1 }).update({ ident: 'x' });
        await db.raw('delete from hosts');
        await db.raw(SQL);
        await db.transaction(async trx => trx('hosts').delete());
        await either('hosts').insert({});
        await db('hosts').where({ id: 1 }).select('ident', db.raw('count(*)'));
        await inTransaction(db, 'replica.commit.finishTask', trx => trx('hosts').delete());
      }`;
    expect(unwrapped(text, 'src/catalog/bad.ts')).toEqual([
      '4 update',
      '5 raw',
      '6 raw',
      '7 transaction',
      '8 insert',
    ]);
  });

  it('frames and calls of Temporal', () => {
    const socket = `import type { TLSSocket } from 'node:tls';
      export const bad = (socket: TLSSocket) => socket.write('x');`;
    expect(unwrapped(socket, 'src/transfer/bad.ts')).toEqual(['2 write']);
    const temporal = `import type { Client } from '@temporalio/client';
      export async function bad({ workflow, connection }: Client) {
        const handle = workflow.getHandle('x');
        await handle.signal('x');
        await handle.terminate();
        await workflow.start('x', { taskQueue: 'x', workflowId: 'x' });
        await connection.operatorService.deleteNamespace({});
        await handle.describe();
      }`;
    const found = unwrapped(temporal, 'src/orchestration/bad.ts');
    expect(found).toEqual(['4 signal', '5 terminate', '6 start', '7 deleteNamespace']);
  });

  it('nothing in what a point wraps, or in a helper that only points call', () => {
    const text = `import { rename, unlink } from 'node:fs/promises';
      import { effect } from '../lib/fault-points.ts';
      export const good = () => effect('replica.seal.rename', () => helper());
      async function helper() { await rename('a', 'b'); }
      export const bad = async () => { await leaking(); await effect('replica.seal.fsync', leaking); };
      async function leaking() { await unlink('a'); }
      const effects = { effect: (name: string, work: () => Promise<void>) => work() };
      export const fake = () => effects.effect('replica.seal.chmod', () => unlink('a'));`;
    expect(unwrapped(text)).toEqual(['6 unlink', '8 unlink']);
  });

  it('a point at two places, by its name or by a template, and one that is used nowhere', () => {
    const text = `import { effect } from '../lib/fault-points.ts';
      export const again = (what: 'map' | 'digests') =>
        effect(\`replica.\${what}.fsync\`, async () => {});`;
    const { violations } = lint({ [BAD]: text });
    expect(violations.map(({ rule, what }) => [rule, what.split(':')[0]])).toEqual([
      ['point at several places', 'replica.map.fsync'],
      ['point at several places', 'replica.digests.fsync'],
    ]);
    const unused = lint({ 'src/images/replica/remove.ts': 'export const removeLayer = 1;' });
    expect(unused.violations).toContainEqual({
      rule: 'point without an effect',
      what: 'replica.remove.unlink',
    });
  });
});
