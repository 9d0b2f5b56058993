import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { createLog } from '../../../src/lib/log.ts';
import { createReplicaSite } from '../../../src/sites/replica-site.ts';
import { loadIdentity } from '../../../src/transfer/identity.ts';
import { useTestDatabase } from '../../support/database.ts';

const database = useTestDatabase();

it('a second worker of a node says who holds the data port, and what to do', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'offsite-test-'));
  onTestFinished(() => rm(dataDir, { recursive: true }));
  const other = createServer();
  await new Promise<void>(resolve => other.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as { port: number };
  const { db, url } = database();
  const starting = createReplicaSite({
    config: {
      site: 'b',
      node: 'b1',
      dataDir,
      logLevel: 'error',
      database: { url },
      temporal: { address: '127.0.0.1:9', namespace: 'default' },
      source: undefined,
      replica: { listen: `127.0.0.1:${port}` },
    } as unknown as Parameters<typeof createReplicaSite>[0]['config'],
    db,
    identity: await loadIdentity(join(dataDir, 'identity'), 'b.b1'),
    log: createLog('error', {}),
  });
  await expect(starting).rejects.toMatchObject({
    code: 'PortTaken',
    hint: expect.stringContaining('end it'),
  });
});
