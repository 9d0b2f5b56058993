import { defineConfig } from 'vitest/config';
import base from './vitest.config.ts';

/** Every signal in every step: `npm run test:signals`. */
export default defineConfig({ test: { ...base.test, include: ['test/**/*.signals.ts'] } });
