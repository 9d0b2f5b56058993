/** The catalog's own errors, and how PostgreSQL's become them. */
import { OffsiteError } from '../domain/errors.ts';

/** PostgreSQL does not answer, or does not let us in. Heals when the operator mends it. */
export class DatabaseUnreachableError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super(
      'DatabaseUnreachable',
      message,
      'Check that PostgreSQL runs, and database.url in the configuration.',
      options,
    );
  }
}

/** Another step holds rows that this one needs, for longer than it may wait. */
class DatabaseBusyError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super(
      'DatabaseBusy',
      message,
      'It is tried again by itself. If it stays, look for a worker process that is stopped, or storage that hangs.',
      options,
    );
  }
}

/** PostgreSQL itself has no room. Heals when there is some. */
class DatabaseFullError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super(
      'DatabaseFull',
      message,
      "Free space on the file system of PostgreSQL's data, or enlarge it; it is tried again by itself.",
      options,
    );
  }
}

/** A statement failed for a reason that the catalog does not foresee. */
export class CatalogError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super('CatalogFailed', message, "PostgreSQL's own log has the details.", options);
  }
}

/** A decision could not look at its files in the time for which it may hold rows. */
export class ImagesSilentError extends OffsiteError {
  constructor(limitMs: number) {
    super(
      'ImagesSilent',
      `the image files could not be looked at within ${limitMs / 1000} s`,
      'Check that the storage of the image folders answers.',
    );
  }
}

/** The tables are older than this program, and the worker's role may not change them. */
export class CatalogOutdatedError extends OffsiteError {
  constructor(lacking: readonly string[], options?: ErrorOptions) {
    super(
      'CatalogOutdated',
      `the catalog lacks ${lacking.join(', ')}, which this database role may not make`,
      'Run `offsite setup` with OFFSITE_DATABASE_OWNER_URL set to the connection of the role that owns the tables.',
      options,
    );
  }
}

/** The database role may not do what this step needs. */
class CatalogForbiddenError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super(
      'CatalogForbidden',
      message,
      'Run `offsite setup` with OFFSITE_DATABASE_OWNER_URL: it gives the role of database.url its rights.',
      options,
    );
  }
}

/** The caller broke the contract: trying again never helps. */
export class CatalogInputError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super('InvalidInput', message, null, options);
  }
}

/** Another live schedule has this name, or this host from this source. */
export class ScheduleConflictError extends OffsiteError {
  constructor(message: string, hint: string) {
    super('ScheduleConflict', message, hint);
  }
}

/** The schedule is paused: no session opens. Heals by resuming. */
export class SchedulePausedError extends OffsiteError {
  constructor(name: string) {
    super('SchedulePaused', `schedule ${name} is paused`, 'Resume the schedule.');
  }
}

/** A recovery point is published only when each of its disks is sealed. */
export class DisksNotSealedError extends OffsiteError {
  constructor(disks: readonly string[]) {
    super('DisksNotSealed', `not sealed yet: ${disks.join(', ')}`);
  }
}

/** A snapshot, or one that stands on it, is held by a lock. */
export class SnapshotLockedError extends OffsiteError {
  constructor(message: string, options?: ErrorOptions) {
    super(
      'SnapshotLocked',
      message,
      'The lock goes when its schedule moves on or is deleted; `offsite source locks` lists all locks.',
      options,
    );
  }
}

/** No snapshot, point or schedule of this name. */
export class NotInCatalogError extends OffsiteError {
  constructor(what: string, hint: string) {
    super('NotInCatalog', `${what} is not in the catalog`, hint);
  }
}

/** Another image of this disk waits to be compared with. */
export class SeedWaitingError extends OffsiteError {
  constructor(host: string, disk: string, path: string) {
    super(
      'SeedWaiting',
      `another image of ${host} ${disk} waits to be compared with: ${path}`,
      `Forget that one first: \`offsite replica unseed ${host} ${disk}\`.`,
    );
  }
}

/** The file at a path is another one than the catalog registered there. */
export class ImageReplacedError extends OffsiteError {
  constructor(path: string, snapshot: string) {
    super(
      'ImageReplaced',
      `${path} is not the file that snapshot ${snapshot} registered there`,
      `Bring the old file back, give the new one another path, or run \`offsite source forget ${snapshot}\` (not while it is locked) and import again.`,
    );
  }
}

/** A snapshot cannot be taken out of the catalog by hand. */
export class NotForgettableError extends OffsiteError {
  constructor(message: string, hint: string) {
    super('NotForgettable', message, hint);
  }
}

/** The SQLSTATE that the trigger of migration 0002 raises. */
export const LOCKED_SQLSTATE = 'OS001';

const NETWORK_CODES = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'ETIMEDOUT', 'EPIPE', 'EAI_AGAIN']);
/** Not reachable, shutting down, not yet up, ended by a time-out, too many connections, wrong user, no database. */
const UNREACHABLE_SQLSTATE = /^(08...|57P0[1-5]|25P03|53300|28...|3D000)$/;
const LOCK_TIMED_OUT = '55P03';
const INSUFFICIENT_PRIVILEGE = '42501';
const DISK_FULL = '53100';
const LOST_CONNECTION =
  /connection (terminated|ended|timeout)|timeout expired|acquiring a connection|not queryable/i;

interface PostgresError extends Error {
  readonly code?: string;
  readonly constraint?: string;
  readonly errors?: readonly unknown[];
}

/** True for errors that trying again may heal because the server was away. */
export function isUnreachable(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code, errors, message } = error as PostgresError;
  if (code !== undefined && (NETWORK_CODES.has(code) || UNREACHABLE_SQLSTATE.test(code))) return true;
  // An AggregateError of all addresses of a host name.
  if (errors?.some(isUnreachable)) return true;
  return LOST_CONNECTION.test(message);
}

/** True when the role may not do it. Of the migrations' own lock knex hands on the words only. */
export const isForbidden = (error: unknown): boolean =>
  error instanceof Error &&
  ((error as PostgresError).code === INSUFFICIENT_PRIVILEGE || /permission denied for/.test(error.message));

/** True when PostgreSQL undid a transaction only because of another one at the same time. */
export const isTransient = (error: unknown): boolean =>
  error instanceof Error && ['40001', '40P01'].includes((error as PostgresError).code ?? '');

/** Turns what the driver throws into an {@link OffsiteError}; typed errors pass through. */
export function toCatalogError(error: unknown): OffsiteError {
  if (error instanceof OffsiteError) return error;
  if (isUnreachable(error)) {
    const { code, message } = error as PostgresError;
    return new DatabaseUnreachableError(`the catalog does not answer: ${message || code}`, { cause: error });
  }
  const { code, message, constraint } = error as PostgresError;
  // Knex puts the statement before the reason; an operator needs the reason.
  const reason = message.slice(message.lastIndexOf(' - ') + 1).replace(/^- /, '');
  if (code === LOCKED_SQLSTATE) return new SnapshotLockedError(reason, { cause: error });
  if (code === LOCK_TIMED_OUT) {
    return new DatabaseBusyError(`another step holds what this one needs: ${reason}`, { cause: error });
  }
  if (code === INSUFFICIENT_PRIVILEGE) {
    return new CatalogForbiddenError(`the catalog does not let this role: ${reason}`, { cause: error });
  }
  if (code === DISK_FULL) {
    return new DatabaseFullError(`the catalog's database has no room: ${reason}`, { cause: error });
  }
  // Class 22: data exception; class 23: integrity constraint violation.
  if (code?.startsWith('22') || code?.startsWith('23')) {
    const where = constraint === undefined ? '' : ` (${constraint})`;
    return new CatalogInputError(`the catalog refuses this: ${reason}${where}`, { cause: error });
  }
  return new CatalogError(`the catalog failed: ${reason}`, { cause: error });
}
