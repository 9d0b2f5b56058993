/** Runs the tests. Arguments go to vitest (file filters and options). The last line is `N passed, N failed`. */
import { parseCLI, startVitest } from 'vitest/node';

const counts = { passed: 0, failed: 0 };
let vitest = null;
let isInterrupted = false;

/** Counts tests; a file that could not be loaded, or an error outside of tests, counts as one that failed. */
const counter = {
  onInit(instance) {
    vitest = instance;
  },
  onTestRunEnd(modules, unhandledErrors) {
    for (const module of modules) {
      const tests = [...module.children.allTests()];
      counts.passed += tests.filter(test => test.result().state === 'passed').length;
      counts.failed += tests.filter(test => test.result().state === 'failed').length;
      if (module.errors().length > 0) counts.failed += 1;
    }
    counts.failed += unhandledErrors.length;
  },
};

async function interrupt() {
  if (isInterrupted) process.exit(130);
  isInterrupted = true;
  await vitest?.cancelCurrentRun('keyboard-input');
}
process.on('SIGINT', interrupt);
process.on('SIGTERM', interrupt);

const { filter, options } = parseCLI(['vitest', 'run', ...process.argv.slice(2)]);
const chosen = [options.reporters ?? options.reporter ?? 'default'].flat();
try {
  const instance = await startVitest('test', filter, {
    ...options,
    watch: false,
    reporters: [...chosen, counter],
  });
  await instance.close();
} catch (error) {
  console.error(error);
  counts.failed += 1;
  await vitest?.close();
}
// Nothing found, a setup that failed, an interruption: no success without a test that passed.
const isSuccess = counts.failed === 0 && counts.passed > 0 && !isInterrupted && !process.exitCode;
if (!isSuccess && counts.failed === 0) counts.failed = 1;
process.stdout.write(`${counts.passed} passed, ${counts.failed} failed\n`, () =>
  process.exit(isSuccess ? 0 : 1),
);
