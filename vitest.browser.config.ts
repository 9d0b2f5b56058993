import { defineConfig } from 'vitest/config';
import base from './vitest.config.ts';

/** What needs a browser: `npm run test:browser`. */
export default defineConfig({ test: { ...base.test, include: ['test/**/*.browser.ts'] } });
