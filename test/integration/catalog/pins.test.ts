/** Whose receivers a source accepts: what was seen first, what an operator vouched for, and nothing else. */
import { beforeEach, expect, it } from 'vitest';
import { createNodeRegistry } from '../../../src/catalog/nodes.ts';
import { createSourceAccess, type ReplicaSiteRule } from '../../../src/sites/source-access.ts';
import { useTestDatabase } from '../../support/database.ts';
import { FINGERPRINT } from './fixtures.ts';

const OTHER = 'cd'.repeat(32);
const THIRD = 'ef'.repeat(32);
const database = useTestDatabase();
beforeEach(() => database().db('pinned_receivers').delete());

const nodes = () => createNodeRegistry(database().db);
const access = (rule: Partial<ReplicaSiteRule> = {}) =>
  createSourceAccess([{ site: 'b', hosts: ['*'], ...rule }], nodes());
const at = (host: string, fingerprint: string, port = 7070) => ({ host, port, fingerprint });

it('accepts the first certificate of a site, at whatever address it listens later, and no other', async () => {
  const { assertReceiver } = access();
  await assertReceiver('b', at('10.0.0.1', FINGERPRINT));
  await assertReceiver('b', at('10.0.0.2', FINGERPRINT));
  // Whoever reaches Temporal could name an address of his own.
  for (const host of ['10.0.0.1', '10.0.0.3']) {
    await expect(assertReceiver('b', at(host, OTHER))).rejects.toMatchObject({
      code: 'FingerprintMismatch',
      hint: expect.stringContaining('offsite source pin b'),
    });
  }
  expect(await nodes().listPins()).toMatchObject([
    { replicaSite: 'b', fingerprint: FINGERPRINT, endpoint: '10.0.0.1:7070', pinnedBy: 'first-use' },
  ]);
});

it('pins one of two that come first at the same moment', async () => {
  const both = await Promise.allSettled(
    [FINGERPRINT, OTHER, THIRD].map(fingerprint => access().assertReceiver('b', at('10.0.0.1', fingerprint))),
  );
  expect(both.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  expect(await nodes().listPins()).toHaveLength(1);
});

it('accepts what an operator pins beside the first, until it is unpinned', async () => {
  const { assertReceiver } = access();
  await assertReceiver('b', at('10.0.0.1', FINGERPRINT));
  expect(await nodes().vouchForReceiver({ replicaSite: 'b', fingerprint: OTHER })).toBe(true);
  expect(await nodes().vouchForReceiver({ replicaSite: 'b', fingerprint: OTHER })).toBe(false);
  await assertReceiver('b', at('10.0.0.9', OTHER));
  expect(await nodes().unpinReceiver({ replicaSite: 'b', fingerprint: OTHER })).toEqual([OTHER]);
  await expect(assertReceiver('b', at('10.0.0.9', OTHER))).rejects.toMatchObject({
    code: 'FingerprintMismatch',
  });
  expect(await nodes().unpinReceiver({ replicaSite: 'b', fingerprint: null })).toEqual([FINGERPRINT]);
  expect(await nodes().unpinReceiver({ replicaSite: 'b', fingerprint: null })).toEqual([]);
  // Now the next one is the first.
  await assertReceiver('b', at('10.0.0.9', THIRD));
});

it('an operator who pins first leaves no first use to others', async () => {
  await nodes().vouchForReceiver({ replicaSite: 'b', fingerprint: OTHER });
  await expect(access().assertReceiver('b', at('10.0.0.1', FINGERPRINT))).rejects.toMatchObject({
    code: 'FingerprintMismatch',
  });
});

it('fingerprints of the configuration are the only ones, and nothing is pinned beside them', async () => {
  const { assertReceiver } = access({ fingerprints: [OTHER] });
  await assertReceiver('b', at('10.0.0.1', OTHER));
  await expect(assertReceiver('b', at('10.0.0.1', FINGERPRINT))).rejects.toMatchObject({
    code: 'FingerprintMismatch',
  });
  expect(await nodes().listPins()).toEqual([]);
});

it('endpoints are compared as addresses, not as texts', async () => {
  const { assertReceiver } = access({ endpoints: ['[FD00::1]:7070', 'B.example:7070'] });
  await assertReceiver('b', at('fd00::1', FINGERPRINT));
  await assertReceiver('b', at('b.EXAMPLE', FINGERPRINT));
  for (const other of [
    at('fd00::2', FINGERPRINT),
    at('b.example', FINGERPRINT, 7071),
    at('b.example:7070', FINGERPRINT, 1),
  ]) {
    await expect(assertReceiver('b', other)).rejects.toMatchObject({ code: 'EndpointNotAllowed' });
  }
  await expect(access().assertReceiver('c', at('fd00::1', FINGERPRINT))).rejects.toMatchObject({
    code: 'EndpointNotAllowed',
  });
});
