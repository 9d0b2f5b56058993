import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { msToTs } from '@temporalio/common/lib/time.js';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { ScheduleSpec, ScheduleState } from '../../../src/contract/schedule.ts';
import { initialScheduleState } from '../../../src/domain/schedule-state.ts';
import { startScheduleWorkflow } from '../../../src/orchestration/schedule-start.ts';
import { ensureSearchAttributes } from '../../../src/orchestration/search-attributes.ts';

const INT = 3;
const spec: ScheduleSpec = {
  contractVersion: 1,
  uuid: randomUUID(),
  name: 'nightly',
  replicaSite: 'b',
  sourceSite: 'a',
  host: 'web1',
};
const settings = {
  type: 'interval' as const,
  everyMs: 60_000,
  cron: null,
  timeZone: null,
  rpoMs: null,
  bandwidthBytesPerSecond: null,
};
const behindSinceMs = Date.parse('2026-11-24T02:00:00Z');
const state: ScheduleState = { ...initialScheduleState(settings, { paused: true }), behindSinceMs };

let connection: Connection;
beforeAll(async () => {
  connection = await Connection.connect({ address: inject('temporalAddress') });
});
afterAll(async () => {
  await connection.close();
});

/** Makes a namespace of its own, and waits until all of the server knows it. */
async function makeNamespace(): Promise<string> {
  const namespace = `n-${randomUUID().slice(0, 8)}`;
  const { workflowService, operatorService } = connection;
  await workflowService.registerNamespace({
    namespace,
    workflowExecutionRetentionPeriod: msToTs('1 day'),
  });
  const client = new Client({ connection, namespace });
  for (;;) {
    try {
      await operatorService.listSearchAttributes({ namespace });
      await client.workflow.count();
      return namespace;
    } catch {
      await sleep(200);
    }
  }
}

/** Starts a schedule, and gives its state as handed to the workflow, with its search attributes. */
async function started(namespace: string) {
  const client = new Client({ connection, namespace });
  await startScheduleWorkflow(client, spec, state);
  const handle = client.workflow.getHandle('schedule/b/nightly');
  const { typedSearchAttributes } = await handle.describe();
  const { events } = await handle.fetchHistory();
  const input = events?.[0]?.workflowExecutionStartedEventAttributes?.input?.payloads?.[1]?.data;
  return {
    state: JSON.parse(Buffer.from(input ?? []).toString()) as ScheduleState,
    attributes: Object.fromEntries(typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value])),
  };
}

describe('search attributes', () => {
  it('are registered once, set at the start, and found by a query', async () => {
    const namespace = await makeNamespace();
    const temporal = { address: inject('temporalAddress'), namespace };
    const found = await Promise.all([1, 2].map(() => ensureSearchAttributes(temporal)));
    expect(found).toContain('made');
    expect(await ensureSearchAttributes(temporal)).toBe('present');
    const seen = await started(namespace);
    expect(seen).toMatchObject({
      state: { searchAttributes: true },
      attributes: {
        OffsiteHost: 'web1',
        OffsiteSchedule: 'nightly',
        OffsiteState: 'paused',
        OffsiteBehindSince: new Date(behindSinceMs),
      },
    });
    const client = new Client({ connection, namespace });
    const query = "OffsiteState = 'paused' AND OffsiteBehindSince < '2026-11-24T03:00:00Z'";
    while ((await client.workflow.count(query)).count === 0) await sleep(100);
  });

  it('are registered by the first schedule where nobody did before', async () => {
    const seen = await started(await makeNamespace());
    expect(seen.attributes).toMatchObject({ OffsiteHost: 'web1' });
    expect(seen.state.searchAttributes).toBe(true);
  });

  it('of another type are named, and a schedule lives without', async () => {
    const namespace = await makeNamespace();
    await connection.operatorService.addSearchAttributes({
      namespace,
      searchAttributes: { OffsiteHost: INT },
    });
    const temporal = { address: inject('temporalAddress'), namespace };
    await expect(ensureSearchAttributes(temporal)).rejects.toMatchObject({
      code: 'SearchAttributeType',
      message: expect.stringContaining('OffsiteHost'),
    });
    const seen = await started(namespace);
    expect(seen.attributes).not.toHaveProperty('OffsiteHost');
    expect(seen.state.searchAttributes).toBe(false);
  });
});
