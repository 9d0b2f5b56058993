/** The catalog may not import the activities; that its results fit their ports is checked here. */
import { expect, it } from 'vitest';
import type { ReplicaCatalog as ReplicaCatalogPort } from '../../../src/activities/replica-ports.ts';
import type { SourceCatalog as SourceCatalogPort } from '../../../src/activities/source-ports.ts';
import { createNodeRegistry } from '../../../src/catalog/nodes.ts';
import { createReplicaCatalog } from '../../../src/catalog/replica-catalog.ts';
import { createSourceCatalog } from '../../../src/catalog/source-catalog.ts';
import type { PinStore } from '../../../src/sites/source-access.ts';
import { useTestDatabase } from '../../support/database.ts';
import { FINGERPRINT } from './fixtures.ts';

const database = useTestDatabase();

it('the factories give what the ports of the activities ask for', () => {
  const { db } = database();
  const source: SourceCatalogPort = createSourceCatalog(db, { site: 'a', instance: 1 });
  const replica: ReplicaCatalogPort = createReplicaCatalog(db, { site: 'b', replicaRoot: '/replicas' });
  const pins: PinStore = createNodeRegistry(db);
  expect([source, replica, pins].every(part => typeof part === 'object')).toBe(true);
});

it('keeps the newest certificate of a node', async () => {
  const { db } = database();
  const nodes = createNodeRegistry(db);
  await nodes.register({ node: 'a1', fingerprint: FINGERPRINT });
  await nodes.register({ node: 'a1', fingerprint: 'cd'.repeat(32) });
  expect(await db('nodes').select('name', 'fingerprint')).toEqual([
    { name: 'a1', fingerprint: 'cd'.repeat(32) },
  ]);
});
