import { OffsiteError } from '../domain/errors.ts';

/** The command line itself is wrong: exit code 2. */
export class UsageError extends OffsiteError {
  constructor(message: string, hint: string | null = null) {
    super('BadUsage', message, hint);
  }
}
