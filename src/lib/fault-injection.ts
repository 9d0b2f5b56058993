/** What tests do at the fault points: a plan in a file says where, when and what. docs/fault-points.md. */
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, statSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { OffsiteError } from '../domain/errors.ts';
import { FAULT_POINTS, type FaultInjector, type FaultPoint, setFaultInjector } from './fault-points.ts';

export const FAULT_KINDS = ['crash', 'error', 'dropReply', 'delay', 'hold'] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

/** One entry of a plan. */
export interface Fault {
  /** Names it in the record of what fired. */
  readonly id: string;
  readonly point: FaultPoint;
  readonly when: 'before' | 'after';
  /** `error` comes before the effect, `dropReply` after it: then the caller never hears that it happened. */
  readonly kind: FaultKind;
  /** Only in the processes of this site. */
  readonly site?: string;
  /** Fires when this process reaches the point for the n-th time since it read the plan; 1 by default. */
  readonly hit?: number;
  /** How often it fires, over all processes; 1 by default. A crash does not come back after the restart. */
  readonly times?: number;
  /** Of a delay; 100 by default. Of a hold, how long at most; 60 000 by default. */
  readonly delayMs?: number;
  /** A hold lasts until this file is gone. */
  readonly holdFile?: string;
}

export interface FaultPlan {
  readonly faults: readonly Fault[];
}

/** One line of the record of what fired, `<plan>.fired`: written and fsynced before the fault does anything. */
export interface FiredFault {
  readonly id: string;
  readonly point: FaultPoint;
  readonly when: 'before' | 'after';
  readonly kind: FaultKind;
  readonly site: string;
  readonly pid: number;
  readonly hit: number;
}

/** A test wanted this. Retryable, as most faults are. */
export class FaultInjectedError extends OffsiteError {
  constructor(point: FaultPoint, when: 'before' | 'after') {
    super(
      'FaultInjected',
      `a test injected a fault ${when} ${point}`,
      'Never seen outside tests: OFFSITE_FAULTS must not be set where a site works.',
    );
  }
}

const DEFAULT_DELAY_MS = 100;
const LONGEST_HOLD_MS = 60_000;
const LOOK_MS = 10;

/**
 * Arms the fault points of this process, if its environment says so twice: `OFFSITE_FAULTS` names a plan and
 * `OFFSITE_FAULTS_ARMED` is `test`. One alone does nothing.
 * @returns the plan's path, or null when nothing was armed
 * @throws when the plan cannot be read
 */
export function armFaults(environment: NodeJS.ProcessEnv, site: string): string | null {
  const planPath = environment.OFFSITE_FAULTS;
  if (!planPath || environment.OFFSITE_FAULTS_ARMED !== 'test') return null;
  setFaultInjector(createInjector(planPath, site));
  return planPath;
}

/** @returns what fired so far */
export function readFired(planPath: string): readonly FiredFault[] {
  const path = recordOf(planPath);
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.filter(line => line !== '').map(line => JSON.parse(line) as FiredFault);
}

const recordOf = (planPath: string): string => `${planPath}.fired`;

/** Reads the plan again whenever its file is another one, and counts hits anew then. */
export function createInjector(planPath: string, site: string): FaultInjector {
  let plan = readPlan(planPath);
  let version = versionOf(planPath);
  let hits = new Map<string, number>();

  /** Counts the hit. @returns the fault that fires, recorded, or null */
  function due(point: FaultPoint, when: 'before' | 'after'): Fault | null {
    const now = versionOf(planPath);
    if (now !== version) {
      plan = readPlan(planPath);
      version = now;
      hits = new Map();
    }
    const key = `${point}/${when}`;
    const hit = (hits.get(key) ?? 0) + 1;
    hits.set(key, hit);
    const fault = plan.faults.find(
      candidate =>
        candidate.point === point &&
        candidate.when === when &&
        hit >= (candidate.hit ?? 1) &&
        (candidate.site ?? site) === site &&
        firedTimes(planPath, candidate.id) < (candidate.times ?? 1),
    );
    if (fault === undefined) return null;
    record(planPath, { id: fault.id, point, when, kind: fault.kind, site, pid: process.pid, hit });
    return fault;
  }

  return {
    async reach(point, when) {
      const fault = due(point, when);
      if (fault === null) return;
      if (fault.kind === 'delay') await sleep(fault.delayMs ?? DEFAULT_DELAY_MS);
      else if (fault.kind === 'hold') while (isHeld(fault)) await sleep(LOOK_MS);
      else crashOrThrow(fault);
    },
    reachSync(point, when) {
      const fault = due(point, when);
      if (fault === null) return;
      if (fault.kind === 'delay') sleepSync(fault.delayMs ?? DEFAULT_DELAY_MS);
      else if (fault.kind === 'hold') while (isHeld(fault)) sleepSync(LOOK_MS);
      else crashOrThrow(fault);
    },
  };
}

function crashOrThrow({ kind, point, when }: Fault): void {
  if (kind !== 'crash') throw new FaultInjectedError(point, when);
  process.kill(process.pid, 'SIGKILL');
  // The signal ends us while we wait; nothing more of ours may run.
  sleepSync(LONGEST_HOLD_MS);
}

const heldSinceMs = new WeakMap<Fault, number>();

function isHeld(fault: Fault): boolean {
  const nowMs = performance.now();
  const sinceMs = heldSinceMs.get(fault) ?? nowMs;
  heldSinceMs.set(fault, sinceMs);
  if (nowMs - sinceMs > (fault.delayMs ?? LONGEST_HOLD_MS)) return false;
  return fault.holdFile !== undefined && existsSync(fault.holdFile);
}

function sleepSync(delayMs: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, delayMs);
}

function firedTimes(planPath: string, id: string): number {
  return readFired(planPath).filter(fired => fired.id === id).length;
}

function record(planPath: string, fired: FiredFault): void {
  const file = openSync(recordOf(planPath), 'a');
  try {
    writeSync(file, `${JSON.stringify(fired)}\n`);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function versionOf(path: string): string {
  const { ino, mtimeNs } = statSync(path, { bigint: true });
  return `${ino} ${mtimeNs}`;
}

function readPlan(path: string): FaultPlan {
  const plan = JSON.parse(readFileSync(path, 'utf8')) as FaultPlan;
  for (const { id, point, when, kind } of plan.faults) {
    const isKnown =
      Object.hasOwn(FAULT_POINTS, point) &&
      FAULT_KINDS.includes(kind) &&
      (when === 'before' ? kind !== 'dropReply' : when === 'after' && kind !== 'error');
    if (!isKnown) throw new Error(`${path}: no such fault: ${id} (${kind} ${when} ${point})`);
  }
  return plan;
}
