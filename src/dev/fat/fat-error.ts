import { OffsiteError } from '../../domain/errors.ts';

/** What was asked for does not fit a FAT file system: a name, a size, or too much of both. */
export class FatError extends OffsiteError {
  constructor(message: string) {
    super('FatInvalid', message, 'Give the volume other files or another size.');
  }
}
