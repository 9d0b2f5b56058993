/** DIR/supervisor.json: the pids by name, for operators, for tests, and for the next start after a kill -9. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SUPERVISED_BY } from './supervisor-messages.ts';
import { endProcesses, groupLeadersWithEnvironment, type ProcessRecord } from './supervisor-processes.ts';

/** One process as DIR/supervisor.json shows it. */
export interface SupervisedProcess extends ProcessRecord {
  kind: 'postgres' | 'temporal' | 'process';
  startedAt: string;
  /** How often it was started again after it had ended by itself. */
  restarts: number;
}

/** The content of DIR/supervisor.json. */
export interface SupervisorState {
  supervisor: ProcessRecord;
  processes: Record<string, SupervisedProcess>;
}

const statePath = (dataDir: string): string => join(dataDir, 'supervisor.json');

/** @returns null if no supervisor ever ran on this folder */
export function readSupervisorState(dataDir: string): SupervisorState | null {
  try {
    return JSON.parse(readFileSync(statePath(dataDir), 'utf8')) as SupervisorState;
  } catch {
    return null;
  }
}

export function writeSupervisorState(dataDir: string, state: SupervisorState): void {
  const path = statePath(dataDir);
  writeFileSync(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/**
 * Ends what an earlier supervisor of this folder left running because it was killed: in the usual order,
 * by its records, then whatever carries the folder's mark in its environment but was not recorded any more.
 */
export async function endLeftovers(dataDir: string): Promise<void> {
  const recorded = Object.values(readSupervisorState(dataDir)?.processes ?? {});
  const ofKind = (kind: SupervisedProcess['kind']): SupervisedProcess[] =>
    recorded.filter(process => process.kind === kind);
  await endProcesses(ofKind('process'), 'SIGTERM', 5_000);
  await endProcesses(ofKind('temporal'), 'SIGTERM', 5_000);
  await endProcesses(ofKind('postgres'), 'SIGINT', 10_000);
  await endProcesses(groupLeadersWithEnvironment(SUPERVISED_BY, dataDir), 'SIGTERM', 5_000);
}
