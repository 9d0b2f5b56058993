import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { beforeAll, describe, expect, it } from 'vitest';

const histories = fileURLToPath(new URL('./histories/', import.meta.url));
const workflowsPath = fileURLToPath(new URL('../../src/workflows/index.ts', import.meta.url));
const logger = new DefaultLogger('ERROR');
Runtime.install({ logger });

let workflowBundle: Awaited<ReturnType<typeof bundleWorkflowCode>>;
beforeAll(async () => {
  workflowBundle = await bundleWorkflowCode({ workflowsPath, logger });
});

interface Recorded {
  readonly workflowId: string;
  readonly history: unknown;
}

function* recordedIn(folder: string): Generator<Recorded> {
  for (const file of readdirSync(folder).sort()) {
    yield { workflowId: file, history: JSON.parse(readFileSync(join(folder, file), 'utf8')) };
  }
}

async function faultsIn(recorded: Iterable<Recorded>): Promise<{ count: number; faults: string[] }> {
  const faults: string[] = [];
  let count = 0;
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle }, recorded)) {
    count += 1;
    if (error !== undefined) faults.push(`${workflowId}: ${error.message}`);
  }
  return { count, faults };
}

describe('the workflows', () => {
  for (const version of readdirSync(histories)) {
    it(`replay every history of ${version}`, async () => {
      const folder = join(histories, version);
      const { count, faults } = await faultsIn(recordedIn(folder));
      expect(faults).toEqual([]);
      expect(count).toBe(readdirSync(folder).length);
      expect(count).toBeGreaterThan(0);
    });
  }

  it('do not replay a history that lacks a step: the test can fail', async () => {
    const [first] = recordedIn(join(histories, 'v0.1.0'));
    const text = JSON.stringify(first?.history).replaceAll('planNextRun', 'somethingElse');
    const { faults } = await faultsIn([{ workflowId: 'changed', history: JSON.parse(text) }]);
    expect(faults).toHaveLength(1);
  });
});
