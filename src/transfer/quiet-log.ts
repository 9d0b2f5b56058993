/** What anybody who reaches the data port can cause: one line a kind each while, with the number of those left out. */
import type { Log } from '../lib/log.ts';

const EVERY_MS = 10_000;

export interface QuietFields {
  readonly event: string;
  readonly code?: string;
  readonly [more: string]: unknown;
}

export interface QuietLog {
  info(fields: QuietFields, text: string): void;
  warn(fields: QuietFields, text: string): void;
}

/** Lines are of one kind when event and code are the same. @param nowMs a clock that never goes back */
export function createQuietLog(log: Log, nowMs: () => number = () => performance.now()): QuietLog {
  const kinds = new Map<string, { saidAtMs: number; leftOut: number }>();

  /** @returns the fields to write, null for none */
  function allowed(fields: QuietFields): QuietFields | null {
    const kind = `${fields.event} ${fields.code ?? ''}`;
    const known = kinds.get(kind);
    if (known !== undefined && nowMs() - known.saidAtMs < EVERY_MS) {
      known.leftOut += 1;
      return null;
    }
    kinds.set(kind, { saidAtMs: nowMs(), leftOut: 0 });
    return known === undefined || known.leftOut === 0 ? fields : { ...fields, leftOut: known.leftOut };
  }

  return {
    info(fields, text) {
      const written = allowed(fields);
      if (written !== null) log.info(written, text);
    },
    warn(fields, text) {
      const written = allowed(fields);
      if (written !== null) log.warn(written, text);
    },
  };
}
