import { OffsiteError } from '../domain/errors.ts';

/** The configuration cannot be read or says something that it may not. Code `ConfigInvalid` or `ConfigMissing`. */
export class ConfigError extends OffsiteError {
  constructor(code: 'ConfigInvalid' | 'ConfigMissing', message: string, hint: string | null) {
    super(code, message, hint);
  }
}
