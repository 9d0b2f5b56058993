// Records histories of real runs into test/replay/histories/v<version>, once a release.
// Recorded histories are only added to: the recorder refuses to write over one.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { startVitest } from 'vitest/node';

const root = fileURLToPath(new URL('..', import.meta.url));
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
process.env.OFFSITE_HISTORY_FOLDER = fileURLToPath(
  new URL(`../test/replay/histories/v${version}`, import.meta.url),
);

const recorder = 'test/replay/record-histories.ts';
const vitest = await startVitest('test', [recorder], { root, include: [recorder], run: true });
const failed = vitest.state.getFiles().filter(file => file.result?.state !== 'pass');
await vitest.close();
process.exitCode = failed.length === 0 ? 0 : 1;
