/** Structured logs: one JSON object a line on standard output. */
import { pino } from 'pino';

/** What the layers log to: fields first, then the sentence. */
export interface Log {
  debug(fields: object, text: string): void;
  info(fields: object, text: string): void;
  warn(fields: object, text: string): void;
  error(fields: object, text: string): void;
}

export function createLog(level: string, fields: Record<string, string>): Log {
  return pino({ level, base: fields, timestamp: pino.stdTimeFunctions.isoTime });
}
