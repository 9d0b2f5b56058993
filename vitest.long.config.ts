/** The tests that take long and are asked for by name: `npm run test:faults` and `npm run test:chaos`. */
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/faults/*.matrix.ts', 'test/chaos/*.campaign.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    pool: 'forks',
    maxWorkers: 1,
    hookTimeout: 300_000,
    teardownTimeout: 20_000,
  },
});
