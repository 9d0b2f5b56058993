/** Every failure as one line, and as JSON. */
import { OffsiteError } from '../domain/errors.ts';
import { printable } from './render/table.ts';

export interface ErrorJson {
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

/** What an operator is told of an error. An error that nobody foresaw has the code `Unexpected`. */
export function errorJson(error: unknown): ErrorJson {
  if (error instanceof OffsiteError) return { code: error.code, message: error.message, hint: error.hint };
  return {
    code: 'Unexpected',
    message: messageOf(error),
    hint: 'Set OFFSITE_DEBUG=1 to see where it comes from.',
  };
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Node gives a failed connection to several addresses an AggregateError without a message.
  const first: unknown = error instanceof AggregateError && error.message === '' ? error.errors[0] : null;
  const message = first instanceof Error ? first.message : error.message;
  return message === '' ? error.name : message;
}

/** `offsite: <what was wrong>. <hint>`, always one line. */
export function errorLine({ message, hint }: ErrorJson): string {
  const sentence = /[.!?]$/.test(message) ? message : `${message}.`;
  return printable(`offsite: ${sentence}${hint === null ? '' : ` ${hint}`}`);
}
