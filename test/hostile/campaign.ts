/** Runs seeded cases against a target, and counts how they end. A case that breaks a property is a failure. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { watchAllocations } from './allocation-watch.ts';
import { startHangGuard } from './hang-guard.ts';
import { Random } from './random.ts';

/** Something that takes hostile input. */
export interface Target {
  readonly name: string;
  /** The most bytes that one buffer of a case may have. */
  readonly maxBufferBytes: number;
  /** The most bytes that all buffers of a case may have together. */
  readonly maxCaseBytes: number;
  /**
   * Makes one case of the numbers and runs it.
   * @returns how it ended: an error's code, or `accepted`
   * @throws {BrokenProperty} or anything else that is not meant to happen
   */
  run(random: Random): Promise<string> | string;
  /** What a report tells besides, such as the most reads of a case. */
  readonly maxima: Readonly<Record<string, number>>;
  close(): Promise<void>;
}

/** Something that must always hold did not. */
export class BrokenProperty extends Error {}

/** @throws {BrokenProperty} */
export function must(holds: boolean, what: () => string): asserts holds {
  if (!holds) throw new BrokenProperty(what());
}

export interface CampaignOptions {
  readonly seed: number;
  /** The number of the first case. */
  readonly first: number;
  readonly cases: number;
  /** Called now and then with the cases that were run. */
  readonly onProgress?: (done: number) => void;
  readonly onFailure?: (failure: string) => void;
  /** Ends the campaign before its last case; it then reports what was run. */
  readonly signal?: AbortSignal;
}

export interface CampaignReport {
  readonly target: string;
  readonly seed: number;
  readonly first: number;
  readonly cases: number;
  readonly outcomes: Readonly<Record<string, number>>;
  /** Each with the words that run it again. */
  readonly failures: readonly string[];
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly largestBufferBytes: number;
  readonly largestCaseBytes: number;
  readonly startRssBytes: number;
  readonly endRssBytes: number;
  readonly peakRssBytes: number;
  readonly maxima: Readonly<Record<string, number>>;
}

const MAX_FAILURES = 20;
const PROGRESS_EACH = 50_000;
const TURN_EACH = 1_000;
/** So many cases run before the memory at the start is taken: code and pools are there then. */
const WARM_UP = 2_000;

export async function runCampaign(target: Target, options: CampaignOptions): Promise<CampaignReport> {
  const { seed, first, cases, onProgress, onFailure, signal } = options;
  // A stack costs more than most cases; one that is run alone has its own.
  if (cases > WARM_UP) Error.stackTraceLimit = 0;
  const again = `--target ${target.name} --seed ${seed}`;
  const outcomes = new Map<string, number>();
  const failures: string[] = [];
  const watch = watchAllocations();
  const guard = startHangGuard(again);
  const startedAtMs = performance.now();
  const cpuBefore = process.cpuUsage();
  let largestBufferBytes = 0;
  let largestCaseBytes = 0;
  let startRssBytes = process.memoryUsage.rss();
  try {
    for (let number = first; number < first + cases; number += 1) {
      guard.enter(number);
      watch.reset();
      const outcome = await outcomeOf(target, new Random(seed, number), watch).catch(error => {
        const failure = `${again} --first ${number} --cases 1: ${describe(error)}`;
        failures.push(failure);
        onFailure?.(failure);
        return 'FAILED';
      });
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      largestBufferBytes = Math.max(largestBufferBytes, watch.largestBytes);
      largestCaseBytes = Math.max(largestCaseBytes, watch.totalBytes);
      const done = number - first + 1;
      if (done === WARM_UP) startRssBytes = process.memoryUsage.rss();
      if (done % PROGRESS_EACH === 0) onProgress?.(done);
      // A target that never waits would keep signals and timers from their turn.
      if (done % TURN_EACH === 0) await nextTurn();
      if (failures.length >= MAX_FAILURES || signal?.aborted) break;
    }
  } finally {
    watch.remove();
    await guard.close();
  }
  const cpu = process.cpuUsage(cpuBefore);
  return {
    target: target.name,
    seed,
    first,
    cases: [...outcomes.values()].reduce((sum, count) => sum + count, 0),
    outcomes: Object.fromEntries([...outcomes].sort(([, left], [, right]) => right - left)),
    failures,
    seconds: (performance.now() - startedAtMs) / 1000,
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
    largestBufferBytes,
    largestCaseBytes,
    startRssBytes,
    endRssBytes: process.memoryUsage.rss(),
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    maxima: { ...target.maxima },
  };
}

async function outcomeOf(
  target: Target,
  random: Random,
  watch: { largestBytes: number; totalBytes: number },
): Promise<string> {
  const outcome = await target.run(random);
  must(
    watch.largestBytes <= target.maxBufferBytes,
    () => `a buffer of ${watch.largestBytes} bytes; ${target.maxBufferBytes} are allowed (${outcome})`,
  );
  must(
    watch.totalBytes <= target.maxCaseBytes,
    () => `${watch.totalBytes} bytes of buffers; ${target.maxCaseBytes} are allowed (${outcome})`,
  );
  return outcome;
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const at = error.stack?.split('\n').find(line => line.includes('/src/') || line.includes('/test/hostile/'));
  return `${error.name}: ${error.message}${at === undefined ? '' : ` (${at.trim()})`}`;
}
