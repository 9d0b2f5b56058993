import { describe, expect, it } from 'vitest';
import { createLease, sessionRefusal } from '../../../src/sites/lease.ts';
import type { SessionRecord } from '../../../src/transfer/ports.ts';

const OPEN: SessionRecord = {
  diskTaskUuid: 'd',
  epoch: { generation: 2, plan: 1, openCount: 1 },
  senderFingerprint: 'f',
  state: 'open',
  received: null,
};

/** A lease over a catalog that says what the test wants. */
function leaseOver() {
  const catalog = {
    nowMs: 0,
    looks: 0,
    answer: (): SessionRecord | null => OPEN,
  };
  const lease = createLease(
    async () => {
      catalog.looks += 1;
      return sessionRefusal(OPEN, catalog.answer());
    },
    () => catalog.nowMs,
  );
  return { catalog, lease };
}

describe('a lease', () => {
  it('looks once a second, however many writes there are', async () => {
    const { catalog, lease } = leaseOver();
    for (; catalog.nowMs < 3_500; catalog.nowMs += 10) await lease.renew();
    expect(catalog.looks).toBe(3);
  });

  it.each([
    ['closed', { ...OPEN, state: 'closed' as const }, 'ReopenNeeded'],
    ['gone', null, 'ReopenNeeded'],
    ['given way', { ...OPEN, epoch: { ...OPEN.epoch, openCount: 2 } }, 'Superseded'],
  ])('is refused for good once the session is %s', async (_, session, code) => {
    const { catalog, lease } = leaseOver();
    catalog.answer = () => session;
    await lease.renew();
    catalog.nowMs = 1_000;
    await expect(lease.renew()).rejects.toMatchObject({ code });
    catalog.answer = () => OPEN;
    await expect(lease.renew()).rejects.toMatchObject({ code });
    expect(catalog.looks).toBe(1);
  });

  it('goes on for a while when the catalog does not answer, but not after it was held up', async () => {
    const { catalog, lease } = leaseOver();
    catalog.answer = () => {
      throw new Error('away');
    };
    for (; catalog.nowMs < 30_000; catalog.nowMs += 1_000) await lease.renew();
    await expect(lease.renew()).rejects.toThrow('away');
    catalog.nowMs += 1_000;
    catalog.answer = () => OPEN;
    await lease.renew();
    catalog.nowMs += 60_000;
    catalog.answer = () => {
      throw new Error('away');
    };
    await expect(lease.renew()).rejects.toThrow('away');
  });
});
