/** Everything over whole sites: `npm run test:e2e`. */
import { defineConfig } from 'vitest/config';

/** What takes minutes each: `npm test` leaves these out, so that it ends while one waits for it. */
export const LONG_E2E = [
  ...[
    'black-hole',
    'cdp-kills',
    'changing-ground',
    'clocks',
    'cockpit',
    'compare',
    'create-again',
    'fencing',
  ],
  ...['network', 'replica-folder', 'signals-in-steps', 'space', 'temporal-database-lost'],
  ...['temporal-namespace-lost', 'three-sites', 'verify'],
]
  .map(name => `test/e2e/${name}.test.ts`)
  .concat('test/integration/metrics/metrics.test.ts');

export default defineConfig({
  test: {
    include: ['test/e2e/*.test.ts', 'test/integration/metrics/metrics.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
  },
});
