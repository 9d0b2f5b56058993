/** Structured logs: one JSON object a line on standard error; standard output has results only. */
import { pino } from 'pino';

/** What the layers log to: fields first, then the sentence. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

/** An error as a log has it. */
interface LoggedError {
  readonly type: string;
  readonly message: string;
  readonly code?: string;
  readonly hint?: string;
  readonly stack?: string;
}

/**
 * Takes named fields only: what else an error carries, such as the whole address in an `Invalid URL`, may hold a
 * password. The errors beneath are in its stack no more than in its fields.
 */
function loggedError(error: unknown): LoggedError | unknown {
  if (!(error instanceof Error)) return error;
  const { code, hint } = error as { code?: unknown; hint?: unknown };
  return {
    type: error.name,
    message: error.message,
    ...(typeof code === 'string' && { code }),
    ...(typeof hint === 'string' && { hint }),
    ...(error.stack !== undefined && { stack: error.stack }),
  };
}

const STANDARD_ERROR = 2;

export function createLog(level: string, fields: Record<string, string>): Log {
  const options = {
    level,
    base: fields,
    timestamp: pino.stdTimeFunctions.isoTime,
    // Both keys, so that an error under either is written by its named fields.
    serializers: { err: loggedError, error: loggedError },
  };
  return pino(options, pino.destination({ dest: STANDARD_ERROR, sync: true }));
}
