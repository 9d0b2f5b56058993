/**
 * `npm run test:hostile -- --target qcow2|frames|receiver|sender|journals|files --seed N --cases N [--first N]`: hostile input made
 * from sound input by seeded mutation. A failure is printed with the words that run its case alone.
 */
import { parseArgs } from 'node:util';
import { type CampaignReport, runCampaign } from './campaign.ts';
import { isTargetName, openTarget, TARGET_NAMES } from './targets.ts';

const { values } = parseArgs({
  options: {
    target: { type: 'string' },
    seed: { type: 'string', default: '1' },
    cases: { type: 'string', default: '100000' },
    first: { type: 'string', default: '0' },
  },
});

const numberOf = (name: 'seed' | 'cases' | 'first'): number => {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  console.error(`--${name} must be a whole number`);
  process.exit(2);
};
const chosen = values.target;
if (chosen === undefined || !isTargetName(chosen)) {
  console.error(`--target must be one of ${TARGET_NAMES.join(', ')}`);
  process.exit(2);
}

const [seed, cases, first] = [numberOf('seed'), numberOf('cases'), numberOf('first')];
const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort());
const target = await openTarget(chosen);
const startedAtMs = Date.now();
const report = await runCampaign(target, {
  seed,
  cases,
  first,
  signal: stop.signal,
  onFailure: failure => console.error(`FAILED ${failure}`),
  onProgress(done) {
    const perSecond = Math.round(done / ((Date.now() - startedAtMs) / 1000));
    console.error(`${done} of ${cases} cases, ${perSecond} a second`);
  },
});
await target.close();
print(report);
process.exit(report.failures.length === 0 ? 0 : 1);

function print(result: CampaignReport): void {
  const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const lines = [
    `target ${result.target}, seed ${result.seed}, cases ${result.first} to ${result.first + result.cases - 1}`,
    `${result.cases} cases in ${result.seconds.toFixed(1)} s (${result.cpuSeconds.toFixed(1)} CPU s)`,
    `largest buffer ${mib(result.largestBufferBytes)}, most of a case ${mib(result.largestCaseBytes)}`,
    `RSS ${mib(result.startRssBytes)} at the start, ${mib(result.endRssBytes)} at the end, peak ${mib(result.peakRssBytes)}`,
    ...Object.entries(result.maxima).map(([what, most]) => `${what}: ${most}`),
    ...Object.entries(result.outcomes).map(([outcome, count]) => `  ${outcome} ${count}`),
    `${result.failures.length} failures`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}
