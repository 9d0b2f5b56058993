/** What the matrix runs: which faults in which scenario. */
import type { Fault, FaultKind } from '../../../src/lib/fault-injection.ts';
import type { FaultPoint } from '../../../src/lib/fault-points.ts';
import { POINTS, SCENARIOS, type Scenario, scenariosOf, TASKS } from './reach.ts';

export interface FaultCase {
  readonly id: string;
  readonly scenario: Scenario;
  readonly faults: readonly Fault[];
}

type When = 'before' | 'after';

/** Each kind, on the side on which it means something. */
const VARIANTS: readonly (readonly [When, FaultKind])[] = [
  ['before', 'crash'],
  ['after', 'crash'],
  ['before', 'error'],
  ['after', 'dropReply'],
  ['before', 'delay'],
  ['after', 'delay'],
  ['before', 'hold'],
  ['after', 'hold'],
];
const DELAY_MS = 300;

/**
 * Every point once, as a crash, several in one run. The rule: of the scenarios that reach a point, its place in the
 * registry takes one; and it takes `before` and `after` in turns.
 */
export function shortCases(): readonly FaultCase[] {
  const chosen = POINTS.map((point, index) => {
    const scenarios = scenariosOf(point);
    const when: When = Math.floor(index / TASKS.length) % 2 === 0 ? 'before' : 'after';
    return { scenario: scenarios[index % scenarios.length], fault: faultAt(point, when, 'crash') };
  });
  return SCENARIOS.map(scenario => ({
    id: `${scenario}: its share of all points`,
    scenario,
    faults: chosen.filter(choice => choice.scenario === scenario).map(({ fault }) => fault),
  }));
}

export interface CaseFilter {
  readonly point?: string | undefined;
  readonly kind?: string | undefined;
  readonly task?: string | undefined;
}

/**
 * Every point that a scenario reaches, on both sides, with every kind. A task has one fault; the other scenarios, which
 * take long and change nothing at most of their points, have one kind at all of their points.
 */
export function allCases(filter: CaseFilter = {}): readonly FaultCase[] {
  const points = POINTS.filter(point => filter.point === undefined || point.includes(filter.point));
  const scenarios = SCENARIOS.filter(scenario => filter.task === undefined || scenario === filter.task);
  const variants = VARIANTS.filter(([, kind]) => filter.kind === undefined || kind === filter.kind);
  return scenarios.flatMap(scenario => {
    const reached = points.filter(point => scenariosOf(point).includes(scenario));
    return variants.flatMap(([when, kind]) => {
      const faults = reached.map(point => faultAt(point, when, kind));
      if (faults.length === 0) return [];
      const isTask = scenario === 'append' || (TASKS as readonly string[]).includes(scenario);
      if (!isTask) return [{ id: `${scenario}: ${kind} ${when} all of its points`, scenario, faults }];
      return faults.map(fault => ({ id: `${scenario}: ${fault.id}`, scenario, faults: [fault] }));
    });
  });
}

const faultAt = (point: FaultPoint, when: When, kind: FaultKind): Fault => ({
  id: `${kind} ${when} ${point}`,
  point,
  when,
  kind,
  ...(kind === 'delay' ? { delayMs: DELAY_MS } : {}),
});
