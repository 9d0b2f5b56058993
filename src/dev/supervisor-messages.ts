/** What a supervisor and the process that started it say to each other, over Node's IPC channel. */
import type { ServiceSpec } from './supervisor-service.ts';

export interface SupervisorSettings {
  dataDir: string;
  /** Whether the data folder is removed once everything has ended (tests). */
  removeDataDirAtEnd: boolean;
}

/** To the supervisor. Each request is answered by one reply of the same id. */
export type SupervisorRequest =
  | { id: number; type: 'open'; settings: SupervisorSettings }
  | { id: number; type: 'start'; services: readonly ServiceSpec[] }
  | { id: number; type: 'restart'; name: string }
  | { id: number; type: 'stop' };

/** From the supervisor. */
export interface SupervisorReply {
  id: number;
  /** Null: done. */
  error: { code: string; message: string; hint: string | null; pid: number | null } | null;
}

/** Names the data folder in the environment of everything that a supervisor starts. */
export const SUPERVISED_BY = 'OFFSITE_SUPERVISED_BY';
