import { defineConfig } from 'vitest/config';

/** The simulated year, which needs Java: `npm run test:year`. */
export default defineConfig({
  test: {
    include: ['test/**/*.year.ts'],
    pool: 'forks',
    testTimeout: 300_000,
    hookTimeout: 120_000,
    teardownTimeout: 20_000,
  },
});
