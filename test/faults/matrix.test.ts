/** Every fault point at least once, as a crash of a real worker. `npm run test:faults` runs every kind at every point. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { shortCases } from '../support/faults/cases.ts';
import { type FaultSites, startFaultSites } from '../support/faults/fault-sites.ts';
import { coveringTest, POINTS } from '../support/faults/reach.ts';
import { runCase } from '../support/faults/run-case.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const CASE_MS = 600_000;

let on: FaultSites;

beforeAll(async () => {
  on = await startFaultSites();
}, 300_000);

afterAll(async () => {
  await on?.close();
});

it('every fault point is reached by a scenario, or named by the test that covers it instead', () => {
  for (const point of POINTS) {
    const covering = coveringTest(point);
    if (covering === null) continue;
    const path = `${ROOT}${covering}`;
    expect(existsSync(path), path).toBe(true);
    expect(readFileSync(path, 'utf8'), path).toContain(`'${point}'`);
  }
});

describe('a crash at each of many points', () => {
  it.each(shortCases())(
    '$id: all of them fire, and section 9 holds',
    async faultCase => {
      expect(faultCase.faults.length).toBeGreaterThan(0);
      await runCase(on, faultCase);
    },
    CASE_MS,
  );
});
