/** `npm run test:faults`: every kind of fault before and after every point, in a full, an incremental and a compare. */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { allCases, type FaultCase } from '../support/faults/cases.ts';
import { type FaultSites, startFaultSites } from '../support/faults/fault-sites.ts';
import { runCase } from '../support/faults/run-case.ts';

const { OFFSITE_MATRIX_POINT: point, OFFSITE_MATRIX_KIND: kind, OFFSITE_MATRIX_TASK: task } = process.env;
/** Cases that passed in an earlier run over the same sources. */
const passedPath = process.env.OFFSITE_MATRIX_PASSED ?? '';
const CASE_MS = 600_000;

const passed = new Set(existsSync(passedPath) ? readFileSync(passedPath, 'utf8').split('\n') : []);
const cases = allCases({ point, kind, task }).filter(({ id }) => !passed.has(id));

async function run(on: FaultSites, faultCase: FaultCase): Promise<void> {
  await runCase(on, faultCase);
  if (passedPath === '') return;
  mkdirSync(dirname(passedPath), { recursive: true });
  appendFileSync(passedPath, `${faultCase.id}\n`);
}

it('has something to do', () => {
  expect(cases.length + passed.size, 'no point, kind or task is named so').toBeGreaterThan(0);
});

// A node starts for the first time once.
describe.runIf(cases.some(({ scenario }) => scenario === 'start'))('first starts', () => {
  it.each(cases.filter(({ scenario }) => scenario === 'start'))(
    '$id',
    async faultCase => {
      const on = await startFaultSites();
      try {
        await run(on, faultCase);
      } finally {
        await on.close();
      }
    },
    CASE_MS,
  );
});

describe.runIf(cases.some(({ scenario }) => scenario !== 'start'))('running sites', () => {
  let on: FaultSites;

  beforeAll(async () => {
    on = await startFaultSites();
  }, 300_000);

  afterAll(async () => {
    await on?.close();
  });

  it.each(cases.filter(({ scenario }) => scenario !== 'start'))(
    '$id',
    async faultCase => run(on, faultCase),
    CASE_MS,
  );
});
